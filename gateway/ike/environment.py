"""What all sessions of an endpoint share: the outside world, as far as they may know it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gateway.crypto.kex import KexFactory
from gateway.crypto.rng import Rng
from gateway.ike.config import Timing
from gateway.ike.deadlines import Deadlines
from gateway.ike.desk import CommandDesk
from gateway.ike.limits import (
    PPK_FETCHES_PENDING_PER_CONNECTION,
    PPK_FETCHES_PENDING_PER_SOURCE,
)
from gateway.ike.outbox import Outbox
from gateway.model import IpAddress


class FetchLimit:
    """Key look-ups under way for peers that have not proved who they are."""

    __slots__ = ("_connections", "_sources")

    def __init__(self) -> None:
        self._sources: Counter[IpAddress] = Counter()
        self._connections: Counter[str] = Counter()

    def admit(self, source: IpAddress, connection: str) -> bool:
        """Whether one more may begin; if so it counts until ``release``."""
        if (
            self._sources[source] >= PPK_FETCHES_PENDING_PER_SOURCE
            or self._connections[connection] >= PPK_FETCHES_PENDING_PER_CONNECTION
        ):
            return False
        self._sources[source] += 1
        self._connections[connection] += 1
        return True

    def release(self, source: IpAddress, connection: str) -> None:
        self._sources[source] -= 1
        self._connections[connection] -= 1
        if not self._sources[source]:
            del self._sources[source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    rng: Rng
    kex: KexFactory
    timing: Timing
    outbox: Outbox
    deadlines: Deadlines
    desk: CommandDesk
    fetches: FetchLimit = field(default_factory=FetchLimit)
    record_keys: bool = False  # the lab's switch: IKE keys go out as RecordIkeKeys
