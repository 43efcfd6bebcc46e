"""One heap of deadlines for everything in an endpoint that waits."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable

Action = Callable[[float], None]


class Deadlines:
    """Named deadlines. Setting one again moves it; an action runs once."""

    __slots__ = ("_counter", "_entries", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._entries: dict[Hashable, tuple[int, Action]] = {}
        self._counter = itertools.count()

    def set(self, key: Hashable, when: float, action: Action) -> None:
        """Run ``action(now)`` at ``when``. Replaces what was set under this key."""
        serial = next(self._counter)
        self._entries[key] = (serial, action)
        heapq.heappush(self._heap, (when, serial, key))

    def cancel(self, key: Hashable) -> None:
        """Forget a deadline; one that is not set is no error."""
        self._entries.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        self._discard_stale()
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: float) -> None:
        """Run every action whose time has come, earliest first."""
        while True:
            self._discard_stale()
            if not self._heap or self._heap[0][0] > now:
                return
            _, _, key = heapq.heappop(self._heap)
            _, action = self._entries.pop(key)
            action(now)

    def _discard_stale(self) -> None:
        while self._heap:
            _, serial, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry[0] == serial:
                return
            heapq.heappop(self._heap)
