"""A clock that moves only when a test says so, with a sleep that follows it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)


class FakeClock:
    """Monotonic seconds. ``sleep`` ends when ``advance`` has moved the clock far enough."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.sleeps = 0  # begun so far
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        done = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), done))
        await done

    async def advance(self, seconds: float) -> None:
        """Move on by ``seconds``, waking sleepers in order, each at its own moment."""
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, done = heapq.heappop(self._sleepers)
            self.now = max(self.now, due)
            if not done.done():
                done.set_result(None)
            await settle()
        self.now = end
        await settle()
