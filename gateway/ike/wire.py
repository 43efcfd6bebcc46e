"""A bounds-checked cursor over received octets."""

from __future__ import annotations

from gateway.ike.errors import ProtocolError
from gateway.ike.registry import NotifyType


def syntax_error(reason: str) -> ProtocolError:
    """ProtocolError(INVALID_SYNTAX)."""
    return ProtocolError(NotifyType.INVALID_SYNTAX, reason)


class Reader:
    """Reads big-endian integers and octet strings; ProtocolError(INVALID_SYNTAX) at the end."""

    __slots__ = ("_data", "_offset", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        """``what`` names the structure in errors, e.g. "SA payload"."""
        self._data = data
        self._offset = 0
        self._what = what

    @property
    def remaining(self) -> int:
        return len(self._data) - self._offset

    def octets(self, count: int) -> bytes:
        start = self._offset
        end = start + count
        if count < 0 or end > len(self._data):
            raise syntax_error(f"{self._what} ends early")
        self._offset = end
        return self._data[start:end]

    def rest(self) -> bytes:
        start = self._offset
        self._offset = len(self._data)
        return self._data[start:]

    def u8(self) -> int:
        at = self._offset
        if at >= len(self._data):
            raise syntax_error(f"{self._what} ends early")
        self._offset = at + 1
        return self._data[at]

    def u16(self) -> int:
        at = self._offset
        if at + 2 > len(self._data):
            raise syntax_error(f"{self._what} ends early")
        self._offset = at + 2
        return self._data[at] << 8 | self._data[at + 1]

    def u32(self) -> int:
        return int.from_bytes(self.octets(4), "big")

    def finish(self) -> None:
        """Nothing may be left."""
        if self.remaining:
            raise syntax_error(f"{self._what}: {self.remaining} octets too many")
