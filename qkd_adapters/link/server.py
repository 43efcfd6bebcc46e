"""Serves the link protocol to two KMEs from one key source."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

import msgspec

from qkd_adapters.address import Address, ConnectionCallback, listen, remove_socket
from qkd_adapters.errors import LinkProtocolError
from qkd_adapters.link.handover import MAX_QUARANTINED, DirectionCounters, HandoverCore
from qkd_adapters.link.messages import (
    Hello,
    LinkState,
    Rejected,
    decode_from_kme,
    frame,
    read_frame,
)
from qkd_adapters.link.recorder import KeyRecorder
from qkd_adapters.link.source import KeySource
from qkd_adapters.logs import EventLog
from qkd_adapters.tasks import until_stopped

HEARTBEAT = 2.0  # seconds between two LinkState messages when nothing changes
_log = EventLog("qsgw_kme.link")


class LinkServer:
    """Carries the hand-over protocol between two listening sides and a key source."""

    def __init__(
        self,
        *,
        name: str,
        sides: tuple[tuple[str, Address], tuple[str, Address]],
        source: KeySource,
        recorder: KeyRecorder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._addresses = dict(sides)
        self._source = source
        self._recorder = recorder
        self._core = HandoverCore((sides[0][0], sides[1][0]))
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._clock = clock
        self._made = 0
        self._quarantined = 0
        self._handed: deque[tuple[float, str]] = deque(maxlen=MAX_QUARANTINED)  # (made, key id)
        self._overflow = 0
        source.on_change(self._source_changed)

    async def start(self) -> None:
        """Raises KmeStartupError."""
        for side, address in self._addresses.items():
            self._servers.append(await listen(address, self._acceptor(side)))
        self._tasks = [
            asyncio.create_task(self._pump(), name="link-pump"),
            asyncio.create_task(self._watch(), name="link-watch"),
        ]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for side in list(self._writers):
            self._drop(side)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for address in self._addresses.values():
            remove_socket(address)

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Until ``stop``; raises what ended one of the link's own tasks before that."""
        await until_stopped(stop, self._tasks)

    def ports(self) -> dict[str, int]:
        """TCP ports in use by side, for listeners on port 0."""
        return {
            side: server.sockets[0].getsockname()[1]
            for side, server in zip(self._addresses, self._servers, strict=True)
        }

    def status(self) -> dict[str, object]:
        """For ``linkctl status``; JSON-ready, no key bytes."""
        state = self._source.state
        return {
            "name": self._name,
            "state": state.state.value,
            "since": state.since.isoformat(timespec="seconds"),
            "alarms": list(state.alarms),
            "key_rate": state.key_rate,
            "suspect_age": state.suspect_age,
            "made": self._made,
            "overflow": self._overflow,
            "quarantined": self._quarantined,
            "sides": {
                side: {"listen": str(address), "connected": self._core.connected(side)}
                for side, address in self._addresses.items()
            },
            "synced": self._core.synced,
            "directions": [
                {
                    "master": direction.master,
                    "slave": direction.slave,
                    **asdict(self._core.counters.get(direction, DirectionCounters())),
                    "room": {side: self._core.room(side, direction) for side in self._addresses},
                }
                for direction in self._core.directions
            ],
        }

    # --- connections ---

    def _acceptor(self, side: str) -> ConnectionCallback:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(side, reader, writer)

        return accept

    async def _serve(
        self, side: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection. A newer one of the same side replaces it: the KME was restarted."""
        self._drop(side)
        self._writers[side] = writer
        try:
            while True:
                message = decode_from_kme(await read_frame(reader))
                if self._writers.get(side) is not writer:
                    return
                self._core.handle(side, message)
                if isinstance(message, Hello):
                    _log.info("kme-connected", link=self._name, kme=side)
                    self._announce()
                self._flush()
        except EOFError:
            pass
        except (LinkProtocolError, msgspec.DecodeError) as error:
            _log.warning("kme-rejected", link=self._name, kme=side, reason=str(error))
            with suppress(ConnectionError):
                writer.write(frame(Rejected(reason=str(error))))
        finally:
            if self._writers.get(side) is writer:
                self._drop(side)
            writer.close()

    def _drop(self, side: str) -> None:
        writer = self._writers.pop(side, None)
        if writer is None:
            return
        was_connected = self._core.connected(side)
        self._core.lost(side)
        writer.close()
        if was_connected:
            _log.warning("kme-lost", link=self._name, kme=side)
            self._announce()
        self._flush()

    def _flush(self) -> None:
        for side, message in self._core.take_outbox():
            writer = self._writers.get(side)
            if writer is not None and not writer.is_closing():
                writer.write(frame(message))

    def _source_changed(self) -> None:
        """The keys of a suspect time go first: whoever hears of it finds them gone."""
        age = self._source.state.suspect_age
        if age is not None:
            self._quarantine(self._clock() - age)
        self._announce()

    def _quarantine(self, last_good: float) -> None:
        key_ids = []
        while self._handed and self._handed[-1][0] >= last_good:
            key_ids.append(self._handed.pop()[1])
        if key_ids:
            self._quarantined += len(key_ids)
            _log.warning("keys-quarantined", link=self._name, count=len(key_ids))
            self._core.quarantine(reversed(key_ids))
            self._flush()

    def _announce(self) -> None:
        """Tell both KMEs the state of the link."""
        state = self._source.state
        for side, writer in self._writers.items():
            if self._core.connected(side) and not writer.is_closing():
                message = LinkState(
                    state=state.state.value,
                    since=state.since.isoformat(timespec="seconds"),
                    alarms=state.alarms,
                    key_rate=state.key_rate,
                    peer_connected=self._core.peer_connected(side),
                    suspect_age=state.suspect_age,
                )
                writer.write(frame(message))

    # --- keys and time ---

    async def _pump(self) -> None:
        async for block in self._source.blocks():
            self._made += 1
            now = self._clock()
            offered = self._core.distribute(block, now)
            if offered is None:
                self._overflow += 1
            else:
                self._handed.append((now, offered[0]))
                if self._recorder is not None:
                    self._recorder.record(offered[0], block)
            block.wipe()
            self._flush()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            for side in self._core.overdue(self._clock()):
                _log.warning("kme-silent", link=self._name, kme=side)
                self._drop(side)
            self._announce()
