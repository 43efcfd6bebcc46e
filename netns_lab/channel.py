"""Several conversations over one stream: how a terminal outside talks to the lab inside.

A frame is: length of the rest (u32), kind (one octet), channel (u32), payload. Between the
keeper outside and the agent inside a channel is one command; between a terminal and the
keeper the channel is always 0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

_HEADER = struct.Struct("!IcI")
_PAYLOAD_MAX = 64 * 1024  # octets; longer output goes in several frames

MAGIC = b"\0qsgw-lab agent\n"
"""The agent's first octets: before it, a serial line may carry noise of the boot."""


class Kind(Enum):
    """Who sends it, and what the payload is."""

    REQUEST = b"q"  # terminal: JSON object
    STDIN = b"i"  # terminal: octets; none = end of file
    SIGNAL = b"s"  # terminal: a signal's number as text
    SIZE = b"w"  # terminal: "ROWS COLUMNS"
    HANG_UP = b"h"  # terminal: gone, end the command
    STDOUT = b"o"  # lab: octets
    STDERR = b"e"  # lab: octets
    ANSWER = b"a"  # lab: text; the conversation is over and went well
    EXIT = b"x"  # lab: exit code as text; the conversation is over
    FAILURE = b"f"  # lab: text for the user; the conversation is over


LAST = {Kind.ANSWER, Kind.EXIT, Kind.FAILURE}
"""Kinds that end a conversation."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    channel: int
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """The frame on the wire; a long payload as several frames."""
    parts = [
        frame.payload[start : start + _PAYLOAD_MAX]
        for start in range(0, len(frame.payload), _PAYLOAD_MAX)
    ]
    return b"".join(
        _HEADER.pack(_HEADER.size - 4 + len(part), frame.kind.value, frame.channel) + part
        for part in parts or [b""]
    )


class Decoder:
    """Cuts a stream of octets into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Every frame that ``data`` completes. Raises ValueError for what is no frame."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= _HEADER.size:
            length, kind, channel = _HEADER.unpack_from(self._buffer)
            if not _HEADER.size - 4 <= length <= _HEADER.size - 4 + _PAYLOAD_MAX:
                raise ValueError(f"a frame of {length} octets")
            if len(self._buffer) < 4 + length:
                break
            payload = bytes(self._buffer[_HEADER.size : 4 + length])
            frames.append(Frame(Kind(kind), channel, payload))
            del self._buffer[: 4 + length]
        return frames
