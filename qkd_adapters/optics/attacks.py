"""Attacks on the optics, as what they change in the conditions of a link.

Each says in ``help`` what it does and in ``moves`` which read-outs it moves; everything else
stays. Parameters are checked: ValueError names the parameter and its range. Attacks on the
classical channel are not here, they are made on that channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar

from qkd_adapters.optics.conditions import CUT_DB, Conditions, compose
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.records import Protocol

PULSES = frozenset({Protocol.DECOY_BB84, Protocol.BB84})
COUNTING = frozenset({*PULSES, Protocol.BBM92, Protocol.TWIN_FIELD})
ALL = frozenset(Protocol)

DARK_DOUBLES_EVERY = 8.0  # K, avalanche diodes
MISALIGNMENT_PER_K = 2e-4
DRIFT_PER_K = 1.0  # ps


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """For a command line: a number with unit and range, a switch, or one of some words."""

    name: str
    help: str
    default: float | bool | str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    words: tuple[str, ...] = ()


def number(default: float, low: float, high: float, unit: str, text: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "unit": unit, "help": text})


def switch(text: str) -> Any:
    return field(default=False, metadata={"help": text})


def word(default: str, words: tuple[str, ...], text: str) -> Any:
    return field(default=default, metadata={"words": words, "help": text})


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What somebody does to a link, or what happens to it."""

    name: ClassVar[str] = ""
    help: ClassVar[str] = ""
    moves: ClassVar[tuple[str, ...]] = ()
    protocols: ClassVar[frozenset[Protocol]] = ALL
    benign: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(self.name, each, getattr(self, each.name))

    def effect(self, model: LinkModel) -> Conditions:
        """The deviation this attack makes by itself."""
        raise NotImplementedError

    def apply(self, model: LinkModel, conditions: Conditions) -> Conditions:
        """``conditions`` with this attack on top. Raises ValueError where it cannot be made."""
        if model.protocol not in self.protocols:
            raise ValueError(f"{self.name}: not against {model.protocol} links")
        return compose(conditions, self.effect(model))


def _check(attack: str, described: Field[Any], value: object) -> None:
    about = described.metadata
    where = f"{attack}: {described.name}"
    if "words" in about:
        if value not in about["words"]:
            raise ValueError(f"{where} is one of {', '.join(about['words'])}")
    elif "low" in about:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{where} is a number")
        if not about["low"] <= value <= about["high"]:
            span = f"{about['low']:g} to {about['high']:g}"
            raise ValueError(f"{where} is {span} {about['unit']}".rstrip())
    elif not isinstance(value, bool):
        raise ValueError(f"{where} is true or false")


@dataclass(frozen=True, kw_only=True)
class InterceptResend(Attack):
    name = "intercept-resend"
    help = "measure a share of the pulses in a random basis and send what was found"
    moves = ("QBER in both bases (+fraction/4)", "excess noise (CV, +2 fraction)")
    fraction: float = number(1.0, 0.0, 1.0, "", "share of the pulses")

    def effect(self, model: LinkModel) -> Conditions:
        if model.protocol is Protocol.CV:
            return Conditions(excess_noise=2.0 * self.fraction)
        return Conditions(intercept=self.fraction)


@dataclass(frozen=True, kw_only=True)
class PhotonNumberSplitting(Attack):
    name = "photon-number-splitting"
    help = "keep one photon of every multi-photon pulse, block single photons to hold the rate"
    moves = ("gain of the decoys against the signal's; nothing without decoys",)
    protocols = PULSES
    fraction: float = number(1.0, 0.0, 1.0, "", "share of the single photons blocked")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(pns=self.fraction)


@dataclass(frozen=True, kw_only=True)
class Blinding(Attack):
    name = "blinding"
    help = "bright light makes the detectors linear; they click when the eavesdropper wants"
    moves = ("QBER, double and dark clicks (down)", "photocurrent (up)", "efficiency check")
    protocols = PULSES | {Protocol.BBM92}
    photocurrent: float = number(50.0, 1.0, 1000.0, "x normal", "bias current of the detectors")
    efficiency_check: float = number(
        1.0, 0.0, 1.0, "", "click ratio with the receiver's attenuator in; 0.5 would be normal"
    )

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(
            blinded=True, photocurrent=self.photocurrent, efficiency_check=self.efficiency_check
        )


@dataclass(frozen=True, kw_only=True)
class TimeShift(Attack):
    name = "time-shift"
    help = "move pulses in the gate to where one detector is more efficient than the other"
    moves = ("detector balance, arrival time, gain", "alternating: width of arrival, gain")
    protocols = PULSES
    ratio: float = number(1.6, 1.0, 20.0, "", "efficiency of detector 0 to detector 1")
    shift_ps: float = number(150.0, 0.0, 2000.0, "ps", "how far pulses are moved")
    kept: float = number(0.9, 0.01, 1.0, "", "share of the detections that is left")
    alternating: bool = switch("shift at random to either side, so that the balance holds")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        if self.alternating:
            return Conditions(arrival_split_ps=self.shift_ps, gain_factor=self.kept)
        return Conditions(
            efficiency_ratio=self.ratio, arrival_shift_ps=self.shift_ps, gain_factor=self.kept
        )


@dataclass(frozen=True, kw_only=True)
class TrojanHorse(Attack):
    name = "trojan-horse"
    help = "send bright light into the sender and read its settings from the reflection"
    moves = ("input power at Alice",)
    power: float = number(3.0, 0.0, 1000.0, "alarm thresholds", "light at the input watchdog")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(input_power=self.power)


@dataclass(frozen=True, kw_only=True)
class SourcePower(Attack):
    name = "source-power"
    help = "make the laser brighter, by seeding it or by damaging the attenuator before the tap"
    moves = ("all gains", "source power")
    factor: float = number(1.5, 0.1, 20.0, "x", "of the mean photon numbers")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(mu_factor=self.factor, source_power=self.factor)


@dataclass(frozen=True, kw_only=True)
class Tap(Attack):
    name = "tap"
    help = "split light off the fibre, or bend it"
    moves = ("gain",)
    db: float = number(0.5, 0.0, 60.0, "dB", "light taken")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(loss_db=self.db)


@dataclass(frozen=True, kw_only=True)
class FibreCut(Attack):
    name = "cut"
    help = "cut the fibre"
    moves = ("gain (dark counts are left)", "QBER (one half)", "synchronisation", "visibility")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(loss_db=CUT_DB, sync_lost=True)


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    name = "noise"
    help = "shine weak light into the channel"
    moves = ("dark yield, QBER, gain, double clicks (up)", "excess noise (CV)")
    photons: float = number(1e-3, 0.0, 1.0, "per gate", "detected, or SNU against CV")

    def effect(self, model: LinkModel) -> Conditions:
        if model.protocol is Protocol.CV:
            return Conditions(excess_noise=self.photons)
        return Conditions(y0_add=self.photons)


@dataclass(frozen=True, kw_only=True)
class DarkCounts(Attack):
    name = "dark-counts"
    help = "detectors age or warm up"
    moves = ("dark yield, QBER (up)",)
    protocols = COUNTING
    benign = True
    factor: float = number(10.0, 1.0, 1e4, "x", "of the dark count rate")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(y0_factor=self.factor)


_ENDS = ("alice", "bob")


@dataclass(frozen=True, kw_only=True)
class RngBias(Attack):
    name = "rng-bias"
    help = "a random generator prefers one value"
    moves = ("Alice: bits, detector balance", "Bob: share of the bases")
    protocols = PULSES
    bias: float = number(0.05, 0.0, 0.5, "", "probability of 0 (Bob: of Z) above what it should be")
    end: str = word("alice", _ENDS, "whose generator")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        if self.end == "bob":
            return Conditions(basis_bias=self.bias)
        return Conditions(bit_bias=self.bias)


@dataclass(frozen=True, kw_only=True)
class RngStuck(Attack):
    name = "rng-stuck"
    help = "a random generator gives the same value always"
    moves = ("Alice: bits, detector balance", "Bob: share of the bases")
    protocols = PULSES
    end: str = word("alice", _ENDS, "whose generator")

    def effect(self, model: LinkModel) -> Conditions:
        if self.end == "bob":
            return Conditions(basis_bias=1.0 - model.p_z)
        return Conditions(bit_bias=0.5)


@dataclass(frozen=True, kw_only=True)
class ClockDrift(Attack):
    name = "clock-drift"
    help = "the receiver's clock runs away from the sender's; pulses miss their gate"
    moves = ("clock offset, arrival time", "gain (down), QBER (up)")
    offset_ps: float = number(200.0, -5000.0, 5000.0, "ps", "of the receiver's clock")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(sync_offset_ps=self.offset_ps)


@dataclass(frozen=True, kw_only=True)
class Temperature(Attack):
    name = "temperature"
    help = "the air conditioning fails"
    moves = ("temperature", "dark yield", "visibility, QBER (a little)")
    benign = True
    kelvin: float = number(8.0, -30.0, 40.0, "K", "warmer than at calibration")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(
            temperature=self.kelvin,
            y0_factor=2.0 ** (self.kelvin / DARK_DOUBLES_EVERY),
            ed_add=MISALIGNMENT_PER_K * abs(self.kelvin),
            sync_offset_ps=DRIFT_PER_K * self.kelvin,
        )


@dataclass(frozen=True, kw_only=True)
class LocalOscillator(Attack):
    name = "local-oscillator"
    help = "make the receiver take the shot noise for larger than it is, to hide excess noise"
    moves = ("shot noise",)
    protocols = frozenset({Protocol.CV})
    factor: float = number(1.05, 0.5, 2.0, "x", "shot noise taken for true over the true one")

    def effect(self, model: LinkModel) -> Conditions:  # noqa: ARG002
        return Conditions(shot_noise=self.factor)


ATTACKS: Mapping[str, type[Attack]] = {
    kind.name: kind
    for kind in (
        InterceptResend,
        PhotonNumberSplitting,
        Blinding,
        TimeShift,
        TrojanHorse,
        SourcePower,
        Tap,
        FibreCut,
        Noise,
        DarkCounts,
        RngBias,
        RngStuck,
        ClockDrift,
        Temperature,
        LocalOscillator,
    )
}


def attack(name: str, **parameters: float | bool | str) -> Attack:
    """Raises ValueError for an unknown attack or parameter, or one out of range."""
    kind = ATTACKS.get(name)
    if kind is None:
        raise ValueError(f"no attack {name!r}; there are {', '.join(ATTACKS)}")
    known = [each.name for each in parameters_of(name)]
    for given in parameters:
        if given not in known:
            has = f"has {', '.join(known)}" if known else "has no parameters"
            raise ValueError(f"{name}: no parameter {given!r}; it {has}")
    return kind(**parameters)


def parse(name: str, words: Sequence[str]) -> Attack:
    """From words such as ``fraction=0.05``, as typed. Raises ValueError."""
    given: dict[str, float | bool | str] = {}
    kinds = {each.name: each for each in parameters_of(name)} if name in ATTACKS else {}
    for text in words:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not NAME=VALUE")
        given[key] = _value(name, kinds.get(key), key, value)
    return attack(name, **given)


def _value(name: str, kind: Parameter | None, key: str, text: str) -> float | bool | str:
    if kind is None or kind.words:
        return text
    if isinstance(kind.default, bool):
        try:
            return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
        except KeyError:
            raise ValueError(f"{name}: {key} is true or false") from None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: {key} is a number") from None


def parameters_of(name: str) -> tuple[Parameter, ...]:
    """What an attack can be told. Raises KeyError for an unknown attack."""
    return tuple(
        Parameter(name=each.name, default=each.default, **each.metadata)
        for each in fields(ATTACKS[name])
        if each.default is not MISSING
    )
