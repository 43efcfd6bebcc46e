"""Key bytes that cannot leak by accident.

Lives here, at the bottom of the import order, because every part that touches key
bytes needs it; the gateway re-exports it as ``gateway.crypto.secret``.
"""

from __future__ import annotations

import hmac
from typing import NoReturn

__all__ = ["Secret"]


class Secret:
    """A buffer of key bytes: no repr, no JSON, no pickling, wiped on request.

    ``expose()`` is the only way to the bytes, so a search for it finds every place where
    key bytes are handled. Wiping overwrites our own buffer; copies that a library made
    (OpenSSL, the kernel) are outside our reach and are documented as such.
    """

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer = bytearray(data)
        self._wiped = False

    def expose(self) -> bytes:
        """The key bytes. Raises ValueError after ``wipe()``."""
        if self._wiped:
            raise ValueError("secret was wiped")
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite the bytes with zeros; later use raises ValueError. Idempotent."""
        self._buffer[:] = bytes(len(self._buffer))  # same size: overwritten in place
        self._wiped = True

    @property
    def wiped(self) -> bool:
        return self._wiped

    def __len__(self) -> int:
        return len(self._buffer)

    def __eq__(self, other: object) -> bool:
        """Constant-time comparison with another Secret."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._buffer, other._buffer)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Secret {'wiped' if self._wiped else f'{len(self._buffer)} bytes'}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def __del__(self) -> None:
        buffer = getattr(self, "_buffer", None)
        if buffer is not None:
            buffer[:] = bytes(len(buffer))
