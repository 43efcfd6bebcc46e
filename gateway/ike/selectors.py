"""Traffic selectors (RFC 7296 3.13.1): wire form, networks, and narrowing (2.9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv6Address,
    collapse_addresses,
    ip_address,
    summarize_address_range,
)
from typing import Final, Self

from gateway.ike.limits import SELECTED_NETWORKS_MAX
from gateway.ike.registry import TsType
from gateway.ike.wire import Reader, syntax_error
from gateway.model import IpAddress, IpNetwork

_HEADER: Final = 8  # type, protocol, length, ports
_ADDRESS_SIZES: Final[dict[int, int]] = {TsType.IPV4_ADDR_RANGE: 4, TsType.IPV6_ADDR_RANGE: 16}
_MAX_PORT: Final = 65535
_MAX_SELECTORS: Final = 255  # their number is one octet, RFC 7296 3.13


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSelector:
    """A range of addresses and ports, both ends included. ``protocol`` 0 means any."""

    start: IpAddress
    end: IpAddress
    protocol: int = 0
    start_port: int = 0
    end_port: int = _MAX_PORT

    @classmethod
    def from_network(cls, network: IpNetwork) -> Self:
        """All traffic of one network."""
        return cls(start=network.network_address, end=network.broadcast_address)

    @property
    def any_traffic(self) -> bool:
        """No restriction to a protocol or to ports."""
        return not self.protocol and not self.start_port and self.end_port == _MAX_PORT

    def networks(self) -> tuple[IpNetwork, ...]:
        """The range as networks, in order."""
        match self.start, self.end:
            case IPv4Address() as first, IPv4Address() as last:
                return tuple(summarize_address_range(first, last))
            case IPv6Address() as first6, IPv6Address() as last6:
                return tuple(summarize_address_range(first6, last6))
            case _:
                raise ValueError("a range has addresses of one family")

    def encode(self) -> bytes:
        kind = TsType.IPV4_ADDR_RANGE if self.start.version == 4 else TsType.IPV6_ADDR_RANGE
        addresses = self.start.packed + self.end.packed
        length = _HEADER + len(addresses)
        return b"".join(
            (
                bytes((kind, self.protocol)),
                length.to_bytes(2, "big"),
                self.start_port.to_bytes(2, "big"),
                self.end_port.to_bytes(2, "big"),
                addresses,
            )
        )

    def __str__(self) -> str:
        networks = self.networks()
        text = str(networks[0]) if len(networks) == 1 else f"{self.start}-{self.end}"
        if self.any_traffic:
            return text
        return f"{text}[{self.protocol}/{self.start_port}-{self.end_port}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueSelector:
    """A selector of a type we do not know (e.g. RFC 9478's labels). Never chosen."""

    type: int
    protocol: int
    data: bytes  # everything after the length

    def encode(self) -> bytes:
        length = 4 + len(self.data)
        return bytes((self.type, self.protocol)) + length.to_bytes(2, "big") + self.data


Selector = TrafficSelector | OpaqueSelector


def decode_selector(reader: Reader) -> Selector:
    """The next selector of a TS payload."""
    kind = reader.u8()
    protocol = reader.u8()
    length = reader.u16()
    body = reader.octets(length - 4)
    size = _ADDRESS_SIZES.get(kind)
    if size is None:
        return OpaqueSelector(type=kind, protocol=protocol, data=body)
    if length != _HEADER + 2 * size:
        raise syntax_error(f"traffic selector of type {kind} has length {length}")
    start, end = ip_address(body[4 : 4 + size]), ip_address(body[4 + size :])
    if int(start) > int(end):
        raise syntax_error("traffic selector: range runs backwards")
    return TrafficSelector(
        start=start,
        end=end,
        protocol=protocol,
        start_port=int.from_bytes(body[:2], "big"),
        end_port=int.from_bytes(body[2:4], "big"),
    )


def from_networks(networks: Iterable[IpNetwork]) -> tuple[TrafficSelector, ...]:
    """One selector per network, all protocols and ports."""
    return tuple(TrafficSelector.from_network(network) for network in networks)


def narrow(offered: Sequence[Selector], ours: Sequence[IpNetwork]) -> tuple[IpNetwork, ...]:
    """The networks of ``ours`` that the peer offered too, collapsed (RFC 7296 2.9).

    Our policies are for whole networks, so selectors for single protocols or ports do not
    count: an initiator may put one in front to show the packet that woke it. Empty means
    TS_UNACCEPTABLE; what exceeds ``networks_max`` is left out.
    """
    most = networks_max(ours)
    four: list[IpNetwork] = []
    six: list[IpNetwork] = []
    for selector in offered:
        if isinstance(selector, OpaqueSelector) or not selector.any_traffic:
            continue
        for network in ours:
            found = _overlap(selector, network)
            (four if network.version == 4 else six).extend(found)
        if len(four) + len(six) > most:
            break
    return (*_collapse(four), *_collapse(six))[:most]


def networks_max(ours: Sequence[IpNetwork]) -> int:
    """How many networks one side of a Child SA may have: a range may fall into up to 254."""
    return max(SELECTED_NETWORKS_MAX, min(len(ours), _MAX_SELECTORS))


def covered(selectors: Sequence[Selector], networks: Sequence[IpNetwork]) -> bool:
    """Whether ``selectors`` name whole networks within ``networks``, and at least something.

    The initiator's check of what the responder narrowed to.
    """
    return bool(selectors) and all(
        isinstance(selector, TrafficSelector)
        and selector.any_traffic
        and any(_within(selector, network) for network in networks)
        for selector in selectors
    )


def _within(selector: TrafficSelector, network: IpNetwork) -> bool:
    return (
        selector.start.version == network.version
        and int(selector.start) >= int(network.network_address)
        and int(selector.end) <= int(network.broadcast_address)
    )


def _overlap(selector: TrafficSelector, network: IpNetwork) -> tuple[IpNetwork, ...]:
    if selector.start.version != network.version:
        return ()
    first = max(int(selector.start), int(network.network_address))
    last = min(int(selector.end), int(network.broadcast_address))
    if first > last:
        return ()
    if (first, last) == (int(network.network_address), int(network.broadcast_address)):
        return (network,)
    kind = IPv4Address if network.version == 4 else IPv6Address
    return TrafficSelector(start=kind(first), end=kind(last)).networks()


def _collapse(networks: list[IpNetwork]) -> list[IpNetwork]:
    # Each call has networks of one family, which the type cannot say.
    return list(collapse_addresses(networks))  # type: ignore[type-var]
