"""The light that reaches a device: records from the optics, read and never answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qkd_adapters.address import Address, connect
from qkd_adapters.errors import FrameError, RecordError
from qkd_adapters.frames import read_body
from qkd_adapters.logs import EventLog
from qkd_adapters.records import MAX_RECORD, Record, decode

RETRY = 0.3  # seconds

_log = EventLog("qsgw_kme.device")


class Light:
    """Runs until cancelled; gives every record to ``arrived``."""

    def __init__(self, address: Address, arrived: Callable[[Record], None]) -> None:
        self._address = address
        self._arrived = arrived
        self.connected = False
        self.records = 0

    async def run(self) -> None:
        while True:
            try:
                await self._session()
            except (OSError, EOFError, FrameError, RecordError) as error:
                if self.connected:
                    _log.warning("light-lost", optics=str(self._address), reason=str(error))
            self.connected = False
            await asyncio.sleep(RETRY)

    async def _session(self) -> None:
        """One connection; always ends in an exception."""
        reader, writer = await connect(self._address)
        try:
            # Our half of the connection is closed for good: the optics can be asked nothing.
            writer.write_eof()
            self.connected = True
            _log.info("light-connected", optics=str(self._address))
            while True:
                body = await read_body(reader, MAX_RECORD)
                record = decode(body) if len(body) < _LARGE else await _decode_aside(body)
                self.records += 1
                self._arrived(record)
        finally:
            writer.close()


# Decoding checks and slices but copies nothing: only far beyond a megabyte is it worth a thread.
_LARGE = 4 * 1024 * 1024


async def _decode_aside(body: bytes) -> Record:
    return await asyncio.to_thread(decode, body)
