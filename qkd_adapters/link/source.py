"""Where key blocks come from: the seam between the link and a QKD device, real or emulated."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from kms_client.secret import Secret
from qkd_adapters.link.messages import BLOCK_BITS

# A scheduler that was held up makes good at most this much of its schedule.
_MAX_CATCH_UP = 1.0  # seconds
MAX_RATE = 10_000.0  # keys per second


class QuantumState(StrEnum):
    UP = "up"
    DOWN = "down"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What the device says of itself. ``key_rate`` in 256-bit keys per second, now.

    ``suspect_age``: while suspect, seconds since the last moment known to be good.
    """

    state: QuantumState
    since: datetime
    alarms: tuple[str, ...]
    key_rate: float
    suspect_age: float | None = None


class KeySource(Protocol):
    """Both ends of one QKD link, seen as one source of identical key blocks."""

    @property
    def state(self) -> SourceState: ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every change of ``state``."""

    def blocks(self) -> AsyncIterator[Secret]:
        """Endless blocks of ``BLOCK_BITS``; waits while there are none."""


class Pacer:
    """Deadlines at a fixed rate that do not drift: each follows from the last, not from now."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.deadline = now + 1 / rate

    def set_rate(self, rate: float, now: float) -> None:
        self.rate = rate
        self.deadline = min(self.deadline, now + 1 / rate)

    def restart(self, now: float) -> None:
        self.deadline = now + 1 / self.rate

    def take(self, now: float) -> bool:
        """Whether a block is due; if so the next deadline is set."""
        if now < self.deadline:
            return False
        self.deadline += 1 / self.rate
        self.deadline = max(self.deadline, now - _MAX_CATCH_UP)
        return True


@dataclass(slots=True)
class _Faults:
    cut: bool = False
    suspicions: list[str] = field(default_factory=list)
    last_good: float | None = None  # clock reading, while suspect


class EmulatedSource:
    """Random blocks at a configured rate; can be cut, slowed and made suspect while running.

    While suspect it makes none: a key that would be quarantined at once is not worth a hand-over.
    """

    def __init__(
        self,
        *,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._pacer = Pacer(_check_rate(rate), clock())
        self._faults = _Faults()
        self._wake = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._since = wall_clock()

    @property
    def state(self) -> SourceState:
        state = self._quantum_state()
        alarms = ["quantum channel cut"] if self._faults.cut else []
        good = self._faults.last_good
        return SourceState(
            state=state,
            since=self._since,
            alarms=(*alarms, *self._faults.suspicions),
            key_rate=self._pacer.rate if state is QuantumState.UP else 0.0,
            suspect_age=None if good is None else self._clock() - good,
        )

    @property
    def rate(self) -> float:
        """The configured rate in keys per second, whether or not the link is cut."""
        return self._pacer.rate

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def cut(self) -> None:
        """The quantum channel is interrupted: no new keys."""
        with self._changing():
            self._faults.cut = True

    def heal(self) -> None:
        with self._changing():
            self._faults.cut = False
            self._pacer.restart(self._clock())

    def set_rate(self, rate: float) -> None:
        """Keys per second from now on. Raises ValueError."""
        with self._changing():
            self._pacer.set_rate(_check_rate(rate), self._clock())

    def suspect(self, text: str, *, since: float = 0.0) -> None:
        """Raise an eavesdropping alarm: all was well until ``since`` seconds ago."""
        with self._changing():
            good = self._clock() - since
            known = self._faults.last_good
            self._faults.last_good = good if known is None else min(good, known)
            if text not in self._faults.suspicions:
                self._faults.suspicions.append(text)

    def clear(self) -> None:
        """Withdraw every eavesdropping alarm."""
        with self._changing():
            self._faults.suspicions.clear()
            self._faults.last_good = None
            self._pacer.restart(self._clock())

    async def blocks(self) -> AsyncIterator[Secret]:
        while True:
            self._wake.clear()
            if self._quantum_state() is not QuantumState.UP:
                await self._wake.wait()
            elif self._pacer.take(self._clock()):
                yield Secret(secrets.token_bytes(BLOCK_BITS // 8))
                await asyncio.sleep(0)  # a source that catches up must not starve the rest
            else:
                await self._sleep(self._pacer.deadline - self._clock())

    async def _sleep(self, seconds: float) -> None:
        """Until the next block is due or something changed."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _quantum_state(self) -> QuantumState:
        if self._faults.cut:
            return QuantumState.DOWN
        return QuantumState.SUSPECT if self._faults.suspicions else QuantumState.UP

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Brackets one change, so that ``since`` moves exactly when the state does."""
        before = self._quantum_state()
        yield
        if self._quantum_state() is not before:
            self._since = self._wall_clock()
        self._wake.set()
        for callback in self._callbacks:
            callback()


def _check_rate(rate: float) -> float:
    if not 0 < rate <= MAX_RATE:
        raise ValueError(f"rate {rate:g} is not between 0 (exclusive) and {MAX_RATE:g} keys/s")
    return rate
