"""Networks of the lab as data.

An interface is called after the host at its other end: moon's interfaces are ``alice``,
``isp`` and ``kme-moon``. Nothing here touches a kernel; ``net`` builds what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)

from netns_lab.errors import LabError

IpAddress = IPv4Address | IPv6Address
IpInterface = IPv4Interface | IPv6Interface

_NAME_MAX = 15  # IFNAMSIZ - 1, linux/if.h: a host's name is an interface name elsewhere


class TopologyError(LabError):
    """A topology contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    name: str
    forwards: bool = False  # routes between its interfaces
    gateways: tuple[IpAddress, ...] = ()  # default routes, at most one per family


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a link: a host and the addresses its interface has."""

    host: str
    addresses: tuple[IpInterface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A cable between two hosts."""

    ends: tuple[End, End]

    @property
    def name(self) -> str:
        return f"{self.ends[0].host}-{self.ends[1].host}"

    @property
    def raw(self) -> bool:
        """It has no addresses: layer 2, which whoever uses it sets up."""
        return not any(end.addresses for end in self.ends)

    def interface(self, host: str) -> str:
        """Name of this link's interface on ``host``."""
        first, second = self.ends
        return second.host if first.host == host else first.host


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    hosts: tuple[Host, ...]
    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise TopologyError("; ".join(problems))

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self.hosts)
        raise TopologyError(f"no host {name!r} here; there are {names}")

    def link(self, first: str, second: str) -> Link:
        """The link between two hosts, in either order."""
        for link in self.links:
            if {end.host for end in link.ends} == {first, second}:
                return link
        raise TopologyError(f"no link between {first} and {second}")

    def addresses(self, host: str) -> tuple[IpInterface, ...]:
        """Every address of ``host``, in the order of its links."""
        return tuple(
            address
            for link in self.links
            for end in link.ends
            if end.host == host
            for address in end.addresses
        )


def _problems(topology: Topology) -> list[str]:
    found = []
    names = [host.name for host in topology.hosts]
    found += [f"host {name!r} twice" for name in _repeated(names)]
    found += [
        f"host name {name!r} is not 1 to {_NAME_MAX} characters"
        for name in names
        if not 0 < len(name) <= _NAME_MAX
    ]
    found += [f"link {name} twice" for name in _repeated([_cable(link) for link in topology.links])]
    addresses = [str(a.ip) for link in topology.links for end in link.ends for a in end.addresses]
    found += [f"address {address} twice" for address in _repeated(addresses)]
    for link in topology.links:
        found += [
            f"link {link.name} ends at unknown host {end.host!r}"
            for end in link.ends
            if end.host not in names
        ]
        first, second = ({address.network for address in end.addresses} for end in link.ends)
        if first != second:
            found.append(f"link {link.name}: its ends are in different networks")
        if link.ends[0].host == link.ends[1].host:
            found.append(f"link {link.name} joins a host to itself")
    for host in topology.hosts:
        found += _gateway_problems(topology, host)
    return found


def _gateway_problems(topology: Topology, host: Host) -> list[str]:
    networks = [address.network for address in topology.addresses(host.name)]
    found = [
        f"host {host.name}: gateway {gateway} is in none of its networks"
        for gateway in host.gateways
        if not any(gateway in network for network in networks)
    ]
    versions = [str(gateway.version) for gateway in host.gateways]
    found += [f"host {host.name}: two gateways for IPv{version}" for version in _repeated(versions)]
    return found


def _cable(link: Link) -> str:
    return "-".join(sorted(end.host for end in link.ends))


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _link(first: tuple[str, ...], second: tuple[str, ...]) -> Link:
    """``("moon", "10.1.0.1/24", ...)`` at each end."""
    ends = tuple(
        End(host=name, addresses=tuple(ip_interface(address) for address in addresses))
        for name, *addresses in (first, second)
    )
    return Link(ends=(ends[0], ends[1]))


def _host(name: str, *gateways: str, forwards: bool = False) -> Host:
    return Host(name=name, forwards=forwards, gateways=tuple(ip_address(g) for g in gateways))


# alice -- moon === isp === sun -- bob          The internet service provider knows no route to
#            |                 |                the sites' networks: what leaks in the clear is
#        kme-moon --------- kme-sun             seen at isp and goes nowhere.
SITE_TO_SITE = Topology(
    hosts=(
        _host("alice", "10.1.0.1", "fd01::1"),
        _host("moon", "10.0.12.2", "fd12::2", forwards=True),
        _host("isp", forwards=True),
        _host("sun", "10.0.23.2", "fd23::2", forwards=True),
        _host("bob", "10.2.0.1", "fd02::1"),
        _host("kme-moon"),
        _host("kme-sun"),
    ),
    links=(
        _link(("alice", "10.1.0.10/24", "fd01::10/64"), ("moon", "10.1.0.1/24", "fd01::1/64")),
        _link(("moon", "10.0.12.1/24", "fd12::1/64"), ("isp", "10.0.12.2/24", "fd12::2/64")),
        _link(("isp", "10.0.23.2/24", "fd23::2/64"), ("sun", "10.0.23.3/24", "fd23::3/64")),
        _link(("sun", "10.2.0.1/24", "fd02::1/64"), ("bob", "10.2.0.10/24", "fd02::10/64")),
        _link(("moon", "10.9.1.1/24"), ("kme-moon", "10.9.1.2/24")),
        _link(("sun", "10.9.2.1/24"), ("kme-sun", "10.9.2.2/24")),
        _link(("kme-moon", "10.9.0.1/24"), ("kme-sun", "10.9.0.2/24")),
    ),
)

# The same with a layer-2 link between the gateways, on which nothing runs yet.
METRO = replace(SITE_TO_SITE, links=(*SITE_TO_SITE.links, _link(("moon",), ("sun",))))
