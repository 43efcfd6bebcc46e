"""What a KME says of its quantum link: in every status, and at once to who follows its events.

An event stream is ``text/event-stream`` (WHATWG HTML 9.2, "server-sent events") over the same
mutual TLS as the rest. Each event's data is one JSON object, that of ``qsgw_link`` in the status
and ``elapsed`` with it; docs/kme.md describes both for whoever makes a KME.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec
from aiohttp import web

from qkd_adapters.errors import EventStreamError
from qkd_adapters.kme.agent import LinkAgent
from qkd_adapters.link.messages import Direction
from qkd_adapters.logs import EventLog

EVENTS = "/qsgw/v1/events"  # not below /api/v1/keys: that tree is the standard's
HEARTBEAT = 15.0  # seconds without an event after which the present state is sent again
MAX_STREAMS = 32  # of one SAE at once; a gateway needs one for each peer SAE
# Events a stream may be behind with. An event is never left out: a suspicion that came and went
# must be heard of. Who does not read is cut off, and sees the state when it comes back.
MAX_BEHIND = 64
WRITE_TIMEOUT = 10.0  # seconds for one event to be taken by the connection
_WRITE_BUFFER = 16 * 1024  # octets; a slow reader costs this much, and what the kernel holds

_log = EventLog("qsgw_kme.events")


def events_path(other: str) -> str:
    """Of the stream about the keys shared with SAE ``other``."""
    return f"{EVENTS}/{quote(other, safe='')}"


def link_report(agent: LinkAgent, direction: Direction) -> dict[str, object]:
    """``qsgw_link`` for the SAE that is master in ``direction``."""
    state = agent.state
    pair = (direction, Direction(direction.slave, direction.master))
    return {
        "state": state.state,
        "since": state.since,
        "alarms": state.alarms,
        "key_rate": state.key_rate,
        "suspect_age": agent.suspect_age,
        "quarantined": sum(agent.store.account(each).quarantined for each in pair),
        "events": events_path(direction.slave),
    }


@dataclass(eq=False, slots=True, kw_only=True)
class _Stream:
    """``request`` is an SAE's; ``waiting`` are encoded events, None ends the stream."""

    caller: str
    direction: Direction
    request: web.Request
    opened: float
    waiting: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)

    @property
    def is_open(self) -> bool:
        return self.request.transport is not None and not self.request.transport.is_closing()


class EventStreams:
    """All event streams of one KME."""

    def __init__(self, agent: LinkAgent, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._clock = clock
        self._streams: list[_Stream] = []
        agent.on_change(self._publish)

    async def serve(self, request: web.Request, caller: str) -> web.StreamResponse:
        """One stream, until its reader leaves or falls behind. Raises EventStreamError."""
        opened = self._clock()
        for left in [each for each in self._streams if not each.is_open]:
            self._streams.remove(left)
            left.waiting.put_nowait(None)
        if sum(each.caller == caller for each in self._streams) >= MAX_STREAMS:
            raise EventStreamError(f"SAE {caller} has {MAX_STREAMS} event streams open")
        direction = Direction(caller, request.match_info["sae"])
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        stream = _Stream(caller=caller, direction=direction, request=request, opened=opened)
        # In the list before anything is awaited: no change may fall in between.
        self._streams.append(stream)
        stream.waiting.put_nowait(self._event(stream))
        try:
            await response.prepare(request)
            if request.transport is not None:
                request.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
            await self._write_all(stream, response)
        except TimeoutError:
            self._cut(stream)
        except ConnectionError:
            pass  # it left between two events
        finally:
            if stream in self._streams:
                self._streams.remove(stream)
        return response

    async def close(self, _: web.Application | None = None) -> None:
        """End every stream: the KME stops."""
        for stream in self._streams:
            stream.waiting.put_nowait(None)

    def count(self, caller: str) -> int:
        return sum(each.caller == caller for each in self._streams)

    async def _write_all(self, stream: _Stream, response: web.StreamResponse) -> None:
        """Raises TimeoutError for a reader that does not read, ConnectionError when it left."""
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    event = await stream.waiting.get()
            except TimeoutError:
                event = self._event(stream)
            if event is None:
                return
            async with asyncio.timeout(WRITE_TIMEOUT):
                await response.write(event)

    def _publish(self) -> None:
        for stream in tuple(self._streams):
            if stream.waiting.qsize() < MAX_BEHIND:
                stream.waiting.put_nowait(self._event(stream))
            else:
                self._cut(stream)

    def _cut(self, stream: _Stream) -> None:
        if stream not in self._streams:
            return
        _log.warning("slow-reader", sae=stream.caller, peer=stream.direction.slave)
        self._streams.remove(stream)
        stream.waiting.put_nowait(None)
        if stream.request.transport is not None:
            stream.request.transport.abort()

    def _event(self, stream: _Stream) -> bytes:
        """JSON has no line break outside its strings, and none unescaped inside: one line."""
        report = link_report(self._agent, stream.direction)
        report["elapsed"] = self._clock() - stream.opened
        return b"data: " + msgspec.json.encode(report) + b"\n\n"
