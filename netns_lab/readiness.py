"""Waiting for what is to come, never for a time.

A daemon says that it is ready over a systemd notify socket of its own (sd_notify(3)); one
that cannot is ready when it listens.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

from netns_lab.errors import WaitError

T = TypeVar("T")

_TCP_LISTEN = "0A"  # include/net/tcp_states.h, as /proc/net/tcp shows it
_DATAGRAM_MAX = 4096


@dataclass(frozen=True, slots=True)
class Listening:
    """Ready when the daemon's namespace has a TCP socket listening on ``port``."""

    port: int


class NotifySocket:
    """One daemon's NOTIFY_SOCKET. ``status`` is the last STATUS= it sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ready = False
        self.status = ""
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    async def wait_ready(self) -> None:
        """From now on what it says is read as it comes, for as long as the socket is open."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._drain)
        while not self.ready:
            self._news.clear()
            await self._news.wait()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self._take(self._socket.recv(_DATAGRAM_MAX))
        self._news.set()

    def _take(self, datagram: bytes) -> None:
        for line in datagram.decode(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name == "STATUS":
                self.status = value
            elif name == "READY" and value == "1":
                self.ready = True

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
        self._socket.close()
        self.path.unlink(missing_ok=True)


def listens(pid: int, port: int) -> bool:
    """Does anyone in the network namespace of process ``pid`` listen on TCP ``port``?"""
    for table in ("tcp", "tcp6"):
        try:
            text = Path(f"/proc/{pid}/net/{table}").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if listens_in(text, port):
            return True
    return False


def listens_in(table: str, port: int) -> bool:
    """Does a /proc/net/tcp ``table`` show a listener on ``port``?"""
    rows = (line.split() for line in table.splitlines()[1:])
    return any(row[3] == _TCP_LISTEN and int(row[1].split(":")[1], 16) == port for row in rows)


@overload
async def wait_until(
    predicate: Callable[[], Awaitable[T | None]],
    deadline: float,
    why: str,
    *,
    interval: float = ...,
) -> T: ...


@overload
async def wait_until(
    predicate: Callable[[], T | None], deadline: float, why: str, *, interval: float = ...
) -> T: ...


async def wait_until(
    predicate: Callable[[], Any],
    deadline: float,
    why: str,
    *,
    interval: float = 0.05,
) -> Any:
    """Call ``predicate`` every ``interval`` seconds until its value is true; that value.

    ``deadline`` is in seconds from now. Raises WaitError with ``why`` and the last value.
    """
    end = time.monotonic() + deadline
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= end:
            raise WaitError(f"{why}: not within {deadline:g} s; last seen: {value!r}")
        await asyncio.sleep(interval)
