"""Which pattern of moved features means what: the rules that name a likely cause.

A rule looks at groups of features that have moved, each up, down or either way. It fits when
all it needs has moved and everything that has moved is something the cause moves, too. The
first rule that fits names the alarm; what none fits is an alarm of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qkd_adapters.detection.alarms import AlarmKind
from qkd_adapters.detection.features import Group

Move = tuple[Group, int]  # a group and the sign of its change

UP, DOWN = 1, -1


def _moves(text: str) -> frozenset[Move]:
    """``"QBER+ LOSS- BALANCE*"`` as moves; ``*`` is either way."""
    signs = {"+": (UP,), "-": (DOWN,), "*": (UP, DOWN)}
    return frozenset((Group[word[:-1]], sign) for word in text.split() for sign in signs[word[-1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``needs``: of each of these sets at least one; ``allows``: may have moved as well."""

    kind: AlarmKind
    needs: tuple[frozenset[Move], ...]
    allows: frozenset[Move]
    text: str
    patience: int  # blocks to wait whether more moves, where nothing is lost by waiting


def _rule(kind: AlarmKind, text: str, *needs: str, allows: str = "", patience: int = 0) -> Rule:
    wanted = tuple(_moves(need) for need in needs)
    allowed = _moves(allows).union(*wanted)
    return Rule(kind=kind, needs=wanted, allows=allowed, text=text, patience=patience)


BESIDES_TIMING = "WIDTH* BASIS* LOSS* DOUBLES* VACUUM- QBER* SPLIT* GAP* RATIO*"

RULES: tuple[Rule, ...] = (
    _rule(
        AlarmKind.BLINDING,
        "errors or dark counts fall, double clicks with them: detectors no longer count photons",
        "QBER- VACUUM-",
        "DOUBLES- WIDTH-",
        allows="GAP* RATIO* LOSS* BALANCE* BASIS* ARRIVAL* WIDTH* SPLIT*",
    ),
    _rule(
        AlarmKind.BLINDING,
        "errors fall and nothing was realigned: detectors no longer count photons",
        "QBER-",
        allows="GAP* SPLIT* DOUBLES*",
    ),
    _rule(
        AlarmKind.BLINDING,
        "the efficiency self-test moved: detectors do not count photons alone",
        "SELF_TEST*",
        allows="QBER* VACUUM* DOUBLES* GAP* RATIO* LOSS* BALANCE* BASIS* ARRIVAL* WIDTH*",
    ),
    _rule(
        AlarmKind.SOURCE_POWER,
        "source power moved",
        "SOURCE*",
        allows="LOSS* RATIO* QBER* GAP* DOUBLES* EXCESS_NOISE* WIDTH*",
    ),
    _rule(
        AlarmKind.SOURCE_POWER,
        "shot noise moved: local oscillator or its calibration",
        "SHOT_NOISE*",
        allows="EXCESS_NOISE* LOSS*",
    ),
    _rule(
        AlarmKind.DEVICE,
        "clocks drift apart",
        "SYNC*",
        # With most of the light gone the self-test measures what is not light.
        allows="ARRIVAL* WIDTH* LOSS+ QBER* GAP* RATIO+ DOUBLES* VACUUM* SELF_TEST*",
    ),
    _rule(
        AlarmKind.DEVICE,
        "the receiver is warmer or colder than it was",
        "TEMPERATURE*",
        allows="VACUUM* QBER* GAP* RATIO+ DOUBLES* WIDTH* SYNC* ARRIVAL* SPLIT* LOSS- "
        "EXCESS_NOISE*",
    ),
    _rule(
        AlarmKind.RNG_HEALTH,
        "the sender's bits are no longer balanced",
        "BITS*",
        allows="BALANCE* BASIS* SPLIT* DOUBLES*",
    ),
    _rule(
        AlarmKind.RNG_HEALTH,
        "the share of the bases moved: a biased generator, or one basis detects less",
        "BASIS*",
        allows="SPLIT* DOUBLES* QBER*",
    ),
    _rule(
        AlarmKind.DARK_COUNTS,
        "more clicks without a pulse: light from outside or dark counts",
        "VACUUM+ GAP+ WIDTH+",
        "VACUUM+ GAP+ QBER+ RATIO+ LOSS-",
        allows="QBER+ GAP+ RATIO+ DOUBLES* WIDTH+ SPLIT*",
    ),
    _rule(
        AlarmKind.DETECTOR_SHIFT,
        "balance or timing of the detectors moved: time-shift or efficiency mismatch",
        "BALANCE* ARRIVAL*",
        allows=BESIDES_TIMING,
    ),
    _rule(
        AlarmKind.DETECTOR_SHIFT,
        "arrivals spread and gain down: time-shift to either side",
        "WIDTH+",
        "LOSS+",
        allows=BESIDES_TIMING,
    ),
    _rule(
        AlarmKind.DETECTOR_SHIFT,
        "arrivals spread: time-shift to either side",
        "WIDTH*",
        allows=BESIDES_TIMING,
        patience=6,  # noise spreads them, too, and then shows in the errors
    ),
    _rule(
        AlarmKind.DECOY_RATIO,
        "weak pulses are lost more than strong ones: photon-number splitting",
        "RATIO-",
        allows="GAP* QBER* LOSS* DOUBLES* VACUUM*",
    ),
    _rule(
        AlarmKind.INTERCEPT,
        "errors up, gain kept: intercept-resend",
        "QBER+ EXCESS_NOISE+",
        allows="SPLIT* GAP* DOUBLES*",
    ),
    _rule(
        AlarmKind.QBER_DEGRADED,
        "errors up and gain down: the fibre was moved, alignment is worse",
        "QBER+ EXCESS_NOISE+",
        "LOSS+",
        allows="SPLIT* GAP* DOUBLES* VACUUM+",
        patience=3,
    ),
    _rule(
        AlarmKind.LOSS,
        "gain down, nothing else: tap or bend",
        "LOSS+",
        # Fewer clicks, less dead time: the dark share rises. Errors fall where the calibration
        # saw loss come with errors, as in wind, and this loss comes without.
        allows="DOUBLES* GAP* RATIO+ VACUUM+ QBER-",
        patience=6,
    ),
    _rule(
        AlarmKind.SOURCE_POWER,
        "gain up, nothing else: the source is brighter than its monitor says",
        "LOSS-",
        allows="DOUBLES* VACUUM-",
        patience=6,
    ),
)

EXPLAINS: Mapping[AlarmKind, frozenset[Move]] = {
    AlarmKind.BLINDING: frozenset((group, sign) for group in Group for sign in (UP, DOWN)),
    AlarmKind.RNG_HEALTH: _moves("BITS* BALANCE* BASIS* SPLIT* QBER* DOUBLES* LOSS*"),
    AlarmKind.INPUT_POWER: _moves("VACUUM+ DOUBLES+ QBER+ GAP+ RATIO+ LOSS- WIDTH+"),
}
"""What alarms of the deterministic checks, which no rule stands for, move besides."""


def classify(moved: frozenset[Move]) -> Rule | None:
    """The first rule that fits."""
    for rule in RULES:
        if moved <= rule.allows and all(moved & need for need in rule.needs):
            return rule
    return None


def explained(kind: AlarmKind) -> frozenset[Move]:
    """All that an alarm of this kind accounts for while it stands."""
    ruled = (rule.allows for rule in RULES if rule.kind is kind)
    return EXPLAINS.get(kind, frozenset()).union(*ruled)
