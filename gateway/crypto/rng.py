"""Where random bytes come from. Protocol cores take an Rng; they never call the system."""

from __future__ import annotations

import secrets
from typing import Protocol


class Rng(Protocol):
    """A source of unpredictable bytes."""

    def random_bytes(self, count: int) -> bytes: ...


class SystemRng:
    """The kernel's generator."""

    def random_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)
