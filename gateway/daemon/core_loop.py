"""The loop around a protocol core without I/O: one input at a time, drained, one timer armed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

AFTER_FAULT = 1.0  # seconds; a deadline that fails each time must not spin


class Core(Protocol):
    """A core that reads no clock. Monotonic seconds."""

    def handle_timer(self, now: float) -> None: ...

    def next_deadline(self) -> float | None: ...


class CoreLoop:
    """Everything that enters the core goes through ``run``. Every method returns at once."""

    def __init__(
        self, core: Core, *, drain: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """``drain`` collects all that the core has to say and passes it on, in order."""
        self._core = core
        self._drain = drain
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for = 0.0  # the deadline it is set to
        self._draining = False
        self._closed = False

    def run(self, step: Callable[[], None]) -> None:
        """Do one thing to the core, then drain it and re-arm the timer.

        Whoever is told of an event may itself call ``run``; the outer call then does the
        draining, so events are always handled in the order they happened.
        """
        if self._draining:
            step()
            return
        self._draining = True
        pause = AFTER_FAULT
        try:
            step()
            self._drain()
            pause = 0.0
        finally:  # a fault in one exchange must not stop the clock of all the others
            self._draining = False
            self._arm(pause)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, pause: float) -> None:
        if self._closed:
            return
        deadline = self._core.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            # One that comes too early costs less than setting it anew for each datagram.
            if self._timer_for <= deadline and not pause:
                return
            self._timer.cancel()
        self._timer_for = deadline
        delay = max(pause, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self.run(lambda: self._core.handle_timer(self._clock()))
