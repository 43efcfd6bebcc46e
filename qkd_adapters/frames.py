"""Frames on the streams between our processes: a four-octet big-endian length, then a body."""

from __future__ import annotations

import asyncio
import struct

from qkd_adapters.errors import FrameError

_LENGTH = struct.Struct("!I")
HEADER = _LENGTH.size


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


async def read_body(reader: asyncio.StreamReader, limit: int) -> bytes:
    """One frame's body of at most ``limit`` octets.

    Raises FrameError for a longer one, before any of it is read, and EOFError when the other
    end left.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(HEADER))
        if length > limit:
            raise FrameError(f"frame of {length} octets, at most {limit} are taken")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError("connection closed") from error
