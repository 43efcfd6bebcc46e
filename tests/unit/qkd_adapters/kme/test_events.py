"""The event stream of a KME: what changes is told at once, to who may know, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from qkd_adapters.kme import events
from tests.support.kme_lab import SITES, KmeLab, eventually


class Reader:
    """One event stream, read as plain HTTP."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Any:
        data = await self.response.content.readline()
        if not data:
            raise EOFError
        assert data.startswith(b"data: ")
        assert await self.response.content.readline() == b"\n"
        return msgspec.json.decode(data[6:])

    async def until(self, state: str) -> Any:
        while (event := await self.next())["state"] != state:
            pass
        return event


@asynccontextmanager
async def stream(lab: KmeLab, sae: str, path: str) -> AsyncIterator[Reader]:
    connector = aiohttp.TCPConnector(ssl=lab.client_context(sae), force_close=True)
    url = f"{lab.url(SITES.get(sae, 'kme-moon'))}{path}"
    async with (
        asyncio.timeout(10.0),
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url) as response,
    ):
        yield Reader(response)


def open_streams(lab: KmeLab, sae: str) -> int:
    return lab.kmes[SITES[sae]].events.count(sae)


async def advertised(lab: KmeLab, sae: str, peer: str) -> str:
    status = await lab.get(sae, f"{peer}/status")
    path = status.json["status_extension"]["qsgw_link"]["events"]
    assert isinstance(path, str)
    return path


async def test_the_stream_begins_with_what_the_status_says_and_tells_every_change(
    lab: KmeLab,
) -> None:
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "down")
    async with stream(lab, "moon", await advertised(lab, "moon", "sun")) as reader:
        assert reader.response.status == 200
        assert reader.response.content_type == "text/event-stream"
        status = await lab.get("moon", "sun/status")
        first = await reader.next()
        elapsed = first.pop("elapsed")
        assert first == status.json["status_extension"]["qsgw_link"]
        assert 0.0 <= elapsed < 5.0
        lab.source.heal()
        assert (await reader.until("up"))["suspect_age"] is None
        lab.source.suspect("error rate 8.1 %", since=30.0)
        event = await reader.until("suspect")
        assert event["alarms"] == ["error rate 8.1 %"]
        assert 30.0 <= event["suspect_age"] < 40.0
        assert event["elapsed"] >= elapsed
        lab.source.clear()
        assert (await reader.until("up"))["alarms"] == []


async def test_a_suspicion_that_comes_and_goes_at_once_is_told(lab: KmeLab) -> None:
    lab.source.heal()
    await lab.filled()
    async with stream(lab, "moon", "/qsgw/v1/events/sun") as reader:
        await reader.next()
        lab.source.suspect("a flash")
        lab.source.clear()
        assert (await reader.until("suspect"))["alarms"] == ["a flash"]
        await reader.until("up")


async def test_quarantined_keys_show_and_are_those_of_the_pair(lab: KmeLab) -> None:
    """Moon shares 8 keys each way with sun; what mars had to lose is not sun's affair."""
    async with stream(lab, "moon", "/qsgw/v1/events/sun") as reader:
        assert (await reader.next())["quarantined"] == 0
        lab.source.suspect("error rate 8.1 %", since=3600.0)
        while (event := await reader.next())["quarantined"] == 0:
            pass
        assert event["quarantined"] == 16


async def test_heartbeats_come_while_nothing_changes(
    lab: KmeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.01)
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "down")
    async with stream(lab, "moon", "/qsgw/v1/events/sun") as reader:
        seen = [await reader.next() for _ in range(4)]
    elapsed = [event.pop("elapsed") for event in seen]
    assert elapsed == sorted(elapsed)
    assert all(event == seen[0] for event in seen)


@pytest.mark.parametrize(
    ("sae", "path"),
    [
        ("stranger", "/qsgw/v1/events/sun"),
        ("moon", "/qsgw/v1/events/moon"),
        ("sun", "/qsgw/v1/events/mars"),
    ],
)
async def test_who_shares_no_keys_with_the_sae_in_the_path_gets_no_events(
    lab: KmeLab, sae: str, path: str
) -> None:
    async with stream(lab, sae, path) as reader:
        assert reader.response.status == 401
        assert "message" in await reader.response.json()


async def test_streams_of_one_sae_are_bounded_and_another_saes_are_not_affected(
    lab: KmeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 2)
    path = "/qsgw/v1/events/moon"
    async with stream(lab, "sun", path) as first:
        await first.next()
        async with stream(lab, "sun", path) as second:
            await second.next()
            async with stream(lab, "sun", path) as third:
                assert third.response.status == 503
            async with stream(lab, "mars", path) as other:
                assert other.response.status == 200
        # The place of one that left is free although it said nothing.
        await eventually(lambda: lab.kmes["kme-sun"].events.count("sun") >= 1)
        async with stream(lab, "sun", path) as fourth:
            assert fourth.response.status == 200


async def test_a_reader_that_leaves_is_no_fault_of_the_kme(
    lab: KmeLab, caplog: pytest.LogCaptureFixture
) -> None:
    """What is said to it in the moment it goes fails, and nobody but the stream has to know."""
    for number in range(20):
        async with stream(lab, "moon", "/qsgw/v1/events/sun") as reader:
            await reader.next()
            lab.source.suspect(f"{number}")  # an event under way while the connection ends
            assert reader.response.connection is not None
            reader.response.close()
        lab.source.clear()
        lab.source.suspect(f"{number} again")
    await eventually(lambda: open_streams(lab, "moon") == 0)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(("limit", "value"), [("WRITE_TIMEOUT", 0.05), ("MAX_BEHIND", 4)])
async def test_a_reader_that_does_not_read_is_cut_off_and_the_others_go_on(
    lab: KmeLab, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    """It may be behind by so many events, or for so long; memory for more is not given."""
    monkeypatch.setattr(events, limit, value)
    lab.source.heal()
    await lab.filled()
    lab.source.cut()
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "down")
    async with stream(lab, "moon", "/qsgw/v1/events/sun") as good:
        context = lab.client_context("moon")
        port = lab.kmes["kme-moon"].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=1024)
        writer.write(b"GET /qsgw/v1/events/sun HTTP/1.1\r\nHost: kme\r\n\r\n")
        await eventually(lambda: open_streams(lab, "moon") == 2)
        reader.feed_data(b"")
        writer.transport.pause_reading()
        number = 0
        while open_streams(lab, "moon") == 2:
            number += 1
            lab.source.suspect(f"{number} " + "x" * 20_000)
            while len((await good.next())["alarms"]) == 1:
                pass
            lab.source.clear()
            while len((await good.next())["alarms"]) > 1:
                pass
            assert number < 2000
        lab.source.heal()
        await good.until("up")
        writer.transport.abort()


async def test_streams_end_when_the_kme_stops(lab: KmeLab) -> None:
    async with stream(lab, "sun", "/qsgw/v1/events/moon") as reader:
        await reader.next()
        async with asyncio.timeout(5.0):
            await lab.stop_kme("kme-sun")
        with pytest.raises(EOFError):
            await reader.until("never")
