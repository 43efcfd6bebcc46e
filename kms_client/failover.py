"""Several KMEs in order of preference, each behind its circuit breaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from kms_client.breaker import Breaker, BreakerSettings, BreakerState
from kms_client.errors import (
    KmeEmptyError,
    KmeError,
    KmeRefusedError,
    KmeUnauthorizedError,
    NoKeyError,
)
from kms_client.events import LinkEvent
from kms_client.models import QkdKey, Status
from kms_client.watch import PeerWatch

_Result = TypeVar("_Result")


class Kme(Protocol):
    """What the group needs of one KME; ``KmeClient`` is the real one."""

    name: str
    url: str

    async def status(self, peer_sae: str) -> Status: ...

    async def enc_keys(
        self, peer_sae: str, *, number: int = 1, size: int = 256
    ) -> tuple[QkdKey, ...]: ...

    async def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[QkdKey, ...]: ...

    def events(self, peer_sae: str, path: str) -> AsyncGenerator[LinkEvent]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeHealth:
    """One KME as the group sees it."""

    name: str
    url: str
    healthy: bool  # it answers properly; having no keys to give is a proper answer
    active: bool  # the one keys come from now
    last_error: str | None  # None once it has answered properly again
    requests: int
    failures: int  # requests without a proper answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """New keys, and the name of the KME that gave them."""

    kme: str
    keys: tuple[QkdKey, ...]


class KmeGroup:
    """Asks KMEs in order until one delivers; raises NoKeyError with every cause when none does.

    A KME that fails is passed over until its cool-down is over; then the next request finds
    out whether it is back, so the preferred KME is returned to by itself. When nobody else is
    left to ask, a KME is asked although its breaker is open: a key that may be there is worth
    more than a request saved. Requests of one call go out one after the other, never twice to
    the same KME. KMEs to ``avoid``, by name, are asked after the others that answer.
    """

    def __init__(
        self,
        clients: Sequence[Kme],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        settings: BreakerSettings | None = None,
    ) -> None:
        if not clients:
            raise ValueError("a group needs at least one KME")
        self._members = tuple(_Member(client, settings or BreakerSettings()) for client in clients)
        self._clock = clock
        self._sleep = sleep
        self._watches: dict[str, PeerWatch] = {}  # by peer SAE
        self._deliverer: _Member | None = None

    async def status(self, peer_sae: str, *, avoid: Collection[str] = ()) -> tuple[str, Status]:
        """Name and status of the first KME that gives one."""
        answer, member = await self._ask(
            peer_sae, lambda kme: kme.status(peer_sae), for_key=False, avoid=avoid
        )
        return member.kme.name, answer

    async def enc_keys(
        self, peer_sae: str, *, number: int = 1, size: int = 256, avoid: Collection[str] = ()
    ) -> Delivery:
        """New keys as master SAE, 1..``number`` of them, all from one KME."""
        keys, self._deliverer = await self._ask(
            peer_sae, lambda kme: kme.enc_keys(peer_sae, number=number, size=size), avoid=avoid
        )
        return Delivery(kme=self._deliverer.kme.name, keys=keys)

    async def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[QkdKey, ...]:
        """Keys the peer has named. One that does not know them hands over to the next KME."""
        keys, self._deliverer = await self._ask(
            peer_sae, lambda kme: kme.dec_keys(peer_sae, key_ids), by_key_id=True
        )
        return keys

    def watch(self, peer_sae: str) -> PeerWatch:
        """The one look at status and link that all who need keys for this peer share."""
        watch = self._watches.get(peer_sae)
        if watch is None:
            watch = PeerWatch(self, peer_sae, clock=self._clock, sleep=self._sleep)
            self._watches[peer_sae] = watch
        return watch

    async def events(self, kme: str, peer_sae: str, path: str) -> AsyncGenerator[LinkEvent]:
        """The event stream of the KME of that name; ends with a KmeError, which is counted.

        It says nothing about whether keys can be had, so the breaker is left alone.
        """
        member = next(each for each in self._members if each.kme.name == kme)
        member.requests += 1
        try:
            async with aclosing(member.kme.events(peer_sae, path)) as events:
                async for event in events:
                    yield event
        except KmeError:
            member.failures += 1
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """As preferred."""
        return tuple(member.kme.name for member in self._members)

    def has_other_than(self, avoid: Collection[str]) -> bool:
        """Whether a KME that answers is left when these are avoided."""
        return any(not each.broken and each.kme.name not in avoid for each in self._members)

    def health(self) -> tuple[KmeHealth, ...]:
        active = self._active()
        return tuple(
            KmeHealth(
                name=member.kme.name,
                url=member.kme.url,
                healthy=not member.broken,
                active=member is active,
                last_error=member.last_error,
                requests=member.requests,
                failures=member.failures,
            )
            for member in self._members
        )

    async def close(self) -> None:
        for member in self._members:
            await member.kme.close()

    def _active(self) -> _Member | None:
        if self._deliverer is not None and not self._deliverer.broken:
            return self._deliverer
        return next((member for member in self._members if not member.broken), None)

    async def _ask(
        self,
        peer_sae: str,
        request: Callable[[Kme], Awaitable[_Result]],
        *,
        by_key_id: bool = False,
        for_key: bool = True,
        avoid: Collection[str] = (),
    ) -> tuple[_Result, _Member]:
        now = self._clock()
        wanted = {BreakerState.CLOSED}
        if not by_key_id:  # a peer waits for the answer to dec_keys: others find out
            wanted.add(BreakerState.HALF_OPEN)
        usable = [member for member in self._members if member.breaker.state(now) in wanted]
        usable.sort(key=lambda member: member.kme.name in avoid)
        causes: list[KmeError] = []
        for member in usable + [each for each in self._members if each not in usable]:
            if not member.breaker.begin():
                causes.append(KmeError(member.kme.name, member.last_error or "is being probed"))
                continue
            try:
                result = await self._ask_one(member, request, by_key_id=by_key_id, for_key=for_key)
            except KmeError as error:
                causes.append(error)
            else:
                return result, member
        raise NoKeyError(peer_sae, tuple(causes))

    async def _ask_one(
        self,
        member: _Member,
        request: Callable[[Kme], Awaitable[_Result]],
        *,
        by_key_id: bool,
        for_key: bool,
    ) -> _Result:
        member.requests += 1
        try:
            result = await request(member.kme)
        except KmeError as error:
            if _answered(error, by_key_id=by_key_id):
                member.answered(for_key=for_key)
            else:
                member.failed(error, self._clock(), for_key=for_key)
            raise
        except BaseException:
            member.breaker.abandoned()
            raise
        member.answered(for_key=for_key)
        return result


class _Member:
    """A KME with its breaker and counters."""

    def __init__(self, kme: Kme, settings: BreakerSettings) -> None:
        self.kme = kme
        self.breaker = Breaker(settings)
        self.broken = False
        self.last_error: str | None = None
        self.requests = 0
        self.failures = 0
        self._fails_keys = False  # the last request for a key got no proper answer

    def answered(self, *, for_key: bool) -> None:
        if self._fails_keys and not for_key:  # a good status is no sign that keys come
            self.breaker.abandoned()
            return
        self._fails_keys = False
        self.breaker.succeeded()
        self.broken = False
        self.last_error = None

    def failed(self, error: KmeError, now: float, *, for_key: bool) -> None:
        self.failures += 1
        if for_key or not self._fails_keys:
            self.last_error = error.what
        self._fails_keys = self._fails_keys or for_key
        self.breaker.failed(now)
        self.broken = self.breaker.state(now) is not BreakerState.CLOSED


def _answered(error: KmeError, *, by_key_id: bool) -> bool:
    """Whether this refusal is the answer of a KME that works.

    No keys now, a request it cannot meet, a key_ID it does not know or (dec_keys only) that
    belongs to another pair of SAEs. Refusing us altogether is no proper answer.
    """
    if isinstance(error, KmeUnauthorizedError):
        return by_key_id
    return isinstance(error, KmeEmptyError | KmeRefusedError)
