"""Staying stateless under a flood of IKE_SA_INIT requests (RFC 7296 2.6), and rate limits."""

from __future__ import annotations

import hmac

from gateway.crypto.rng import Rng
from gateway.ike.limits import COOKIE_SECRET_LIFETIME
from gateway.model import IpAddress


class CookieJar:
    """Makes and checks cookies.

    ``cookie = version | HMAC-SHA-256(secret, Ni | IPi | SPIi)``: the construction RFC 7296
    2.6 suggests. The secret changes every minute; the one before it is still accepted.
    """

    __slots__ = ("_changed_at", "_current", "_previous", "_rng", "_version")

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._version = 0
        self._current = b""
        self._previous = b""
        self._changed_at = 0.0

    def make(self, nonce: bytes, source: IpAddress, spi_i: bytes, now: float) -> bytes:
        self._turn(now)
        return self._cookie(self._version, self._current, nonce, source, spi_i)

    def check(
        self, cookie: bytes, nonce: bytes, source: IpAddress, spi_i: bytes, now: float
    ) -> bool:
        """A wrong or outdated cookie counts as none (RFC 7296 2.6)."""
        self._turn(now)
        known = [(self._version, self._current)]
        if self._previous:
            known.append(((self._version - 1) & 0xFF, self._previous))
        return any(
            hmac.compare_digest(cookie, self._cookie(version, secret, nonce, source, spi_i))
            for version, secret in known
        )

    def _turn(self, now: float) -> None:
        age = now - self._changed_at
        if self._current and age < COOKIE_SECRET_LIFETIME:
            return
        self._previous = self._current if age < 2 * COOKIE_SECRET_LIFETIME else b""
        self._current = self._rng.random_bytes(32)
        self._version = (self._version + 1) & 0xFF
        self._changed_at = now

    @staticmethod
    def _cookie(
        version: int, secret: bytes, nonce: bytes, source: IpAddress, spi_i: bytes
    ) -> bytes:
        data = nonce + source.packed + spi_i
        return bytes((version,)) + hmac.digest(secret, data, "sha256")


class RateLimit:
    """A token bucket: ``rate`` per second on average, ``burst`` at once."""

    __slots__ = ("_burst", "_last", "_level", "_rate")

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._last = 0.0

    def allow(self, now: float) -> bool:
        self._level = min(self._burst, self._level + (now - self._last) * self._rate)
        self._last = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
