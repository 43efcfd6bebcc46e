"""Where a device's own KME connects: the link protocol, with one KME instead of two."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

import msgspec

from qkd_adapters.address import Address, listen, remove_socket
from qkd_adapters.errors import LinkProtocolError
from qkd_adapters.link.messages import (
    FromKme,
    FromLink,
    Hello,
    Rejected,
    decode_from_kme,
    frame,
    read_frame,
)
from qkd_adapters.logs import EventLog

_log = EventLog("qsgw_kme.device")


class KmeHandler(Protocol):
    """Who deals with the KME's messages."""

    def kme_said(self, message: FromKme) -> None:
        """Raises LinkProtocolError when the connection is not worth keeping."""

    def kme_lost(self) -> None: ...


class KmePort:
    """Listens for the KME; a newer connection replaces the one before: it was restarted."""

    def __init__(self, kme: str, address: Address, handler: KmeHandler) -> None:
        self._kme = kme
        self._address = address
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        """Raises KmeStartupError."""
        self._server = await listen(self._address, self._serve)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            remove_socket(self._address)
        self.drop()

    @property
    def connected(self) -> bool:
        return self._writer is not None

    def send(self, message: FromLink) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame(message))

    def drop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            _log.warning("kme-lost", kme=self._kme)
            self._handler.kme_lost()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.drop()
        self._writer = writer
        try:
            while True:
                message = decode_from_kme(await read_frame(reader))
                if self._writer is not writer:
                    return
                self._handler.kme_said(message)
                if isinstance(message, Hello):
                    _log.info("kme-connected", kme=self._kme)
        except EOFError:
            pass
        except (LinkProtocolError, msgspec.DecodeError) as error:
            _log.warning("kme-rejected", kme=self._kme, reason=str(error))
            with suppress(ConnectionError):
                writer.write(frame(Rejected(reason=str(error))))
        finally:
            if self._writer is writer:
                self.drop()
            writer.close()
