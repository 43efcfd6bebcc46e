"""What must hold of ``[macsec.NAME]``, between its keys, and with the other tables."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from itertools import combinations

from gateway.config.partial import attempt, readable
from gateway.config.problems import Problems, TableProblems, did_you_mean
from gateway.config.schema import MacsecConfig, TunnelConfig
from gateway.mka.limits import PRIORITY_NEVER
from gateway.model import PortSecurity

IPV6_MTU_MIN = 1280  # octets, RFC 8200 5


def check_macsec(
    links: Mapping[str, MacsecConfig],
    tunnels: Mapping[str, TunnelConfig],
    *,
    connections: frozenset[str],
    tunnel_names: frozenset[str],
    problems: Problems,
) -> None:
    """Add what is wrong to ``problems``, as far as values that could not be read allow.

    ``connections`` and ``tunnel_names`` are all the file has, those with errors included.
    """
    read = {name: readable(one, problems, one.table) for name, one in links.items()}
    for name, link in read.items():
        at = problems.at(links[name].table)
        attempt(_check_name, at, name, connections, tunnel_names)
        attempt(_check_connection, at, link, connections, tunnel_names)
        attempt(_check_suites, at, link)
        attempt(_check_cak_size, at, link)
        attempt(_check_device, at, link)
        attempt(_check_mtu, at, link)
        attempt(_check_security, at, link)
        attempt(_check_priority, at, link)
        own = tunnels.get(links[name].connection or "")
        if own is not None:
            over = readable(own, problems, own.table)
            attempt(_check_our_way, at, link, over)
            attempt(_check_their_way, at, link, over)
    _check_all(links, read, problems)


def _check_name(
    at: TableProblems, name: str, connections: frozenset[str], tunnels: frozenset[str]
) -> None:
    """``qsgw rekey NAME``, alarms and events mean one of them."""
    for kind, names in (("connection", connections), ("tunnel", tunnels)):
        if name in names:
            at.error("", f"there is a [{kind}.{name}]: give it another name")


def _check_connection(
    at: TableProblems,
    link: MacsecConfig,
    connections: frozenset[str],
    tunnels: frozenset[str],
) -> None:
    name = link.connection
    if name is None or name in connections:
        return
    if name in tunnels:
        at.error("connection", f"[tunnel.{name}] is a tunnel: make a [connection.NAME]")
    else:
        at.error("connection", f"there is no [connection.{name}]{did_you_mean(name, connections)}")


def _check_suites(at: TableProblems, link: MacsecConfig) -> None:
    if link.suite not in link.accept:
        at.error("accept", "lacks the link's own suite")


def _check_cak_size(at: TableProblems, link: MacsecConfig) -> None:
    """Who has the CAK has every SAK."""
    key, size = "cak_bits", link.cak_size
    if link.static is not None:
        key, size = "cak", len(link.static.cak)
    if size < link.suite.key_size:
        at.warn(key, f"{8 * size} bits: SAKs of {8 * link.suite.key_size} bits are no stronger")


def _check_device(at: TableProblems, link: MacsecConfig) -> None:
    if link.device == link.interface:
        at.error("device", f'"{link.device}" is the interface: the device is made on top of it')


def _check_mtu(at: TableProblems, link: MacsecConfig) -> None:
    if link.mtu is not None and link.mtu < IPV6_MTU_MIN:
        for address in link.addresses:
            if address.version == 6:
                at.error("mtu", f"{link.mtu}: IPv6 ({address}) needs {IPV6_MTU_MIN}")
                return


def _check_security(at: TableProblems, link: MacsecConfig) -> None:
    if link.security is PortSecurity.SHOULD_SECURE:
        at.warn(
            "security",
            '"should-secure" lets everything pass unprotected while no SAK is in use: for the '
            "time of a migration only",
        )
    if not link.encrypt:
        at.warn("encryption", "everybody on the link can read what passes: integrity only")


def _check_priority(at: TableProblems, link: MacsecConfig) -> None:
    if link.priority == PRIORITY_NEVER:
        at.warn("priority", f"{PRIORITY_NEVER} is never key server: the other end has to be")


def _check_our_way(at: TableProblems, link: MacsecConfig, connection: TunnelConfig) -> None:
    for address in link.addresses:
        if connection.local == address.ip:
            _not_over_the_link(at, f"local {connection.local} of [{connection.table}]")


def _check_their_way(at: TableProblems, link: MacsecConfig, connection: TunnelConfig) -> None:
    for address in link.addresses:
        if connection.remote in address.network:
            _not_over_the_link(at, f"remote {connection.remote} of [{connection.table}]")


def _not_over_the_link(at: TableProblems, what: str) -> None:
    """A link that is down must not stop what brings it up."""
    at.error(
        "addresses",
        f"{what} is on the link itself, which is blocked until its IKE SA is up: let IKE take "
        "another way",
    )


def _check_all(
    links: Mapping[str, MacsecConfig], read: Mapping[str, MacsecConfig], problems: Problems
) -> None:
    """What two links may not have in common."""
    for second, first in _doubles(links, read, lambda link: link.interface):
        text = f"is that of [{first}]: one link for each interface"
        problems.at(second).error("interface", text)
    for second, first in _doubles(links, read, lambda link: link.device):
        problems.at(second).error("device", f"is that of [{first}] as well")
    for second, first in _doubles(links, read, _cak_source):
        text = f"[{first}] has the same connection: give each link a name of its own (link)"
        problems.at(second).error("link", text)
    for second, first in _doubles(links, read, lambda link: link.static and link.static.ckn):
        problems.at(second).warn("ckn", f"[{first}] has the same: a CAK is for one link")
    for one, other in combinations(read, 2):
        at = problems.at(links[other].table)
        attempt(_check_stack, at, read[one], read[other], links[one].table)
        attempt(_check_addresses, at, read[one], read[other], links[one].table)


def _cak_source(link: MacsecConfig) -> Hashable:
    """Equal for links that would have one CAK, which is bound to the link's name."""
    return link.connection and (link.connection, link.link)


def _doubles(
    links: Mapping[str, MacsecConfig],
    read: Mapping[str, MacsecConfig],
    value: Callable[[MacsecConfig], Hashable],
) -> list[tuple[str, str]]:
    """Tables with a value (not None) that another one had before, and that one."""
    seen: dict[Hashable, str] = {}
    found = []

    def look(name: str, link: MacsecConfig) -> None:
        one = value(link)
        first = seen.setdefault(one, name)
        if one is not None and first != name:
            found.append((links[name].table, links[first].table))

    for name, link in read.items():
        attempt(look, name, link)
    return found


def _check_stack(at: TableProblems, first: MacsecConfig, second: MacsecConfig, name: str) -> None:
    if second.interface == first.device:
        at.error("interface", f"is the device of [{name}]: a link needs an interface of its own")
    if second.device == first.interface:
        at.error("device", f"is the interface of [{name}]")


def _check_addresses(
    at: TableProblems, first: MacsecConfig, second: MacsecConfig, name: str
) -> None:
    for one in first.addresses:
        for other in second.addresses:
            if one.version != other.version or one.is_link_local:
                continue
            if one.ip == other.ip:
                at.error("addresses", f"{other.ip} is also one of [{name}]")
            elif one.network.overlaps(other.network):
                at.warn(
                    "addresses", f"{other} and {one} of [{name}] overlap: only one gets the traffic"
                )
