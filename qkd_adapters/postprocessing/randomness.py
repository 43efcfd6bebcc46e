"""Random octets as they are injected. Health tests of the source are the device's own task."""

from __future__ import annotations

from typing import Protocol


class Rng(Protocol):
    """A source of unpredictable octets."""

    def random_bytes(self, count: int) -> bytes: ...
