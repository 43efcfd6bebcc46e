"""The fibre's end at one device: records go out, nothing comes in.

The channel knows what an attacker did, so nothing may ask it. It shuts the receiving half of
every connection down before it writes the first octet; the kernel holds that from then on.
"""

from __future__ import annotations

import asyncio
import socket

from qkd_adapters.address import Address, listen, remove_socket
from qkd_adapters.frames import framed
from qkd_adapters.logs import EventLog
from qkd_adapters.records import Record, Role, encode

# A device that has so much unread is too slow: further blocks of light are lost to it. Octets.
MAX_UNREAD = 32 * 1024 * 1024

_log = EventLog("qsgw_kme.channel")


class Feed:
    """Listens for one device; a newer connection replaces the one before."""

    def __init__(self, role: Role, address: Address) -> None:
        self.role = role
        self._address = address
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.sent = 0
        self.lost = 0

    async def start(self) -> None:
        """Raises KmeStartupError."""
        self._server = await listen(self._address, self._accept)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            remove_socket(self._address)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def connected(self) -> bool:
        return self._writer is not None and not self._writer.is_closing()

    @property
    def port(self) -> int:
        """The TCP port, for a listener on port 0."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def send(self, record: Record) -> None:
        """Light that nobody looks at, or looks at too slowly, is gone."""
        writer = self._writer
        if writer is None or writer.is_closing() or _unread(writer) > MAX_UNREAD:
            self.lost += 1
            return
        writer.write(framed(encode(record)))
        self.sent += 1

    async def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").shutdown(socket.SHUT_RD)
        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        _log.info("device-connected", device=self.role)


def _unread(writer: asyncio.StreamWriter) -> int:
    return writer.transport.get_write_buffer_size()
