"""The daemon's end of the control socket. A slow or hostile client hurts only itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.control.access import Peer, peer_of
from gateway.control.listener import control_gid, open_listener, remove_listener
from gateway.control.protocol import (
    REQUEST_MAX,
    SCHEMA,
    TUNNEL_VERBS,
    WRITE_VERBS,
    ExitCode,
    Verb,
)
from gateway.errors import ControlError, QsgwError
from gateway.model import Snapshot, StatusEvent

log = logging.getLogger("qsgw.control")

CLIENTS_MAX = 32
ACCEPT_PAUSE = 1.0  # seconds until a client is taken again after that failed
IDLE_TIMEOUT = 60.0  # seconds without a request
ANSWER_TIMEOUT = 60.0  # seconds for an answer to be found; a handshake to be set up and fail
WRITE_TIMEOUT = 10.0  # seconds for an answer to be read
MONITOR_BACKLOG_MAX = 256 * 1024  # octets unread by a monitor before it is dropped


class ControlHandler(Protocol):
    """What the daemon does for its operator.

    The text returned says in one line what was begun or done. Raise ControlError with the
    exit code for the CLI (NOT_FOUND for an unknown tunnel); any other QsgwError means FAILED.
    """

    async def snapshot(self) -> Snapshot: ...

    async def initiate(self, tunnel: str) -> str: ...

    async def terminate(self, tunnel: str) -> str: ...

    async def rekey(self, tunnel: str) -> str:
        """Of a MACsec link: the connection that gives its CAKs."""
        ...

    async def rekey_ike(self, tunnel: str) -> str: ...

    async def rekey_sak(self, link: str) -> str:
        """A new SAK for a MACsec link. ControlError where the peer is key server."""
        ...

    async def reload(self) -> str: ...

    def subscribe(self) -> AsyncIterator[StatusEvent]:
        """Events from now on; closed by the server when the client leaves."""
        ...


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    verb: Verb
    tunnel: str | None = None


class ControlServer:
    def __init__(self, handler: ControlHandler, *, path: Path, group: str | None = None) -> None:
        self._handler = handler
        self._path = path
        self._group = group
        self._gid: int | None = None
        self._inode = 0
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients = 0

    def claim(self) -> None:
        """Make the socket; clients wait. Raises StartupError: no permission, another daemon."""
        self._gid = control_gid(self._group)
        self._listener = open_listener(self._path, self._gid)
        self._inode = self._path.lstat().st_ino

    async def start(self) -> None:
        """Answer clients. Raises StartupError as ``claim`` where that was not done before."""
        if self._listener is None:
            self.claim()
        assert self._listener is not None
        self._spawn(self._listen(self._listener))

    async def stop(self) -> None:
        """Hang up on all clients and remove the socket. Idempotent."""
        if self._listener is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        self._listener = None
        remove_listener(self._path, self._inode)

    async def _listen(self, listener: socket.socket) -> None:
        # Not asyncio.start_unix_server: closed while it accepts, 3.11's forgets the client, and
        # it logs a client's task that was cancelled as a fault.
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors: some client will leave
                log.warning("no control client can be taken: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE)
            else:
                self._spawn(self._attend(connection))

    async def _attend(self, connection: socket.socket) -> None:
        self._clients += 1
        try:
            with connection:
                reader, writer = await asyncio.open_unix_connection(
                    sock=connection, limit=REQUEST_MAX
                )
                try:
                    await self._greet(connection, reader, writer)
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            log.debug("control client went away")
        finally:
            self._clients -= 1

    async def _greet(
        self,
        connection: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if self._clients > CLIENTS_MAX:
            await _send(writer, _error("too many clients", ExitCode.FAILED))
        else:
            await self._serve(peer_of(connection), reader, writer)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    line = await reader.readline()
            except ValueError:  # StreamReader's word for a line over its limit
                await _send(writer, _error("request too long", ExitCode.USAGE))
                return
            if not line.endswith(b"\n"):
                return
            try:
                request = _decode(line)
                if request.verb is Verb.MONITOR:
                    await self._monitor(reader, writer)
                    return
                answer = _encode({"schema": SCHEMA, "result": await self._carry_out(request, peer)})
            except ControlError as error:
                answer = _error(str(error), error.exit_code)
            except QsgwError as error:
                answer = _error(str(error), ExitCode.FAILED)
            await _send(writer, answer)

    async def _carry_out(self, request: Request, peer: Peer) -> Snapshot | str:
        verb = request.verb
        if verb in WRITE_VERBS:
            if not peer.may_write(self._gid):
                who = f' or group "{self._group}"' if self._group else ""
                raise ControlError(f"permission denied: {verb} needs root{who}", ExitCode.FAILED)
            what = f"{verb} {request.tunnel}" if request.tunnel else verb
            log.info("%s asked for by uid %d", what, peer.uid)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._dispatch(verb, request.tunnel or "")
        except TimeoutError:
            raise ControlError(f"{verb}: no result in {ANSWER_TIMEOUT:g} s") from None
        except QsgwError:
            raise
        except Exception as error:
            log.exception("%s failed", verb)
            raise ControlError(f"{verb}: internal error, see the daemon's log") from error

    async def _dispatch(self, verb: Verb, tunnel: str) -> Snapshot | str:
        handler = self._handler
        match verb:
            case Verb.INITIATE:
                return await handler.initiate(tunnel)
            case Verb.TERMINATE:
                return await handler.terminate(tunnel)
            case Verb.REKEY:
                return await handler.rekey(tunnel)
            case Verb.REKEY_IKE:
                return await handler.rekey_ike(tunnel)
            case Verb.REKEY_SAK:
                return await handler.rekey_sak(tunnel)
            case Verb.RELOAD:
                return await handler.reload()
            case Verb.SNAPSHOT | Verb.MONITOR:
                return await handler.snapshot()

    async def _monitor(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, _encode({"schema": SCHEMA, "result": "monitoring"}))
        pump = asyncio.create_task(self._pump(writer))
        hangup = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({pump, hangup}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pump, hangup):
                task.cancel()
            await asyncio.gather(pump, hangup, return_exceptions=True)

    async def _pump(self, writer: asyncio.StreamWriter) -> None:
        """Write events without ever waiting for the reader; drop one that lags too far."""
        events = self._handler.subscribe()
        try:
            async for event in events:
                writer.write(_encode({"schema": SCHEMA, "event": event}))
                if writer.transport.get_write_buffer_size() > MONITOR_BACKLOG_MAX:
                    log.warning("a monitor client does not read: dropped")
                    return
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()


def _decode(line: bytes) -> Request:
    try:
        request = msgspec.json.decode(line, type=Request)
    except msgspec.DecodeError as error:  # includes ValidationError
        raise ControlError(f"bad request: {error}", ExitCode.USAGE) from None
    if request.schema != SCHEMA:
        raise ControlError(
            f"this daemon speaks control schema {SCHEMA}, not {request.schema}", ExitCode.USAGE
        )
    if (request.tunnel is not None) != (request.verb in TUNNEL_VERBS):
        raise ControlError(
            f"{request.verb} takes {'a' if request.verb in TUNNEL_VERBS else 'no'} tunnel",
            ExitCode.USAGE,
        )
    return request


def _encode(message: object) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def _error(message: str, exit_code: int) -> bytes:
    return _encode({"schema": SCHEMA, "error": message, "exit_code": int(exit_code)})


async def _send(writer: asyncio.StreamWriter, line: bytes) -> None:
    """Write a line and wait until all of it is out. Raises OSError or TimeoutError."""
    writer.transport.set_write_buffer_limits(high=0)
    writer.write(line)
    async with asyncio.timeout(WRITE_TIMEOUT):
        await writer.drain()
