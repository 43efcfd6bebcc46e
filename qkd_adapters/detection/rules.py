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


def _rule(kind: AlarmKind, text: str, *needs: str, allows: str = "") -> Rule:
    wanted = tuple(_moves(need) for need in needs)
    return Rule(kind=kind, needs=wanted, allows=_moves(allows).union(*wanted), text=text)


RULES: tuple[Rule, ...] = (
    _rule(
        AlarmKind.BLINDING,
        "double clicks and errors or dark counts fall: detectors no longer count photons",
        "DOUBLES-",
        "QBER- VACUUM-",
        allows="GAP* RATIO* LOSS* BALANCE* BASIS* ARRIVAL* WIDTH* SPLIT*",
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
        allows="ARRIVAL* WIDTH* LOSS+ QBER* GAP* RATIO* DOUBLES* VACUUM*",
    ),
    _rule(
        AlarmKind.DARK_COUNTS,
        "more clicks without a pulse: light from outside or dark counts",
        "VACUUM+ GAP+ WIDTH+ DOUBLES+",
        "VACUUM+ QBER+ RATIO+",
        allows="QBER+ GAP+ RATIO+ LOSS- DOUBLES* WIDTH+ SPLIT*",
    ),
    _rule(
        AlarmKind.DETECTOR_SHIFT,
        "balance or timing of the detectors moved: time-shift or efficiency mismatch",
        "BALANCE* BASIS* ARRIVAL* WIDTH*",
        allows="LOSS* DOUBLES* VACUUM- QBER* SPLIT* GAP* RATIO*",
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
        allows="SPLIT* GAP* DOUBLES*",
    ),
    _rule(
        AlarmKind.LOSS,
        "gain down, nothing else: tap or bend",
        "LOSS+",
        allows="DOUBLES* GAP*",
    ),
    _rule(
        AlarmKind.SOURCE_POWER,
        "gain up, nothing else: the source is brighter than its monitor says",
        "LOSS-",
        allows="DOUBLES*",
    ),
)

EXPLAINS: Mapping[AlarmKind, frozenset[Move]] = {
    AlarmKind.BLINDING: frozenset((group, sign) for group in Group for sign in (UP, DOWN)),
    AlarmKind.RNG_HEALTH: _moves("BALANCE* BASIS* SPLIT* QBER* DOUBLES*"),
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
