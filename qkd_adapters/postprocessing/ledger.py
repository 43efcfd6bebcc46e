"""Where every generated bit went. Nothing is made or lost unaccounted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Ledger:
    """Bits of one end since it started: generated = delivered + authentication + discarded + pool.

    ``pool``: in whole keys made, not yet handed over. ``discarded``: remainders too short for a
    key, and keys of blocks that the peer does not have. ``delivered``: handed to the KME.
    """

    delivered: int = 0
    authentication: int = 0
    discarded: int = 0
    pool: int = 0
    generated: int = 0

    def generate(self, *, keys: int, authentication: int, remainder: int) -> None:
        """A block's secret bits, as they were divided."""
        if min(keys, authentication, remainder) < 0:
            raise ValueError("a negative number of bits")
        self.generated += keys + authentication + remainder
        self.pool += keys
        self.authentication += authentication
        self.discarded += remainder

    def deliver(self, bits: int) -> None:
        """Keys were handed over. Raises ValueError for more than there are."""
        self._take(bits)
        self.delivered += bits

    def discard(self, bits: int) -> None:
        """Keys will not be handed over. Raises ValueError for more than there are."""
        self._take(bits)
        self.discarded += bits

    @property
    def balanced(self) -> bool:
        parts = self.delivered + self.authentication + self.discarded + self.pool
        return self.generated == parts

    def _take(self, bits: int) -> None:
        if not 0 <= bits <= self.pool:
            raise ValueError(f"{bits} bits from a pool of {self.pool}")
        self.pool -= bits
