"""Events reach everybody, alarms hold until cleared, and a slow reader delays nobody."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from gateway.daemon.bulletin import MONITOR_QUEUE, REPEAT_AFTER, Bulletin, timestamp
from gateway.model import Severity, StatusEvent

KEY_ID = "6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a01"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_alarm_is_raised_once_and_cleared_once() -> None:
    bulletin = Bulletin()
    seen: list[StatusEvent] = []
    bulletin.listen(seen.append)
    for _ in range(3):
        bulletin.raise_alarm("qkd-loss", Severity.WARNING, "sun", "no keys")
    assert [alarm.id for alarm in bulletin.alarms] == ["qkd-loss"]
    for _ in range(2):
        bulletin.clear_alarm("qkd-loss", "sun")
    assert bulletin.alarms == ()
    assert [event.type for event in seen] == ["alarm-raised", "alarm-cleared"]


def test_the_same_alarm_of_another_tunnel_is_another_one() -> None:
    bulletin = Bulletin()
    bulletin.raise_alarm("qkd-loss", Severity.WARNING, "sun", "no keys")
    bulletin.raise_alarm("qkd-loss", Severity.WARNING, "mars", "no keys")
    bulletin.clear_subject("mars")
    assert [alarm.subject for alarm in bulletin.alarms] == ["sun"]


async def test_a_reader_that_does_not_read_loses_events_and_holds_nothing_up() -> None:
    bulletin = Bulletin()
    events = bulletin.subscribe()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    for number in range(2 * MONITOR_QUEUE):
        bulletin.publish("test", str(number))
    assert (await first).text == "0"
    received = 1
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.05):
                await anext(events)
            received += 1
    assert received == MONITOR_QUEUE


def test_an_alarm_that_holds_follows_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    bulletin = Bulletin()
    bulletin.raise_alarm("tunnel-down", Severity.CRITICAL, "sun", "wrong pre-shared key")
    (first,) = bulletin.alarms
    for _ in range(3):
        bulletin.raise_alarm("tunnel-down", Severity.CRITICAL, "sun", "no proposal in common")
    (second,) = bulletin.alarms
    assert (second.text, second.since) == ("no proposal in common", first.since)
    assert len(warnings(caplog)) == 2


def test_what_fails_every_minute_is_logged_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    bulletin = Bulletin(lambda: now)
    seen: list[StatusEvent] = []
    bulletin.listen(seen.append)
    for minute in range(60):
        text = f"rekeying failed: QKD key {KEY_ID[:-2]}{minute:02d} differs"
        bulletin.publish("exchange-failed", text, tunnel="sun", level=logging.WARNING)
        bulletin.publish("exchange-failed", text, tunnel="mars", level=logging.WARNING)
        now += 60.0
    assert len(warnings(caplog)) == 2, "once per tunnel"
    assert len(seen) == 120, "the others get every event"
    now += REPEAT_AFTER
    bulletin.publish("exchange-failed", text, tunnel="sun", level=logging.WARNING)
    assert len(warnings(caplog)) == 3


def test_a_line_is_news_again_once_things_changed(caplog: pytest.LogCaptureFixture) -> None:
    bulletin = Bulletin()
    for _ in range(2):
        bulletin.raise_alarm("qkd-loss", Severity.WARNING, "sun", "no keys")
        bulletin.clear_alarm("qkd-loss", "sun")
    assert len(warnings(caplog)) == 2
    for _ in range(2):
        bulletin.publish("x", "it failed", tunnel="sun", level=logging.WARNING)
        bulletin.forget("sun")
    assert len(warnings(caplog)) == 4


def test_what_is_about_no_tunnel_is_always_logged(caplog: pytest.LogCaptureFixture) -> None:
    bulletin = Bulletin()
    for _ in range(2):
        bulletin.publish("reload-failed", "not reloaded", level=logging.ERROR)
    assert len(warnings(caplog)) == 2


def test_timestamps_are_rfc_3339_in_utc() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
