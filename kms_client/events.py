"""What a KME tells of its quantum link as it happens: server-sent events, and following them.

ETSI GS QKD 014 can only be polled. A KME may advertise an event stream in its status; what it
says there is described in docs/kme.md. Where a stream cannot be had, polling goes on alone.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from kms_client.errors import KmeError, KmeNonsenseError
from kms_client.models import LinkReport, link_report

MAX_EVENT = 64 * 1024  # octets of one event; ours have some hundred
RETRY_MIN = 1.0  # seconds before a lost stream is opened again; doubled each time
RETRY_MAX = 60.0
RATE = 20.0  # events per second that are heeded; a link changes its state far less often
BURST = 64  # events heeded at once, as many as our KME lets a reader be behind


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvent:
    """One event. ``elapsed``: seconds by the KME's watch from our request for the stream."""

    report: LinkReport
    elapsed: float


class EventDecoder:
    """Octets of a ``text/event-stream`` in, events out (WHATWG HTML 9.2.6). Sans-IO.

    Other types of events than the default one and unknown fields are passed over. Data that is
    not what docs/kme.md describes is a KmeNonsenseError: an event that cannot be read may have
    been a suspicion, so the stream must not go on as if nothing had been said.
    """

    def __init__(self, kme: str) -> None:
        self._kme = kme
        self._rest = b""
        self._data: list[bytes] = []
        self._kind = b""

    def feed(self, octets: bytes) -> list[LinkEvent]:
        """Raises KmeNonsenseError."""
        text = (self._rest + octets).replace(b"\r\n", b"\n")
        held_back = text[-1:] if text.endswith(b"\r") else b""  # perhaps half a line end
        *lines, self._rest = text.removesuffix(b"\r").replace(b"\r", b"\n").split(b"\n")
        self._rest += held_back
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT:
            raise KmeNonsenseError(self._kme, f"sent an event of more than {MAX_EVENT} octets")
        return events

    def _line(self, line: bytes) -> LinkEvent | None:
        if not line:
            data, self._data = b"\n".join(self._data), []
            kind, self._kind = self._kind, b""
            return self._event(data) if data and kind in (b"", b"message") else None
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._kind = value
        return None

    def _event(self, data: bytes) -> LinkEvent:
        try:
            said = msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise KmeNonsenseError(self._kme, "sent an event that is not JSON") from None
        report = link_report({"qsgw_link": said})
        elapsed = said.get("elapsed") if isinstance(said, Mapping) else None
        if report is None:
            raise KmeNonsenseError(self._kme, "sent an event without a state of the link")
        if isinstance(elapsed, bool) or not isinstance(elapsed, int | float):
            raise KmeNonsenseError(self._kme, "sent an event without elapsed")
        if not 0 <= elapsed < 1e12:
            raise KmeNonsenseError(self._kme, "sent an event with an elapsed that cannot be")
        return LinkEvent(report=report, elapsed=float(elapsed))


class EventFollower:
    """Keeps one event stream open until cancelled, and says what comes of it.

    ``heard`` gets each event with a moment that is no later than when the KME composed it: our
    clock when we asked for the stream, and from there on the KME's watch. How long the event was
    under way does not matter, and no clocks need agree. ``lost`` is called when a stream ends.
    """

    def __init__(
        self,
        open_stream: Callable[[], AsyncGenerator[LinkEvent]],
        *,
        heard: Callable[[LinkReport, float], None],
        lost: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._open = open_stream
        self._heard = heard
        self._lost = lost
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    async def run(self) -> None:
        delay = RETRY_MIN
        while True:
            opened = self._clock()
            try:
                await self._follow(opened)
            except KmeError:
                self._lost()  # counted where the KME's requests are
            if self._clock() - opened > RETRY_MAX:
                delay = RETRY_MIN
            await self._sleep(delay * (0.5 + 0.5 * self._jitter()))
            delay = min(2 * delay, RETRY_MAX)

    async def _follow(self, opened: float) -> None:
        allowance, asked = float(BURST), opened
        async with aclosing(self._open()) as events:
            async for event in events:
                now = self._clock()
                allowance, asked = min(BURST, allowance + (now - asked) * RATE), now
                if allowance < 1:  # who tells more than that must not keep us from all else
                    await self._sleep((1 - allowance) / RATE)
                allowance -= 1
                # A watch that runs fast must not make an event younger than it can be.
                self._heard(event.report, min(opened + event.elapsed, self._clock()))
