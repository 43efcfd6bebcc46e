"""Events reach everybody, alarms hold until cleared, and a slow reader delays nobody."""

from __future__ import annotations

import asyncio
import contextlib

from gateway.daemon.bulletin import MONITOR_QUEUE, Bulletin, timestamp
from gateway.model import Severity, StatusEvent


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


def test_timestamps_are_rfc_3339_in_utc() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
