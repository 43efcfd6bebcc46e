"""Keeps the daemon's tasks alive together, and tells the watchdog only about real progress."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

log = logging.getLogger("qsgw.supervise")

Clock = Callable[[], float]


class Supervisor:
    """Runs the long-lived tasks. The first vital one that ends by itself ends the daemon.

    A half-dead daemon is worse than a restarted one: systemd starts it again, and the SAs
    in the kernel carry the traffic meanwhile.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._vital: set[str] = set()
        self._beats: dict[str, tuple[float, float]] = {}  # name -> (last beat, longest allowed gap)
        self._failure = ""
        self._failed = asyncio.Event()

    def start(self, name: str, work: Coroutine[None, None, None], *, vital: bool = True) -> None:
        """Run ``work`` until ``stop``; it is not expected to return.

        One that is not ``vital`` may fail: that is logged, and tunnels go on without it.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = name
        if vital:
            self._vital.add(name)
        task.add_done_callback(self._ended)

    def expect_beats(self, name: str, gap: float) -> Callable[[], None]:
        """Register a loop that must beat at least every ``gap`` seconds; returns its beat."""

        def beat() -> None:
            self._beats[name] = (self._clock(), gap)

        beat()
        return beat

    def stalled(self) -> tuple[str, ...]:
        """Loops that have been silent for longer than they may."""
        now = self._clock()
        return tuple(name for name, (last, gap) in self._beats.items() if now - last > gap)

    async def wait_failure(self) -> str:
        """Wait until a task ends that should not; returns which and why."""
        await self._failed.wait()
        return self._failure

    async def stop(self) -> None:
        tasks = list(self._tasks)
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task, None)
        if name is None or task.cancelled():
            return
        error = task.exception()
        reason = f"task {name} ended" if error is None else f"task {name} failed: {error!r}"
        log.critical("%s", reason, exc_info=error)
        if name in self._vital and not self._failed.is_set():
            self._failure = reason
            self._failed.set()


async def feed_watchdog(supervisor: Supervisor, ping: Callable[[], None], interval: float) -> None:
    """Ping every ``interval`` seconds while every loop beats; stop pinging when one stalls."""
    while True:
        await asyncio.sleep(interval)
        stalled = supervisor.stalled()
        if stalled:
            log.error("watchdog not fed: %s made no progress", ", ".join(stalled))
        else:
            ping()
