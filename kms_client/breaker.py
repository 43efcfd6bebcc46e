"""Circuit breaker: stops asking a KME that does not answer, and finds out when it does again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"  # requests go through
    OPEN = "open"  # no request until the cool-down is over
    HALF_OPEN = "half-open"  # the cool-down is over: one request may find out


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """Times in seconds. One lost answer can be chance (a kept-alive connection that the
    server had just closed), so it takes two to open."""

    failures: int = 2  # in a row
    cool_down: float = 5.0  # doubled each time the probe fails
    cool_down_max: float = 60.0


class Breaker:
    """Breaker of one KME. Sans-IO: every call is given the monotonic time ``now``."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._in_a_row = 0
        self._retry_at: float | None = None  # None: closed
        self._cool_down = settings.cool_down
        self._probing = False

    def state(self, now: float) -> BreakerState:
        if self._retry_at is None:
            return BreakerState.CLOSED
        if now < self._retry_at or self._probing:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def begin(self) -> bool:
        """A request is about to go out. False: another one is finding out already."""
        if self._retry_at is None:
            return True
        if self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._retry_at = None
        self._cool_down = self._settings.cool_down
        self._probing = False

    def failed(self, now: float) -> None:
        self._in_a_row += 1
        if self._probing:  # it was the probe: wait longer
            self._cool_down = min(2 * self._cool_down, self._settings.cool_down_max)
            self._retry_at = now + self._cool_down
        elif self._retry_at is None and self._in_a_row >= self._settings.failures:
            self._retry_at = now + self._cool_down
        self._probing = False

    def abandoned(self) -> None:
        """The request was cancelled: it proves nothing."""
        self._probing = False
