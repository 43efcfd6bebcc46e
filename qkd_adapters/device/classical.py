"""The classical channel between Alice and Bob: a TCP connection, kept up, with sessions on it.

Bob listens, Alice connects. What is said is authenticated, not hidden: none of it is secret.
A frame's first octet is its ``Kind``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from qkd_adapters.address import Address, connect, listen, remove_socket
from qkd_adapters.device.bootstrap import Bootstrap
from qkd_adapters.device.handshake import Handshake
from qkd_adapters.device.messages import Message, Ping, Pong
from qkd_adapters.device.session import Kind, Session
from qkd_adapters.errors import (
    BootstrapError,
    ChannelTamperedError,
    FrameError,
    HandshakeError,
)
from qkd_adapters.frames import framed, read_body
from qkd_adapters.logs import EventLog
from qkd_adapters.records import Role

# 5e6 detections announced with three octets each, and air.
MAX_FRAME = 32 * 1024 * 1024
MAX_HANDSHAKE = 4096  # octets: of a frame before the peer is known
HANDSHAKE_TIMEOUT = 5.0  # seconds
PING_INTERVAL = 1.0  # seconds
SILENCE_TIMEOUT = 6.0  # seconds without a frame from the peer: it is gone
RETRY_MIN = 0.2  # seconds
RETRY_MAX = 5.0  # seconds

_log = EventLog("qsgw_kme.device")


class Handler(Protocol):
    """Who uses the channel. Called from the event loop; must not block."""

    def established(self, session: Session, send: Callable[[bytes], None]) -> None:
        """A session stands; ``send`` takes what the session made."""

    def said(self, message: Message) -> None: ...

    def block_said(self, body: bytes) -> None: ...

    def lost(self, *, tampered: bool) -> None: ...


class ClassicalChannel:
    """One end. ``run`` until cancelled; one session at a time."""

    def __init__(
        self,
        *,
        role: Role,
        link: str,
        address: Address,
        bootstrap: Bootstrap,
        handler: Handler,
    ) -> None:
        self._role = role
        self._link = link
        self._address = address
        self._bootstrap = bootstrap
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.session: Session | None = None
        self.epoch = ""  # whose pads we hold; the handler's to forget
        self.round_trip = 0.0  # seconds, of the last ping
        self.last_error = "no session yet"

    # --- life ---

    async def start(self) -> None:
        """Raises KmeStartupError."""
        if self._role is Role.BOB:
            self._server = await listen(self._address, self._accepted)

    async def run(self) -> None:
        """Alice: connect, and connect again. Bob: connections come by themselves."""
        delay = RETRY_MIN
        while True:
            if self._role is Role.ALICE:
                try:
                    async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                        reader, writer = await connect(self._address)
                except (OSError, TimeoutError) as error:
                    self.last_error = f"cannot reach {self._address}: {error or 'no answer'}"
                else:
                    if await self._converse(reader, writer):
                        delay = RETRY_MIN
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            remove_socket(self._address)
        self.drop("stopped")

    @property
    def port(self) -> int:
        """Bob's TCP port, for a listener on port 0."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def drop(self, why: str, *, tampered: bool = False) -> None:
        """End the session now; Alice begins another."""
        writer, self._writer = self._writer, None
        session, self.session = self.session, None
        if writer is not None:
            writer.close()
        if session is not None:
            session.wipe()
            self.last_error = why
            _log.warning("classical-channel-lost", link=self._link, reason=why, tampered=tampered)
            self._handler.lost(tampered=tampered)

    # --- one connection ---

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._converse(reader, writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handshake, then the session until its end. Whether there was a session."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                session = await self._shake_hands(reader, writer)
        except (HandshakeError, BootstrapError, FrameError, EOFError, OSError) as error:
            # OSError has TimeoutError in it.
            why = str(error) or "no answer"
            if why != self.last_error:
                _log.warning("classical-channel-refused", link=self._link, reason=why)
            self.last_error = why
            writer.close()
            return False
        self.drop("the peer began a new session")
        self._writer, self.session, self.epoch = writer, session, session.epoch
        _log.info("classical-channel-up", link=self._link, new_pad=session.region is not None)
        self._handler.established(session, self._send)
        await self._attend(reader, writer, session)
        return True

    async def _shake_hands(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Session:
        handshake = Handshake(
            link=self._link,
            role=self._role,
            epoch=self.epoch,
            bootstrap=self._bootstrap,
        )
        if self._role is Role.ALICE:
            writer.write(framed(handshake.hello()))
            last, keys = handshake.finish(await read_body(reader, MAX_HANDSHAKE))
            writer.write(framed(last))
        else:
            writer.write(framed(handshake.answer(await read_body(reader, MAX_HANDSHAKE))))
            keys = handshake.check(await read_body(reader, MAX_HANDSHAKE))
        return Session(self._role, keys)

    async def _attend(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session
    ) -> None:
        pinging = asyncio.create_task(self._ping(session))
        why, tampered = "", False
        try:
            while self.session is session:
                async with asyncio.timeout(SILENCE_TIMEOUT):
                    body = await read_body(reader, MAX_FRAME)
                if self.session is session:
                    self._received(session, body)
        except TimeoutError:
            why = f"nothing from the peer for {SILENCE_TIMEOUT:g} s"
        except (EOFError, OSError) as error:
            why = str(error)
        except (ChannelTamperedError, FrameError) as error:
            # TCP's checksum found the octets as sent: somebody in between changed them.
            why, tampered = str(error), True
        finally:
            pinging.cancel()
            if self.session is session:
                self.drop(why, tampered=tampered)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _received(self, session: Session, body: bytes) -> None:
        """Raises ChannelTamperedError."""
        if body[:1] == Kind.BLOCK.value:
            self._handler.block_said(body[1:])
            return
        message = session.open(body)
        match message:
            case Ping():
                self._send(session.sign(Pong(at=message.at)))
            case Pong():
                self.round_trip = max(asyncio.get_running_loop().time() - message.at, 0.0)
            case _:
                self._handler.said(message)

    async def _ping(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        while self.session is session:
            self._send(session.sign(Ping(at=loop.time())))
            await asyncio.sleep(PING_INTERVAL)

    def _send(self, body: bytes) -> None:
        writer = self._writer
        if writer is not None and not writer.is_closing():
            writer.write(framed(body))
