"""What the detection sees of one block: counts and read-outs both devices know, nothing else.

Nothing here says what an attacker did or what the channel is like. All of it may be shown to
an operator and none of it is key material.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Protocol(StrEnum):
    """How the pair makes its key; a baseline holds for one protocol only."""

    DECOY_BB84 = "decoy-bb84"
    BB84 = "bb84"
    CV = "cv"
    TWIN_FIELD = "twin-field"
    BBM92 = "bbm92"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One intensity of the sender. ``levels[0]`` of a block is the signal.

    ``sent`` and ``clicks`` count pulses of every basis. ``tested`` are sifted bits whose errors
    are known: those revealed, and those the error correction has settled.
    """

    name: str  # "signal", "decoy", "decoy2", "vacuum"; unique in a block
    mean_photons: float  # as configured, per pulse
    sent: int
    clicks: int
    tested_z: int
    errors_z: int
    tested_x: int
    errors_x: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Health read-outs of one end; the defaults are those of a calibrated device."""

    photocurrent: float = 1.0  # detector bias current, relative to calibration
    efficiency_check: float = 0.5  # clicks with the receiver's own 3 dB attenuator in / out
    input_power: float = 0.01  # at the input watchdog, in units of its alarm threshold
    source_power: float = 1.0  # monitor photodiode, relative to calibration
    temperature: float = 25.0  # degrees Celsius, inside
    sync_offset: float = 0.0  # ps, clock offset to the peer as tracked
    visibility: float = 1.0  # interferometer, 0..1
    shot_noise: float = 1.0  # CV: calibrated N0, relative; 1 elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Classical:
    """The authenticated channel between the devices during this block."""

    auth_failures: int = 0  # messages whose tag did not fit
    verification_failures: int = 0  # corrected blocks whose hashes differed
    retries: int = 0
    round_trip: float = 0.0  # s, mean
    stall: float = 0.0  # s, longest wait for the peer
    efficiency: float | None = None  # f of error correction: leaked / (n h2(QBER)); None: none ran
    unreachable: bool = False  # no answer for the device's own time-out


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomnessHealth:
    """SP 800-90B health tests (repetition, adaptive proportion) over settings and raw bits."""

    sender_ok: bool = True
    receiver_ok: bool = True
    # Ones among the sender's bits where the bases differed, in standard deviations from half.
    # There the receiver's outcome is independent of the bit, so an efficiency mismatch of its
    # detectors does not show, and a biased generator does.
    bias: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTelemetry:
    """One block of one link. A block in which nothing arrived has zero counts, not no telemetry."""

    block: int  # number, rising by one
    seconds: float  # duration
    pulses: int
    protocol: Protocol
    levels: tuple[Level, ...]  # empty for CV
    detector_clicks: tuple[int, int, int, int] = (0, 0, 0, 0)  # Z0 Z1 X0 X1; twin-field: C D 0 0
    double_clicks: int = 0
    arrival_mean: float = 0.0  # ps, from the gate's centre
    arrival_std: float = 0.0  # ps
    sender: Monitor = field(default_factory=Monitor)
    receiver: Monitor = field(default_factory=Monitor)
    classical: Classical = field(default_factory=Classical)
    randomness: RandomnessHealth = field(default_factory=RandomnessHealth)
    secret_bits: int | None = None  # bits distilled; None: the block waits for more before that
    secret_reason: str = ""  # why there are none, in the estimator's words
    samples: int = 0  # CV: symbols behind the two estimates below
    excess_noise: float | None = None  # CV: shot-noise units, at the channel's input
    transmittance: float | None = None  # CV: of the channel, 0..1
