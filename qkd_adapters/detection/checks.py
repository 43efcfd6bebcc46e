"""Deterministic checks: what physics or a device's own watchdog forbids, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qkd_adapters.detection.alarms import AlarmKind, Finding, Severity
from qkd_adapters.detection.baseline import Baseline
from qkd_adapters.detection.features import Receiver, is_dark, self_test_variance
from qkd_adapters.detection.telemetry import BlockTelemetry, Level, Protocol

PHOTOCURRENT_MAX = 3.0  # bright light drives it to 10 and far beyond
EFFICIENCY_OFF = 0.25  # 3 dB less light halves the clicks of a detector that counts; of a blinded
# one it leaves all or none
EFFICIENCY_SIGMAS = 7.0  # few clicks make the self-test noisy
SOURCE_POWER_OFF = 0.05  # relative; monitor photodiodes hold 1 %
SHOT_NOISE_OFF = 0.02  # relative; 2 % of N0 hides 0.02 SNU of excess noise
SYNC_OFFSET_MAX = 150.0  # ps; beyond it pulses leave a nanosecond gate
VISIBILITY_MIN = 0.75  # an error rate of 12.5 %, at which no protocol here leaves a key
TEMPERATURE_MAX = 40.0  # degrees C inside; field devices shut down there
STALL_MAX = 10.0  # s without an answer within a block
EFFICIENCY_MAX = 1.25  # f of the error correction
BIAS_MAX = 6.0  # standard deviations of the raw bits' balance
RNG_BACK = 20  # blocks; a small bias fails a health test only now and then
CUT = 0.03  # of the calibrated gain (15 dB): nothing of the signal is left
MAJOR_LOSS = 1.0  # dB
SIGNIFICANT = 5.0  # standard deviations by which a bound must be broken


def check(telemetry: BlockTelemetry, baseline: Baseline | None) -> Iterator[Finding]:
    """What is wrong with this block by itself; ``baseline`` None leaves out what needs one."""
    yield from _messages(telemetry)
    yield from _keys(telemetry)
    yield from _efficiency(telemetry, baseline)
    yield from _monitors(telemetry)
    yield from _randomness(telemetry)
    if baseline is not None and is_cut(telemetry, baseline):
        yield _finding(telemetry, AlarmKind.LOSS, "nothing arrives: fibre cut", Severity.CRITICAL)
    elif not telemetry.classical.unreachable:
        yield from _clocks(telemetry)
        yield from _single_photons(
            telemetry, 0.0 if baseline is None else baseline.receiver.dark_yield
        )


def is_cut(telemetry: BlockTelemetry, baseline: Baseline) -> bool:
    """Does next to no light of the sender arrive, as far as the two ends can tell?"""
    if telemetry.classical.unreachable:
        return False
    if telemetry.protocol is Protocol.CV:
        return (telemetry.transmittance or 0.0) < CUT * baseline.gain
    signal = telemetry.levels[0]
    dark = min(baseline.receiver.dark_yield, baseline.gain / 2)
    light = signal.clicks / signal.sent - dark if signal.sent else 0.0
    return light < CUT * (baseline.gain - dark)


def _finding(
    telemetry: BlockTelemetry,
    kind: AlarmKind,
    text: str,
    severity: Severity | None = None,
    back: int = 1,
) -> Finding:
    # Below its threshold the cause may have been at work in the block before.
    return Finding(kind=kind, text=text, severity=severity, since_block=telemetry.block - back)


def _messages(telemetry: BlockTelemetry) -> Iterator[Finding]:
    classical = telemetry.classical
    if classical.auth_failures:
        text = f"{classical.auth_failures} messages with a wrong tag: man in the middle"
        yield _finding(telemetry, AlarmKind.AUTH_FAILURE, text)
    if classical.unreachable:
        yield _finding(telemetry, AlarmKind.CLASSICAL_DOWN, "the peer device does not answer")
    elif classical.stall > STALL_MAX:
        text = f"the peer device answered after {classical.stall:.0f} s"
        yield _finding(telemetry, AlarmKind.CLASSICAL_DOWN, text, Severity.MINOR)


def _keys(telemetry: BlockTelemetry) -> Iterator[Finding]:
    classical = telemetry.classical
    if classical.verification_failures:
        yield _finding(
            telemetry, AlarmKind.KEY_MISMATCH, "corrected keys of both ends have different hashes"
        )
    if telemetry.secret_bits is not None and telemetry.secret_bits <= 0:
        reason = telemetry.secret_reason or "the bounds leave none"
        yield _finding(telemetry, AlarmKind.SECRET_ZERO, f"no secret bits: {reason}")
    if classical.efficiency is not None and classical.efficiency > EFFICIENCY_MAX:
        text = f"error correction leaks {classical.efficiency:.2f} times the Shannon limit"
        yield _finding(telemetry, AlarmKind.EC_INEFFICIENT, text)


def _efficiency(telemetry: BlockTelemetry, baseline: Baseline | None) -> Iterator[Finding]:
    if telemetry.protocol is Protocol.CV:
        return
    receiver = Receiver() if baseline is None else baseline.receiver
    noise = math.sqrt(self_test_variance(telemetry, receiver))
    allowed = max(EFFICIENCY_OFF, EFFICIENCY_SIGMAS * noise)
    ratio = telemetry.receiver.efficiency_check
    if abs(ratio - 0.5) > allowed:
        text = f"half the light gives {ratio:.2f} of the clicks, not 0.5"
        yield _finding(telemetry, AlarmKind.BLINDING, text)


def _monitors(telemetry: BlockTelemetry) -> Iterator[Finding]:
    sender, receiver = telemetry.sender, telemetry.receiver
    if receiver.photocurrent > PHOTOCURRENT_MAX:
        text = f"detector current {receiver.photocurrent:.0f} times normal: bright light"
        yield _finding(telemetry, AlarmKind.BLINDING, text)
    for end, monitor in (("sender", sender), ("receiver", receiver)):
        if monitor.input_power > 1.0:
            text = f"light enters the {end}: {monitor.input_power:.1f} of the watchdog's threshold"
            yield _finding(telemetry, AlarmKind.INPUT_POWER, text)
        if monitor.temperature > TEMPERATURE_MAX:
            text = f"{end} at {monitor.temperature:.1f} degrees Celsius"
            yield _finding(telemetry, AlarmKind.DEVICE, text)
    if abs(sender.source_power - 1) > SOURCE_POWER_OFF:
        text = f"source at {sender.source_power:.2f} of its calibrated power"
        yield _finding(telemetry, AlarmKind.SOURCE_POWER, text)
    if abs(receiver.shot_noise - 1) > SHOT_NOISE_OFF:
        text = f"shot noise at {receiver.shot_noise:.3f} of its calibration: local oscillator"
        yield _finding(telemetry, AlarmKind.SOURCE_POWER, text)


def _clocks(telemetry: BlockTelemetry) -> Iterator[Finding]:
    """What also goes when the light does, and is then no fault of its own."""
    receiver = telemetry.receiver
    if abs(receiver.sync_offset) > SYNC_OFFSET_MAX:
        text = f"clocks {receiver.sync_offset:.0f} ps apart: synchronisation lost"
        yield _finding(telemetry, AlarmKind.DEVICE, text)
    if receiver.visibility < VISIBILITY_MIN:
        text = f"visibility {receiver.visibility:.3f}"
        yield _finding(telemetry, AlarmKind.DEVICE, text)


def _randomness(telemetry: BlockTelemetry) -> Iterator[Finding]:
    health = telemetry.randomness
    for end, ok in (("sender", health.sender_ok), ("receiver", health.receiver_ok)):
        if not ok:
            text = f"the {end}'s random generator fails its health test"
            yield _finding(telemetry, AlarmKind.RNG_HEALTH, text, back=RNG_BACK)
    if abs(health.bias) > BIAS_MAX:
        text = f"raw bits {health.bias:+.1f} standard deviations off balance"
        yield _finding(telemetry, AlarmKind.RNG_HEALTH, text, back=RNG_BACK)


def _single_photons(telemetry: BlockTelemetry, dark_yield: float) -> Iterator[Finding]:
    """Is there a yield of single photons that explains the gains? A yield is a probability."""
    weak = next((level for level in telemetry.levels[1:] if not is_dark(level.mean_photons)), None)
    if weak is None or telemetry.protocol is not Protocol.DECOY_BB84:
        return
    value, sigma = single_photon_yield(telemetry.levels[0], weak, dark_yield)
    if value + SIGNIFICANT * sigma <= 0:
        text = "the gains leave no single photons: all of them may have been split"
        yield _finding(telemetry, AlarmKind.DECOY_RATIO, text)
    elif value - SIGNIFICANT * sigma > 1:
        text = "the gains ask for more than one click per single photon"
        yield _finding(telemetry, AlarmKind.UNEXPLAINED, text)


def single_photon_yield(signal: Level, weak: Level, dark_yield: float) -> tuple[float, float]:
    """Lower bound of Y1 and its standard deviation (Ma, Qi, Zhao, Lo 2005, weak decoy)."""
    mu, nu = signal.mean_photons, weak.mean_photons
    if not (mu > nu > 0 and signal.sent and weak.sent):
        return 0.0, math.inf
    scale = mu / (mu * nu - nu * nu)
    share = (nu / mu) ** 2
    strong_part = signal.clicks / signal.sent * math.exp(mu) * share
    weak_part = weak.clicks / weak.sent * math.exp(nu)
    value = scale * (weak_part - strong_part - (1 - share) * dark_yield)
    variance = weak_part**2 / max(weak.clicks, 1) + strong_part**2 / max(signal.clicks, 1)
    return value, scale * math.sqrt(variance)
