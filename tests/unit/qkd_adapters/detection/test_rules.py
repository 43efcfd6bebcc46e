from __future__ import annotations

import itertools

import pytest

from qkd_adapters.detection.alarms import CATALOGUE, AlarmKind
from qkd_adapters.detection.features import TOLERANCES, Group
from qkd_adapters.detection.rules import DOWN, RULES, UP, Move, classify, explained

PATTERNS: list[tuple[str, AlarmKind | None]] = [
    ("QBER+", AlarmKind.INTERCEPT),
    ("QBER+ SPLIT+", AlarmKind.INTERCEPT),
    ("EXCESS_NOISE+", AlarmKind.INTERCEPT),
    ("QBER+ LOSS+", AlarmKind.QBER_DEGRADED),
    ("QBER+ VACUUM+ GAP+ LOSS-", AlarmKind.DARK_COUNTS),
    ("QBER+ GAP+ RATIO+", AlarmKind.DARK_COUNTS),
    ("VACUUM+", AlarmKind.DARK_COUNTS),
    ("GAP+", AlarmKind.DARK_COUNTS),
    ("WIDTH+", AlarmKind.DETECTOR_SHIFT),
    ("WIDTH+ QBER+", AlarmKind.DARK_COUNTS),
    ("RATIO-", AlarmKind.DECOY_RATIO),
    ("RATIO- GAP+", AlarmKind.DECOY_RATIO),
    ("QBER- DOUBLES-", AlarmKind.BLINDING),
    ("DOUBLES- VACUUM- QBER- GAP- WIDTH-", AlarmKind.BLINDING),
    ("SELF_TEST+", AlarmKind.BLINDING),
    ("BALANCE+", AlarmKind.DETECTOR_SHIFT),
    ("BALANCE- LOSS+", AlarmKind.DETECTOR_SHIFT),
    ("WIDTH+ LOSS+", AlarmKind.DETECTOR_SHIFT),
    ("ARRIVAL+", AlarmKind.DETECTOR_SHIFT),
    ("ARRIVAL+ SYNC+", AlarmKind.DEVICE),
    ("TEMPERATURE+ VACUUM+ QBER+", AlarmKind.DEVICE),
    ("BITS+ BALANCE-", AlarmKind.RNG_HEALTH),
    ("BASIS+", AlarmKind.RNG_HEALTH),
    ("SOURCE+ LOSS-", AlarmKind.SOURCE_POWER),
    ("LOSS-", AlarmKind.SOURCE_POWER),
    ("SHOT_NOISE+ EXCESS_NOISE-", AlarmKind.SOURCE_POWER),
    ("LOSS+", AlarmKind.LOSS),
    ("LOSS+ DOUBLES-", AlarmKind.LOSS),
    ("DOUBLES+", None),
    ("SPLIT+", None),
    ("QBER+ RATIO- BALANCE+ SYNC- SOURCE+", None),
]


def moves(text: str) -> frozenset[Move]:
    return frozenset((Group[word[:-1]], UP if word[-1] == "+" else DOWN) for word in text.split())


@pytest.mark.parametrize(("pattern", "kind"), PATTERNS)
def test_a_pattern_has_its_cause(pattern: str, kind: AlarmKind | None) -> None:
    rule = classify(moves(pattern))
    assert (rule.kind if rule else None) is kind


def test_nothing_moved_is_nothing() -> None:
    assert classify(frozenset()) is None


def test_every_rule_can_fit() -> None:
    for rule in RULES:
        least = [frozenset(choice) for choice in itertools.product(*rule.needs)]
        assert any(classify(moved) is rule for moved in least), rule.text


def test_an_alarm_accounts_for_what_its_rules_allow_and_no_more() -> None:
    assert (Group.QBER, UP) in explained(AlarmKind.DARK_COUNTS)
    assert (Group.QBER, UP) not in explained(AlarmKind.LOSS)
    assert (Group.RATIO, DOWN) not in explained(AlarmKind.LOSS)
    assert explained(AlarmKind.AUTH_FAILURE) == frozenset()


def test_no_fault_hides_splitting_or_a_detector_that_moved() -> None:
    # Alarms without suspicion leave the keys good: they must not account for these.
    for kind, entry in CATALOGUE.items():
        if entry.secrecy:
            continue
        for move in ((Group.RATIO, DOWN), (Group.BALANCE, UP), (Group.BITS, UP)):
            assert move not in explained(kind), (kind, move)


def test_every_group_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(Group)
