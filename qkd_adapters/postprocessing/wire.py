"""Checked reading and writing of the octets of a message, and of arrays in it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing.errors import PeerMessageError

Bits = NDArray[np.uint8]
"""One bit per element, 0 or 1."""
Numbers = NDArray[np.int64]


class Writer:
    """Octets of one message, big-endian."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def number(self, value: int, octets: int = 8) -> None:
        self._parts.append(value.to_bytes(octets, "big"))

    def real(self, value: float) -> None:
        self._parts.append(struct.pack(">d", value))

    def octets(self, data: bytes) -> None:
        """With its length before it."""
        self.number(len(data), 4)
        self._parts.append(data)

    def text(self, text: str) -> None:
        self.octets(text.encode())

    def numbers(self, values: tuple[int, ...]) -> None:
        self.number(len(values), 1)
        for value in values:
            self.number(value)

    def bits(self, bits: Bits) -> None:
        """Their number, then eight to the octet."""
        self.number(len(bits), 4)
        self._parts.append(np.packbits(bits).tobytes())

    def finish(self) -> bytes:
        return b"".join(self._parts)


class Reader:
    """The other direction. Every method raises PeerMessageError for octets that end early."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def raw(self, count: int) -> memoryview:
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise PeerMessageError("message ends early")
        part = self._data[self._at : end]
        self._at = end
        return part

    def number(self, octets: int = 8) -> int:
        return int.from_bytes(self.raw(octets), "big")

    def real(self) -> float:
        value: float = struct.unpack(">d", self.raw(8))[0]
        if not np.isfinite(value):
            raise PeerMessageError("a number that is not finite")
        return value

    def octets(self, most: int) -> bytes:
        count = self.number(4)
        if count > most:
            raise PeerMessageError(f"{count} octets where {most} are the most")
        return bytes(self.raw(count))

    def text(self, most: int = 400) -> str:
        try:
            return self.octets(most).decode()
        except UnicodeDecodeError as error:
            raise PeerMessageError("text is not UTF-8") from error

    def numbers(self, most: int = 16) -> tuple[int, ...]:
        count = self.number(1)
        if count > most:
            raise PeerMessageError(f"{count} numbers where {most} are the most")
        return tuple(self.number() for _ in range(count))

    def bits(self, most: int) -> Bits:
        count = self.number(4)
        if count > most:
            raise PeerMessageError(f"{count} bits where {most} are the most")
        return unpack(self.raw((count + 7) // 8), count)

    def end(self) -> None:
        """Nothing may be left over."""
        if self._at != len(self._data):
            raise PeerMessageError("octets after the end of the message")


def pack(bits: Bits) -> bytes:
    """Eight to the octet, the first in the highest place, zeros at the end."""
    return np.packbits(bits).tobytes()


def unpack(octets: bytes | memoryview | NDArray[Any], count: int) -> Bits:
    """The first ``count`` bits. Raises PeerMessageError where there are fewer, or stray ones."""
    packed = np.frombuffer(octets, dtype=np.uint8)
    if len(packed) != (count + 7) // 8:
        raise PeerMessageError(f"{len(packed)} octets for {count} bits")
    if count % 8 and packed[-1] & (0xFF >> count % 8):
        raise PeerMessageError("bits beyond the last")
    return np.unpackbits(packed, count=count)
