"""The pseudo-random functions of IKEv2: HMAC with SHA-2 (RFC 4868), and prf+ (RFC 7296 2.13)."""

from __future__ import annotations

import hmac
from typing import Final

from gateway.crypto.algorithms import PrfId
from gateway.crypto.secret import Secret

_HASHES: Final = {
    PrfId.HMAC_SHA2_256: ("sha256", 32),
    PrfId.HMAC_SHA2_384: ("sha384", 48),
    PrfId.HMAC_SHA2_512: ("sha512", 64),
}
_MAX_BLOCKS: Final = 255  # the block counter is one octet (RFC 7296 2.13)


def _octets(value: Secret | bytes) -> bytes:
    return value.expose() if isinstance(value, Secret) else value


class Prf:
    """One negotiated PRF. Output size and preferred key size are equal for HMAC."""

    __slots__ = ("_hash", "id", "size")

    def __init__(self, prf_id: PrfId) -> None:
        self.id = prf_id
        self._hash, self.size = _HASHES[prf_id]  # size: output octets

    @property
    def key_size(self) -> int:
        """Preferred key length in octets: that of SK_d, SK_pi and SK_pr (RFC 7296 2.14)."""
        return self.size

    def compute(self, key: Secret | bytes, data: Secret | bytes) -> bytes:
        """``prf(key, data)``, ``size`` octets."""
        return hmac.digest(_octets(key), _octets(data), self._hash)

    def plus(self, key: Secret | bytes, seed: Secret | bytes, length: int) -> Secret:
        """``prf+(key, seed)`` cut to ``length`` octets. ValueError above 255 blocks."""
        if length > _MAX_BLOCKS * self.size:
            raise ValueError(f"prf+ cannot give {length} octets")
        raw_key, raw_seed = _octets(key), _octets(seed)
        block = b""
        out = bytearray()
        counter = 1
        while len(out) < length:
            block = hmac.digest(raw_key, block + raw_seed + bytes((counter,)), self._hash)
            out += block
            counter += 1
        return Secret(memoryview(out)[:length])
