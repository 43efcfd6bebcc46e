"""Random octets as they are injected, and the health tests of a device's own source."""

from __future__ import annotations

from typing import Protocol


class Rng(Protocol):
    """A source of unpredictable octets."""

    def random_bytes(self, count: int) -> bytes: ...
