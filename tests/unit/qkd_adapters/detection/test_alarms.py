from __future__ import annotations

import pytest

from qkd_adapters.detection.alarms import (
    CATALOGUE,
    Alarm,
    AlarmBook,
    AlarmKind,
    Changes,
    Finding,
    Severity,
)


def finding(kind: AlarmKind = AlarmKind.INTERCEPT, since: int = 0, **more: object) -> Finding:
    return Finding(kind=kind, text=f"{kind.name} found", since_block=since, **more)  # type: ignore[arg-type]


def kinds(alarms: tuple[Alarm, ...]) -> list[AlarmKind]:
    return [alarm.kind for alarm in alarms]


def quiet(book: AlarmBook, blocks: range) -> list[Changes]:
    return [book.update(block, ()) for block in blocks]


def test_the_catalogue_is_complete() -> None:
    assert set(CATALOGUE) == set(AlarmKind)
    for kind, entry in CATALOGUE.items():
        assert kind.startswith("QKD-")
        assert entry.secrecy <= kind.startswith("QKD-SEC-")
        assert entry.cause


def test_an_alarm_is_raised_once_and_cleared_once() -> None:
    book = AlarmBook()
    assert kinds(book.update(0, [finding()]).raised) == [AlarmKind.INTERCEPT]
    assert book.update(1, [finding()]).raised == ()
    after = CATALOGUE[AlarmKind.INTERCEPT].clear_after
    changes = quiet(book, range(2, 2 + after))
    assert [len(change.cleared) for change in changes] == [0] * (after - 1) + [1]
    assert book.active == ()


def test_a_good_spell_that_is_too_short_clears_nothing() -> None:
    book = AlarmBook()
    book.update(0, [finding()])
    after = CATALOGUE[AlarmKind.INTERCEPT].clear_after
    for start in range(1, 200, after):
        quiet(book, range(start, start + after - 1))
        assert book.update(start + after - 1, [finding()]).raised == ()
    assert kinds(book.active) == [AlarmKind.INTERCEPT]


@pytest.mark.parametrize("kind", [AlarmKind.SECRET_ZERO, AlarmKind.KEY_MISMATCH])
def test_some_are_raised_only_after_several_blocks_in_a_row(kind: AlarmKind) -> None:
    book = AlarmBook()
    after = CATALOGUE[kind].raise_after
    assert after > 1
    for block in range(after - 1):
        assert book.update(block, [finding(kind)]).raised == ()
    book.update(after - 1, ())  # not in a row
    for block in range(after, 2 * after - 1):
        assert book.update(block, [finding(kind)]).raised == ()
    assert kinds(book.update(2 * after - 1, [finding(kind)]).raised) == [kind]


def test_severity_may_change_while_it_stands() -> None:
    book = AlarmBook()
    book.update(0, [finding(AlarmKind.LOSS, severity=Severity.MINOR)])
    changes = book.update(1, [finding(AlarmKind.LOSS, severity=Severity.CRITICAL)])
    assert not changes.raised
    assert [alarm.severity for alarm in changes.changed] == [Severity.CRITICAL]


def test_two_findings_of_a_kind_are_one_alarm() -> None:
    book = AlarmBook()
    changes = book.update(
        9,
        [
            finding(AlarmKind.LOSS, 7, severity=Severity.MINOR),
            finding(AlarmKind.LOSS, 5, severity=Severity.CRITICAL),
        ],
    )
    (alarm,) = changes.raised
    assert alarm.severity is Severity.CRITICAL
    assert alarm.since_block == 5


def test_its_start_is_never_set_later() -> None:
    book = AlarmBook()
    book.update(10, [finding(since=8)])
    book.update(11, [finding(since=11)])
    assert book.active[0].since_block == 8
    book.update(12, [finding(since=3)])
    assert book.active[0].since_block == 3


def test_the_gravest_comes_first() -> None:
    book = AlarmBook()
    book.update(0, [finding(AlarmKind.EC_INEFFICIENT)] * 1)
    book.update(0, [finding(AlarmKind.DEVICE), finding(AlarmKind.INTERCEPT)])
    assert kinds(book.active)[0] is AlarmKind.INTERCEPT


def test_an_alarm_reads_as_one_line() -> None:
    book = AlarmBook()
    book.update(0, [finding()])
    assert str(book.active[0]) == "QKD-SEC-021 QberShiftIntercept: INTERCEPT found"
