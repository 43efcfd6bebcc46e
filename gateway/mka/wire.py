"""A bounds-checked cursor over received octets."""

from __future__ import annotations

from gateway.mka.errors import malformed


class Reader:
    """Reads big-endian integers and octet strings; MkpduError(MALFORMED) at the end."""

    __slots__ = ("_data", "_offset", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        """``what`` names the structure in errors, e.g. "MACsec SAK use"."""
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
            raise malformed(f"{self._what} ends early")
        self._offset = end
        return self._data[start:end]

    def rest(self) -> bytes:
        return self.octets(self.remaining)

    def u8(self) -> int:
        return self.octets(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.octets(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.octets(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.octets(8), "big")
