"""What all sessions of an endpoint share: the outside world, as far as they may know it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gateway.crypto.kex import KexFactory
from gateway.crypto.rng import Rng
from gateway.ike.config import Timing
from gateway.ike.cookies import RateLimit
from gateway.ike.deadlines import Deadlines
from gateway.ike.desk import CommandDesk
from gateway.ike.fragments import FragmentMemory
from gateway.ike.limits import (
    IKE_SPI_SIZE,
    PPK_FETCHES_BURST,
    PPK_FETCHES_PENDING_PER_CONNECTION,
    PPK_FETCHES_PENDING_PER_SOURCE,
    PPK_FETCHES_PER_SECOND,
)
from gateway.ike.message import NO_SPI
from gateway.ike.outbox import Outbox
from gateway.model import IpAddress


class FetchLimit:
    """Key look-ups for peers that have not proved who they are: how many, and how often.

    Whoever ends IKE_SA_INIT himself in the peer's name can have keys he has seen named burned,
    and make the KME work for keys that do not exist.
    """

    __slots__ = ("_connections", "_rates", "_sources")

    def __init__(self) -> None:
        self._sources: Counter[IpAddress] = Counter()
        self._connections: Counter[str] = Counter()
        self._rates: dict[str, RateLimit] = {}

    def admit(self, source: IpAddress, connection: str, now: float) -> bool:
        """Whether one more may begin; if so it counts until ``release``."""
        if (
            self._sources[source] >= PPK_FETCHES_PENDING_PER_SOURCE
            or self._connections[connection] >= PPK_FETCHES_PENDING_PER_CONNECTION
        ):
            return False
        fresh = RateLimit(rate=PPK_FETCHES_PER_SECOND, burst=PPK_FETCHES_BURST)
        if not self._rates.setdefault(connection, fresh).allow(now):
            return False
        self._sources[source] += 1
        self._connections[connection] += 1
        return True

    def release(self, source: IpAddress, connection: str) -> None:
        self._sources[source] -= 1
        self._connections[connection] -= 1
        if not self._sources[source]:
            del self._sources[source]


class IkeSpis:
    """Our SPIs: of the IKE SAs there are, and of those in the making."""

    __slots__ = ("_rng", "_taken")

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._taken: set[bytes] = {NO_SPI}

    def draw(self) -> bytes:
        """One that is free; it stays taken until ``release``."""
        while (spi := self._rng.random_bytes(IKE_SPI_SIZE)) in self._taken:
            pass
        self._taken.add(spi)
        return spi

    def release(self, spi: bytes) -> None:
        self._taken.discard(spi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    rng: Rng
    kex: KexFactory
    timing: Timing
    outbox: Outbox
    deadlines: Deadlines
    desk: CommandDesk
    spis: IkeSpis
    fetches: FetchLimit = field(default_factory=FetchLimit)
    fragments: FragmentMemory = field(default_factory=FragmentMemory)
    record_keys: bool = False  # the lab's switch: IKE keys go out as RecordIkeKeys
