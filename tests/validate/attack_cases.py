"""Every attack at several strengths, and the one alarm each link must raise for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from qkd_adapters.detection.alarms import AlarmKind
from qkd_adapters.detection.telemetry import BlockTelemetry, Classical
from qkd_adapters.optics.attacks import Attack, attack
from qkd_adapters.optics.presets import preset
from tests.validate.attack_links import LINKS

Value = float | bool | str
Edit = Callable[[BlockTelemetry], BlockTelemetry]


def _forged(telemetry: BlockTelemetry) -> BlockTelemetry:
    return replace(telemetry, classical=Classical(auth_failures=1))


def _silent(telemetry: BlockTelemetry) -> BlockTelemetry:
    """Without the classical channel no click gets an intensity or a basis."""
    levels = tuple(
        replace(level, clicks=0, tested_z=0, errors_z=0, tested_x=0, errors_x=0)
        for level in telemetry.levels
    )
    return replace(telemetry, levels=levels, classical=Classical(unreachable=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack at one strength on one link. ``expected`` None: it cannot be seen there."""

    title: str
    strength: str
    link: str
    expected: AlarmKind | None
    optics: Attack | None = None
    edit: Edit | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    title: str
    attack: str
    strengths: tuple[tuple[str, dict[str, Value]], ...]
    expected: AlarmKind
    links: tuple[str, ...] = tuple(LINKS)
    otherwise: Mapping[str, AlarmKind | None] = field(default_factory=dict)  # by link


def _by(parameter: str, unit: str, *values: float) -> tuple[tuple[str, dict[str, Value]], ...]:
    scale = 100 if unit == "%" else 1
    return tuple((f"{value * scale:g} {unit}".rstrip(), {parameter: value}) for value in values)


QUIET_BLINDING: dict[str, Value] = {"photocurrent": 1.0, "efficiency_check": 0.5}

# Where dark counts are a share of the clicks that shows. Coincidences of pairs hide them.
DARK_COUNTING = ("2 decoys", "1 decoy", "no decoys")

ROWS = (
    _Row(
        title="intercept-resend",
        attack="intercept-resend",
        strengths=_by("fraction", "%", 0.01, 0.02, 0.05, 0.1, 1.0),
        expected=AlarmKind.INTERCEPT,
    ),
    _Row(
        title="photon-number splitting",
        attack="photon-number-splitting",
        strengths=_by("fraction", "%", 0.05, 0.2, 1.0),
        expected=AlarmKind.DECOY_RATIO,
        otherwise={"no decoys": None},
    ),
    _Row(
        title="blinding",
        attack="blinding",
        strengths=(("plain", {}), ("monitors deceived", QUIET_BLINDING)),
        expected=AlarmKind.BLINDING,
    ),
    _Row(
        title="time-shift",
        attack="time-shift",
        strengths=(
            ("efficiency 1:1.05, 20 ps", {"ratio": 1.05, "shift_ps": 20.0, "kept": 0.99}),
            ("efficiency 1:1.6, 150 ps", {}),
            ("alternating, 60 ps", {"alternating": True, "shift_ps": 60.0, "kept": 0.95}),
        ),
        expected=AlarmKind.DETECTOR_SHIFT,
    ),
    _Row(
        title="Trojan horse",
        attack="trojan-horse",
        strengths=_by("power", "x threshold", 3.0),
        expected=AlarmKind.INPUT_POWER,
    ),
    _Row(
        title="source power",
        attack="source-power",
        strengths=_by("factor", "x", 1.03, 1.1, 1.5),
        expected=AlarmKind.SOURCE_POWER,
    ),
    _Row(
        title="tap",
        attack="tap",
        strengths=_by("db", "dB", 0.1, 0.5, 3.0),
        expected=AlarmKind.LOSS,
    ),
    _Row(
        title="fibre cut",
        attack="cut",
        strengths=(("", {}),),
        expected=AlarmKind.LOSS,
    ),
    _Row(
        title="noise injection",
        attack="noise",
        strengths=_by("photons", "per gate", 1e-5, 1e-4, 1e-3),
        expected=AlarmKind.DARK_COUNTS,
        links=DARK_COUNTING,
    ),
    _Row(
        title="noise injection",
        attack="noise",
        strengths=(("0.05 SNU", {"photons": 0.05}),),
        expected=AlarmKind.INTERCEPT,
        links=("CV",),
    ),
    _Row(
        title="local oscillator",
        attack="local-oscillator",
        strengths=_by("factor", "x", 1.01, 1.05),
        expected=AlarmKind.SOURCE_POWER,
    ),
    _Row(
        title="dark-count rise",
        attack="dark-counts",
        strengths=_by("factor", "x", 2.0, 10.0),
        expected=AlarmKind.DARK_COUNTS,
        links=DARK_COUNTING,
    ),
    _Row(
        title="random generator biased, sender",
        attack="rng-bias",
        strengths=_by("bias", "%", 0.02, 0.05),
        expected=AlarmKind.RNG_HEALTH,
    ),
    _Row(
        title="random generator biased, receiver",
        attack="rng-bias",
        strengths=(("5 %", {"bias": 0.05, "end": "bob"}),),
        expected=AlarmKind.RNG_HEALTH,
    ),
    _Row(
        title="random generator stuck",
        attack="rng-stuck",
        strengths=(("sender", {}), ("receiver", {"end": "bob"})),
        expected=AlarmKind.RNG_HEALTH,
    ),
    _Row(
        title="clock drift",
        attack="clock-drift",
        strengths=_by("offset_ps", "ps", 20.0, 100.0, 400.0),
        expected=AlarmKind.DEVICE,
    ),
    _Row(
        title="temperature",
        attack="temperature",
        strengths=_by("kelvin", "K", 8.0, 20.0),
        expected=AlarmKind.DEVICE,
    ),
)


def cases() -> Iterator[Case]:
    for row in ROWS:
        for strength, parameters in row.strengths:
            optics = attack(row.attack, **parameters)
            for link in row.links:
                if preset(LINKS[link]).protocol in optics.protocols:
                    yield Case(
                        title=row.title,
                        strength=strength,
                        link=link,
                        expected=row.otherwise.get(link, row.expected),
                        optics=optics,
                    )
    for link in LINKS:
        yield Case(
            title="man in the middle, classical channel",
            strength="1 message",
            link=link,
            expected=AlarmKind.AUTH_FAILURE,
            edit=_forged,
        )
        yield Case(
            title="denial of service, classical channel",
            strength="",
            link=link,
            expected=AlarmKind.CLASSICAL_DOWN,
            edit=_silent,
        )
