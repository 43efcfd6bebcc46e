"""Keys of one peer, fetched ahead of need, so that a rekey never waits for a KME.

We are master SAE for these keys. One task keeps the stock filled; it waits on an event or a
timer, never in a loop that spins. What the KMEs say of themselves comes from the watch that all
pools of one group and peer share (``kms_client.watch``).

Keys are asked for one at a time: an answer that is lost costs one key, and a KME that has some
keys but fewer than asked for, or allows fewer in one request, still gives what it has.

The pool remembers which KME a key came from, and is told whether the peer took it: what follows
for the order of the KMEs is decided in ``kms_client.marks``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kms_client.errors import KmeRefusedError, NoKeyError
from kms_client.etsi014 import MIN_KEY_SIZE
from kms_client.failover import KmeGroup
from kms_client.marks import PeerMarks
from kms_client.models import LinkReport, LinkState, QkdKey, Status
from kms_client.rate import RateEstimator
from kms_client.tasks import pause, start
from kms_client.watch import Look, SeenLink

MAX_TARGET = 128  # keys; as the configuration allows

MAX_OUT = 64
"""Keys taken of which no outcome was heard yet; a handful, unless somebody never reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Numbers of keys, and seconds. ``target`` 0 fetches nothing ahead and only polls."""

    target: int = 4  # filled up to this many
    low_water: int = 2  # filled up again once no more are left; below target in any case
    key_size: int = 256  # bits
    max_age: float = 900.0  # older keys are burned: the peer's KME may have forgotten them
    poll_interval: float = 5.0  # between two looks at the KME's status, at most
    retry_min: float = 0.5  # first pause after a failure; doubled each time
    retry_max: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.target <= MAX_TARGET:
            raise ValueError(f"target must be 0..{MAX_TARGET} keys")
        if self.low_water < 0:
            raise ValueError("low_water must not be negative")
        if self.key_size % 8 or self.key_size < MIN_KEY_SIZE:
            raise ValueError(f"key_size must be a multiple of 8, at least {MIN_KEY_SIZE} bits")
        if min(self.max_age, self.poll_interval, self.retry_min) <= 0:
            raise ValueError("times must be above zero")
        if self.retry_max < self.retry_min:
            raise ValueError("retry_max must not be below retry_min")

    @property
    def wanted(self) -> int:
        """With fewer keys than this the pool asks for more."""
        return min(self.low_water + 1, self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStock:
    """What a pool holds and knows. Times are readings of the pool's clock."""

    ready: int
    key_ids: tuple[str, ...]  # of the keys that are ready, the one to be taken first in front
    target: int
    stored_at_kme: int | None  # None: no status, or the last look failed
    rate: float  # keys per second, see kms_client.rate
    last_error: str | None  # None while the KMEs answer properly and deliver
    last_delivery: float | None
    burned: int  # delivered to us and dropped unused: too old, quarantined, left at stop
    link: LinkReport | None  # as last reported; kept while no status can be had
    link_at: float | None = None  # no later than when the KME said so


class KeyPool:
    """A small stock of fresh keys for one peer SAE.

    ``sleep`` and ``jitter`` (0..1, spreads the retries of many tunnels) are for tests.
    ``on_change`` is called, on the event loop, whenever ``stock()`` has changed.
    """

    def __init__(
        self,
        group: KmeGroup,
        *,
        peer_sae: str,
        settings: PoolSettings,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._group = group
        self._peer_sae = peer_sae
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._sleep = sleep
        self._jitter = jitter
        self._held: deque[_Held] = deque()  # oldest first; at most twice the target
        self._out: dict[str, str] = {}  # key_IDs taken, no outcome yet -> KME, oldest first
        self._marks = PeerMarks(group.names, look_first=2 * settings.poll_interval)
        self._watch = group.watch(peer_sae)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._filling = True
        self._failures = 0  # pulls in a row that brought nothing
        self._retry_at = 0.0
        self._epoch = 0  # moves on with every quarantine
        self._status: Status | None = None
        self._looked_at: str | None = None  # the KME that ``_link`` is of
        self._link: SeenLink | None = None
        self._rate = RateEstimator(clock())
        self._pull_error: str | None = None
        self._status_error: str | None = None
        self._last_delivery: float | None = None
        self._burned = 0

    # --- use ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to fill. Needs a running event loop."""
        if self._task is None:
            self._task = start(self._keep_filled(), name=f"keys of {self._peer_sae}")
            self._watch.join(self)

    async def stop(self) -> None:
        """Stop and wipe what is left. The group stays open."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._watch.leave(self)
        self._epoch += 1
        self._burn(lambda _: True)

    def take(self) -> QkdKey | None:
        """The oldest key that is not too old, at once; None when there is none."""
        self._burn_old()
        held = self._held.popleft() if self._held else None
        self._wake.set()
        if held is None:
            return None
        self._out[held.key.key_id] = held.kme
        if len(self._out) > MAX_OUT:
            del self._out[next(iter(self._out))]
        self._on_change()
        return held.key

    def report(self, key_id: str, *, taken: bool | None) -> None:
        """What became of a key: the peer took it, did not take it, or (None) never said.

        Once the peer did not take one, those we hold are dropped, see docs/architecture.md.
        """
        kme = self._out.pop(key_id, None)
        if kme is None or taken is None:
            return
        if taken:
            if self._marks.taken(kme, self._clock()):
                self._on_change()
            return
        self._marks.refused(kme, self._clock())
        self.drop()
        self._on_change()

    @property
    def refused(self) -> tuple[str, ...]:
        """KMEs whose last key that the peer answered to was not taken."""
        return self._marks.standing

    def drop(self) -> int:
        """Wipe every key held or on its way; new ones are fetched. Returns how many were held."""
        return self.quarantine(float("-inf"))

    def quarantine(self, since: float) -> int:
        """Wipe the keys delivered at or after ``since``, those now on their way included.

        Returns how many were held.
        """
        self._epoch += 1
        dropped = self._burn(lambda held: held.delivered >= since)
        self._wake.set()
        return dropped

    def stock(self) -> PoolStock:
        now = self._clock()
        ready = [held.key.key_id for held in self._held if not self._too_old(held, now)]
        return PoolStock(
            ready=len(ready),
            key_ids=tuple(ready),
            target=self._settings.target,
            stored_at_kme=self._status.stored_key_count if self._status else None,
            rate=self._rate.rate,
            last_error=self._pull_error or self._status_error,
            last_delivery=self._last_delivery,
            burned=self._burned,
            link=None if self._link is None else self._link.report,
            link_at=None if self._link is None else self._link.at,
        )

    # --- stock -------------------------------------------------------------------------------

    def _too_old(self, held: _Held, now: float) -> bool:
        return now >= held.delivered + self._settings.max_age

    def _burn_old(self) -> None:
        now = self._clock()
        self._burn(lambda held: self._too_old(held, now))

    def _burn(self, condemned: Callable[[_Held], bool]) -> int:
        kept: deque[_Held] = deque()
        for held in self._held:
            if condemned(held):
                held.key.key.wipe()
            else:
                kept.append(held)
        dropped = len(self._held) - len(kept)
        self._held = kept
        self._burned += dropped
        if dropped:
            self._on_change()
        return dropped

    def _is_missing(self, now: float) -> bool:
        """Whether to ask for a key now. Keys about to be too old do not count as stock."""
        renew_at = 0.9 * self._settings.max_age
        fresh = sum(1 for held in self._held if now < held.delivered + renew_at)
        if fresh < self._settings.wanted:
            self._filling = True
        if fresh >= self._settings.target:
            self._filling = False
        return self._filling and not self._suspect()

    def _suspect(self) -> bool:
        # Keys made while an eavesdropper may be listening would only be quarantined.
        return self._link is not None and self._link.report.state is LinkState.SUSPECT

    # --- filling -----------------------------------------------------------------------------

    async def _keep_filled(self) -> None:
        while True:
            self._burn_old()
            now = self._clock()
            missing = self._is_missing(now)
            if missing and now >= self._retry_at:
                await self._pull()
                continue
            seconds = self._next_look(now, waiting=missing)
            await pause(seconds, self._wake, sleep=self._sleep)

    def _next_look(self, now: float, *, waiting: bool) -> float:
        """Seconds until something is due by itself: a retry, a renewal, the end of a key."""
        due = [self._retry_at] if waiting else []
        for held in self._held:
            age_limit = self._settings.max_age
            renew = held.delivered + 0.9 * age_limit
            due.append(renew if renew > now else held.delivered + age_limit)
        return max(0.0, min(due, default=now + self._settings.max_age) - now)

    async def _pull(self) -> None:
        epoch = self._epoch
        unseen = {held.kme for held in self._held} | set(self._out.values())
        try:
            delivery = await self._group.enc_keys(
                self._peer_sae,
                number=1,
                size=self._settings.key_size,
                avoid=self._marks.avoided(self._clock(), unseen),
            )
        except NoKeyError as error:
            self._pull_failed(error)
            return
        (key,) = delivery.keys
        now = self._clock()
        self._failures = 0
        self._pull_error = None
        self._rate.drawn(1)
        if epoch != self._epoch:  # quarantined on the way
            key.key.wipe()
            self._burned += 1
        else:
            self._held.append(_Held(key, now, delivery.kme))
            self._last_delivery = now
        self._on_change()

    def _pull_failed(self, error: NoKeyError) -> None:
        self._failures += 1
        self._rate.shortage()
        self._pull_error = str(error)
        ceiling = self._settings.retry_min * 2.0 ** min(self._failures - 1, 16)
        pause = min(ceiling, self._settings.retry_max) * (0.5 + 0.5 * self._jitter())
        self._retry_at = self._clock() + pause
        self._on_change()

    # --- what the watch tells (kms_client.watch.Watcher) ---------------------------------------

    @property
    def poll_interval(self) -> float:
        return self._settings.poll_interval

    def resting(self) -> frozenset[str]:
        return self._marks.resting(self._clock())

    def looked(self, look: Look) -> bool:
        """Status of the KME that keys are to come from. A marked one's link must not be down."""
        now = self._clock()
        down = look.link is not None and look.link.report.state is LinkState.DOWN
        others = self._group.has_other_than(self.resting() | {look.kme})
        if down and others and self._marks.postpone(look.kme, now):
            return True
        status = look.status
        self._status, self._status_error = status, None
        self._looked_at, self._link = look.kme, look.link
        capacity = status.max_key_count
        self._rate.look(
            now,
            stored=status.stored_key_count,
            full=bool(capacity) and (status.stored_key_count or 0) >= (capacity or 0),
            source=str(status.source_KME_ID),
        )
        if status.stored_key_count and not self._suspect():
            self._try_now()
        self._on_change()
        return False

    def look_failed(self, error: NoKeyError) -> None:
        self._status = None
        # A KME without this call still gives keys: that is no trouble worth showing.
        refused = all(isinstance(cause, KmeRefusedError) for cause in error.causes)
        self._status_error = None if refused else str(error)
        self._rate.look(self._clock(), stored=None)
        self._on_change()

    def heard(self, kme: str, link: SeenLink) -> None:
        if kme != self._looked_at:
            return
        before, self._link = self._link, link
        is_up = link.report.state is LinkState.UP
        if is_up and (before is None or before.report.state is not LinkState.UP):
            self._try_now()
        self._on_change()

    def _try_now(self) -> None:
        """Keys are back: do not sit out a long pause."""
        self._retry_at = self._clock()
        self._wake.set()


@dataclass(frozen=True, slots=True)
class _Held:
    key: QkdKey
    delivered: float  # reading of the pool's clock
    kme: str  # that delivered it
