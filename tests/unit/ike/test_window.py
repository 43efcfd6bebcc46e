"""Message IDs, repetition and the response cache."""

from __future__ import annotations

import pytest

from gateway.ike.limits import MESSAGE_ID_MAX
from gateway.ike.window import RequestWindow, ResponseWindow, Schedule

SCHEDULE = Schedule(base=1.0, factor=2.0, tries=3)


def test_schedule_grows():
    assert [SCHEDULE.wait(sent) for sent in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]


def test_request_is_repeated_bit_by_bit_and_then_given_up():
    window = RequestWindow()
    window.sent((b"one", b"two"))
    assert window.wait(SCHEDULE) == 1.0
    for wait in (2.0, 4.0, 8.0):
        assert window.repeat(SCHEDULE) == (b"one", b"two")
        assert window.wait(SCHEDULE) == wait
    assert window.repeat(SCHEDULE) is None


def test_one_request_at_a_time():
    window = RequestWindow()
    window.sent((b"one",))
    with pytest.raises(RuntimeError):
        window.sent((b"two",))


def test_message_ids_count_requests():
    window = RequestWindow()
    assert window.next_id == 0
    assert not window.answers(0)
    window.sent((b"one",))
    assert window.answers(0)
    assert not window.answers(1)
    window.answered()
    assert window.next_id == 1
    assert not window.busy
    assert not window.answers(0)
    assert window.repeat(SCHEDULE) is None


def test_retry_keeps_the_message_id():
    window = RequestWindow()
    window.sent((b"without cookie",))
    window.retry()
    assert window.next_id == 0
    window.sent((b"with cookie",))
    assert window.repeat(SCHEDULE) == (b"with cookie",)


def test_message_ids_do_not_wrap():
    window = RequestWindow()
    window._next_id = MESSAGE_ID_MAX - 1
    assert not window.exhausted
    window.sent((b"last",))
    window.answered()
    assert window.exhausted


def test_response_is_kept_for_the_last_request_only():
    window = ResponseWindow()
    assert window.cached(0) == ()
    window.received()
    assert window.pending
    window.answered((b"first",))
    assert not window.pending
    assert window.expected == 1
    assert window.cached(0) == (b"first",)
    window.received()
    window.answered((b"second",))
    assert window.cached(0) == ()
    assert window.cached(1) == (b"second",)
    assert window.cached(2) == ()
