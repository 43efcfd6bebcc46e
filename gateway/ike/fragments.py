"""How much memory messages in fragments may take: per peer's address, and in all.

Fragments are kept only once their ICV was good, so it takes an IKE SA to fill this. But a
half-open one is enough, and that anybody can have who receives at the peer's address.
"""

from __future__ import annotations

from collections import Counter

from gateway.ike.limits import REASSEMBLY_MAX, REASSEMBLY_PER_SOURCE_MAX
from gateway.model import IpAddress


class FragmentMemory:
    """Octets of all fragments that wait for others."""

    __slots__ = ("_sources", "total")

    def __init__(self) -> None:
        self._sources: Counter[IpAddress] = Counter()
        self.total = 0

    def share(self, source: IpAddress) -> FragmentShare:
        """What the peers at one address may have."""
        return FragmentShare(self, source)

    def take(self, source: IpAddress, octets: int) -> bool:
        """Whether there is room; if so it is taken."""
        if (
            self.total + octets > REASSEMBLY_MAX
            or self._sources[source] + octets > REASSEMBLY_PER_SOURCE_MAX
        ):
            return False
        self.total += octets
        self._sources[source] += octets
        return True

    def give_back(self, source: IpAddress, octets: int) -> None:
        self.total -= octets
        self._sources[source] -= octets
        if not self._sources[source]:
            del self._sources[source]


class FragmentShare:
    """One IKE SA's way to it."""

    __slots__ = ("_memory", "_source")

    def __init__(self, memory: FragmentMemory, source: IpAddress) -> None:
        self._memory = memory
        self._source = source

    def take(self, octets: int) -> bool:
        return self._memory.take(self._source, octets)

    def give_back(self, octets: int) -> None:
        self._memory.give_back(self._source, octets)
