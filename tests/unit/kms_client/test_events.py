"""Event streams of a KME: read strictly, opened again with patience, leading nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kms_client import transport
from kms_client.errors import (
    KmeError,
    KmeNonsenseError,
    KmeTimeoutError,
    KmeTlsError,
    KmeUnauthorizedError,
    KmeUnavailableError,
    KmeUnreachableError,
)
from kms_client.events import (
    BURST,
    MAX_EVENT,
    RATE,
    RETRY_MAX,
    EventDecoder,
    EventFollower,
    LinkEvent,
)
from kms_client.models import LinkReport, LinkState, link_report
from tests.support.fake_clock import FakeClock, settle

UP = {"state": "up", "elapsed": 1.5, "key_rate": 2, "alarms": [], "since": "now"}
SUSPECT = {"state": "suspect", "elapsed": 2.0, "alarms": ["QBER 9 %"], "suspect_age": 12.5}


def data(event: object) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def decode(octets: bytes) -> list[LinkEvent]:
    return EventDecoder("primary").feed(octets)


# --- the format ------------------------------------------------------------------------------


def test_an_event_is_a_report_and_the_kmes_watch() -> None:
    up, suspect = decode(data(UP) + data(SUSPECT))
    assert (up.report.state, up.elapsed, up.report.suspect_age) == (LinkState.UP, 1.5, None)
    assert suspect.report.suspect_age == 12.5
    assert suspect.report.reason == "QBER 9 %"


@given(st.lists(st.integers(1, 40), max_size=20), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_however_the_octets_come_the_events_are_the_same(cuts: list[int], end: bytes) -> None:
    text = b": a comment\n\n" + data(UP) + b"event: other\n" + data(SUSPECT) + data(SUSPECT)
    octets = text.replace(b"\n", end)
    decoder, events = EventDecoder("primary"), []
    for cut in cuts:
        events += decoder.feed(octets[:cut])
        octets = octets[cut:]
    # A lone CR may be half of a CRLF: the line it ends is complete with the next octet.
    events += decoder.feed(octets) + decoder.feed(b":\n")
    assert [event.elapsed for event in events] == [1.5, 2.0]


def test_data_of_several_lines_is_one_event() -> None:
    (event,) = decode(b'data: {"state": "up",\nid: 4\ndata: "elapsed": 0}\n\n')
    assert event.elapsed == 0


@pytest.mark.parametrize(
    "said",
    [
        b"{",
        b"[]",
        b"null",
        b'"up"',
        b"{}",
        b'{"state": "excellent", "elapsed": 1}',
        b'{"state": "up"}',
        b'{"state": "up", "elapsed": -1}',
        b'{"state": "up", "elapsed": true}',
        b'{"state": "up", "elapsed": "1"}',
        b'{"state": "up", "elapsed": 1e300}',
        b'{"state": "up", "elapsed": NaN}',
        b"\xff\xfe",
        b"[" * 10_000,
    ],
)
def test_nonsense_is_an_error_with_the_name_of_the_kme_and_none_of_its_words(said: bytes) -> None:
    with pytest.raises(KmeNonsenseError) as caught:
        decode(b"data: " + said + b"\n\n")
    assert caught.value.kme == "primary"
    assert "excellent" not in str(caught.value)


@pytest.mark.parametrize("endless", [b"x" * 5000, b"data: " + b"x" * 5000 + b"\n"])
def test_an_event_without_end_is_not_collected(endless: bytes) -> None:
    decoder = EventDecoder("primary")
    for _ in range(MAX_EVENT // 5000):
        assert decoder.feed(endless) == []
    with pytest.raises(KmeNonsenseError, match="octets"):
        decoder.feed(endless)


@pytest.mark.parametrize(
    ("member", "value"),
    [("suspect_age", -1), ("suspect_age", "5"), ("suspect_age", True), ("quarantined", "x"),
     ("events", 5), ("events", ""), ("events", "a b"), ("events", "x\n"), ("events", "x" * 2000)],
)  # fmt: skip
def test_a_member_that_makes_no_sense_is_as_if_it_were_missing(member: str, value: object) -> None:
    report = link_report({"qsgw_link": {"state": "suspect", member: value}})
    assert report is not None
    assert getattr(report, member) is None


# --- over TLS --------------------------------------------------------------------------------


async def collect(client, path: str = "/events/sun") -> tuple[list[LinkEvent], KmeError]:
    """What came, and the error it ended with."""
    events: list[LinkEvent] = []
    stream = client.events("sun", path)
    try:
        while True:
            events.append(await anext(stream))
    except KmeError as error:
        return events, error


async def streamed(request: web.Request, *chunks: bytes, **headers: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    return response


async def until_left(request: web.Request) -> None:
    while request.transport is not None:
        await asyncio.sleep(0.005)


async def test_events_come_over_tls_until_the_kme_ends_the_stream(serve, connect):
    asked = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append((request.path, request.headers["Accept"]))
        return await streamed(request, data(UP), data(SUSPECT))

    client = connect(await serve(handler))
    for path in ("/qsgw/v1/events/sun", "events"):
        events, error = await collect(client, path)
        assert [event.report.state for event in events] == ["up", "suspect"]
        assert isinstance(error, KmeUnreachableError)
    assert asked == [
        ("/qsgw/v1/events/sun", "text/event-stream"),
        ("/api/v1/keys/sun/events", "text/event-stream"),
    ]


@pytest.mark.parametrize(
    "path", ["https://kme.test/events", "//kme.test/events", "http:/events", "https://["]
)
async def test_a_stream_at_another_address_is_not_opened(serve, connect, path):
    async def handler(request: web.Request) -> web.StreamResponse:
        raise AssertionError

    events, error = await collect(connect(await serve(handler)), path)
    assert (events, type(error)) == ([], KmeNonsenseError)
    assert "another address" in str(error)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda: web.json_response({"message": "who are you"}, status=401), KmeUnauthorizedError),
        (lambda: web.json_response({"message": "too many"}, status=503), KmeUnavailableError),
        (lambda: web.Response(status=302, headers={"Location": "/x"}), KmeNonsenseError),
        (lambda: web.json_response(UP), KmeNonsenseError),
    ],
)
async def test_what_is_no_event_stream_is_a_typed_error(serve, connect, answer, kind):
    async def handler(request: web.Request) -> web.StreamResponse:
        return answer()

    events, error = await collect(connect(await serve(handler)))
    assert (events, type(error).__mro__[: type(error).__mro__.index(kind) + 1][-1]) == ([], kind)


async def test_a_stream_that_falls_silent_is_given_up(serve, connect, monkeypatch):
    monkeypatch.setattr(transport, "SILENCE", 0.05)

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await streamed(request, data(UP))
        await until_left(request)
        return response

    events, error = await collect(connect(await serve(handler)))
    assert len(events) == 1
    assert isinstance(error, KmeTimeoutError)
    assert "silent" in str(error)


async def test_a_stream_outlives_the_time_a_request_may_take(serve, connect):
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await streamed(request, data(UP))
        await asyncio.sleep(0.4)
        await response.write(data(SUSPECT))
        return response

    events, _ = await collect(connect(await serve(handler), timeout=0.2))
    assert [event.report.state for event in events] == ["up", "suspect"]


async def test_streams_take_no_connection_from_requests_and_are_bounded(
    serve, connect, monkeypatch
):
    monkeypatch.setattr(transport, "CONNECTIONS", 1)
    monkeypatch.setattr(transport, "STREAMS", 2)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/status"):
            return web.json_response({"stored_key_count": 3})
        response = await streamed(request, data(UP))
        await until_left(request)
        return response

    client = connect(await serve(handler), timeout=2.0)
    streams = [client.events("sun", "events") for _ in range(2)]
    for stream in streams:
        await anext(stream)
    assert (await client.status("sun")).stored_key_count == 3
    events, error = await collect(client)
    assert (events, type(error)) == ([], KmeUnavailableError)
    for stream in streams:
        await stream.aclose()
    third = client.events("sun", "events")
    assert (await anext(third)).report.state is LinkState.UP
    await third.aclose()


async def test_a_kme_whose_certificate_is_foreign_gets_no_request(serve, connect, pki):
    async def handler(request: web.Request) -> web.StreamResponse:
        raise AssertionError

    foreign = pki.foreign.issue("kme-foreign", hosts=("127.0.0.1",))
    url = await serve(handler, files=foreign)
    events, error = await collect(connect(url))
    assert (events, type(error)) == ([], KmeTlsError)


# --- following -------------------------------------------------------------------------------


class Script:
    """Streams as the test would have them: lists of events, each ended by an error."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.streams: list[list[LinkEvent]] = []
        self.opened: list[float] = []
        self.lifetime = 0.0

    async def open(self) -> AsyncGenerator[LinkEvent]:
        self.opened.append(self.clock.now)
        for event in self.streams.pop(0) if self.streams else []:
            yield event
        if self.lifetime:
            await self.clock.sleep(self.lifetime)
        raise KmeUnreachableError("primary", "ended its event stream")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Follow:
    def __init__(self, clock: FakeClock) -> None:
        self.script = Script(clock)
        self.heard: list[tuple[LinkReport, float]] = []
        self.lost = 0
        self._follower = EventFollower(
            self.script.open,
            heard=lambda report, at: self.heard.append((report, at)),
            lost=self._count,
            clock=clock,
            sleep=clock.sleep,
            jitter=lambda: 1.0,
        )
        self.task = asyncio.create_task(self._follower.run())

    def _count(self) -> None:
        self.lost += 1


async def test_a_lost_stream_is_opened_again_after_pauses_that_double_up_to_a_limit(clock):
    follow = Follow(clock)
    await clock.advance(300.0)
    opened = follow.script.opened
    pauses = [after - before for before, after in pairwise(opened)]
    assert pauses[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert set(pauses[6:]) == {RETRY_MAX}
    assert follow.lost == len(opened)
    follow.script.lifetime = RETRY_MAX + 1
    await clock.advance(3 * RETRY_MAX)
    assert opened[-1] - opened[-2] == RETRY_MAX + 1 + 1.0, "after a long life it is missed at once"
    follow.task.cancel()


async def test_an_event_is_dated_by_the_kmes_watch_and_never_later_than_it_came(clock):
    """Held up on its way it would seem younger than it is; a fast watch would date it ahead."""
    follow = Follow(clock)
    report = link_report({"qsgw_link": UP})
    assert report is not None
    follow.script.streams = [[]]
    await settle()
    follow.script.streams = [
        [LinkEvent(report=report, elapsed=elapsed) for elapsed in (0.0, 0.25, 500.0)]
    ]
    await clock.advance(1.0)
    assert [at for _, at in follow.heard] == [1001.0, 1001.0, 1001.0]
    follow.task.cancel()


async def test_an_event_that_was_under_way_for_long_is_as_old_as_it_is(clock):
    class Slow(Script):
        async def open(self) -> AsyncGenerator[LinkEvent]:
            report = link_report({"qsgw_link": SUSPECT})
            assert report is not None
            await self.clock.sleep(20.0)  # the network holds back what was said after 2 s
            yield LinkEvent(report=report, elapsed=2.0)
            await self.clock.sleep(1000.0)

    heard = []
    follower = EventFollower(
        Slow(clock).open,
        heard=lambda report, at: heard.append(at),
        lost=lambda: None,
        clock=clock,
        sleep=clock.sleep,
    )
    task = asyncio.create_task(follower.run())
    await clock.advance(20.0)
    assert heard == [1002.0]
    task.cancel()


async def test_a_flood_of_events_is_taken_in_slowly_and_none_is_left_out(clock):
    """After the burst, so many per second: the KME sees a slow reader, we go on with our work."""
    follow = Follow(clock)
    await settle()
    report = link_report({"qsgw_link": UP})
    assert report is not None
    flood = [LinkEvent(report=report, elapsed=0.0)] * (BURST + 100)
    follow.script.streams = [flood]
    await clock.advance(1.0)
    assert len(follow.heard) == BURST
    await clock.advance(2.0)
    assert BURST + 2 * RATE - 1 <= len(follow.heard) <= BURST + 2 * RATE + 1
    await clock.advance(100.0)
    assert len(follow.heard) == len(flood)
    follow.task.cancel()
