"""Keeps a KME connected to the link: connects, reconnects, carries frames for the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from qkd_adapters.address import Address, connect
from qkd_adapters.errors import LinkProtocolError
from qkd_adapters.link.messages import FromKme, FromLink, decode_from_link, frame, read_frame
from qkd_adapters.logs import EventLog

RETRY_MIN = 0.2  # seconds
RETRY_MAX = 2.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
# The link sends its state every two seconds; so long without a frame, it is gone. Seconds.
SILENCE_TIMEOUT = 10.0

_log = EventLog("qsgw_kme.link_client")


class Agent(Protocol):
    """What a KME does with the link; ``handle`` raises LinkProtocolError to end the session."""

    @property
    def connected(self) -> bool: ...

    def established(self, send: Callable[[FromKme], None]) -> None: ...

    def lost(self, why: str) -> None: ...

    def handle(self, message: FromLink) -> None: ...


class LinkClient:
    """Runs until cancelled. ``attempted`` is set after the first attempt, good or bad."""

    def __init__(self, agent: Agent, address: Address) -> None:
        self._agent = agent
        self._address = address
        self.attempted = asyncio.Event()

    async def run(self) -> None:
        delay = RETRY_MIN
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self._session()
            except (OSError, EOFError, LinkProtocolError, msgspec.DecodeError) as error:
                why = str(error) or type(error).__name__
            if loop.time() - started > RETRY_MAX:
                delay = RETRY_MIN
            if self._agent.connected:
                _log.warning("link-lost", link=str(self._address), reason=why)
            self._agent.lost(f"no connection to the link: {why}")
            self.attempted.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX)

    async def _session(self) -> None:
        """One connection; always ends in an exception."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await connect(self._address)

        def send(message: FromKme) -> None:
            if not writer.is_closing():
                writer.write(frame(message))

        try:
            self._agent.established(send)
            _log.info("link-connected", link=str(self._address))
            self.attempted.set()
            while True:
                # Not wait_for: up to Python 3.11 it can swallow our own cancellation.
                async with asyncio.timeout(SILENCE_TIMEOUT):
                    body = await read_frame(reader)
                self._agent.handle(decode_from_link(body))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
