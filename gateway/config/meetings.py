"""Which tunnels of a configuration have to be compared with each other.

Looking at every pair of a thousand tunnels would take a minute.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping

from gateway.config.partial import attempt
from gateway.config.schema import TunnelConfig
from gateway.model import IpNetwork


def meetings(tunnels: Mapping[str, TunnelConfig]) -> list[tuple[str, str]]:
    """Pairs that have an IKE SA, both addresses or some remote address in common.

    Each pair once, both its tunnels and the pairs in the order of ``tunnels``.
    """
    found = _Meetings(tunnels)
    for name, tunnel in tunnels.items():
        attempt(found.by_ends, name, tunnel)
        attempt(found.by_connection, name, tunnel)
        attempt(found.by_network, name, tunnel)
    return found.pairs()


class _Meetings:
    """Tunnels by the places where they may meet another one."""

    def __init__(self, tunnels: Mapping[str, TunnelConfig]) -> None:
        self._order = {name: number for number, name in enumerate(tunnels)}
        self._lengths: dict[int, set[int]] = defaultdict(set)  # of prefixes, by IP version
        for tunnel in tunnels.values():
            attempt(self._note_lengths, tunnel)
        self._at: dict[Hashable, list[str]] = defaultdict(list)
        self._within: dict[Hashable, list[str]] = defaultdict(list)

    def _note_lengths(self, tunnel: TunnelConfig) -> None:
        for network in tunnel.remote_subnets:
            self._lengths[network.version].add(network.prefixlen)

    def by_ends(self, name: str, tunnel: TunnelConfig) -> None:
        self._meet(name, (tunnel.local, tunnel.remote))

    def by_connection(self, name: str, tunnel: TunnelConfig) -> None:
        self._meet(name, tunnel.connection)

    def by_network(self, name: str, tunnel: TunnelConfig) -> None:
        """Of two prefixes that overlap one contains the other."""
        for network in tunnel.remote_subnets:
            self._at[_prefix(network, network.prefixlen)].append(name)
            for length in self._lengths[network.version]:
                if length <= network.prefixlen:
                    self._within[_prefix(network, length)].append(name)

    def _meet(self, name: str, place: Hashable) -> None:
        self._at[place].append(name)
        self._within[place].append(name)

    def pairs(self) -> list[tuple[str, str]]:
        number = self._order
        pairs = {
            (one, other) if number[one] < number[other] else (other, one)
            for place, names in self._at.items()
            for one in names
            for other in self._within[place]
            if one != other
        }
        return sorted(pairs, key=lambda pair: (number[pair[0]], number[pair[1]]))


def _prefix(network: IpNetwork, length: int) -> tuple[int, int, int]:
    """The first ``length`` bits of a network's address."""
    bits = int(network.network_address) >> (network.max_prefixlen - length)
    return network.version, length, bits
