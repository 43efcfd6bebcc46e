"""Names of keys: both ends derive the same without a word."""

from __future__ import annotations

import hashlib
import uuid

# Our own name space for RFC 9562 section 5.8, "custom" UUIDs of version 8.
_LABEL = b"qsgw key name\x00"


def key_id(link: str, block: int, seed: bytes, index: int) -> str:
    """Canonical UUID of key ``index`` of ``block``.

    ``seed``: that of the block's privacy amplification, random and public. It makes names differ
    where a device starts to count blocks anew.
    """
    name = link.encode()
    material = b"".join(
        (
            _LABEL,
            len(name).to_bytes(4, "big") + name,
            block.to_bytes(8, "big"),
            index.to_bytes(8, "big"),
            hashlib.sha256(seed).digest(),
        )
    )
    value = int.from_bytes(hashlib.sha256(material).digest()[:16], "big")
    value = value & ~(0xF << 76) | 8 << 76  # version 8
    value = value & ~(0b11 << 62) | 0b10 << 62  # variant of RFC 9562
    return str(uuid.UUID(int=value))
