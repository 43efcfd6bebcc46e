"""Which policies a tunnel needs, and what to change in the kernel to get there. Pure functions.

For every pair of networks two layers lie over each other, each in out, in and fwd:

* GUARD, permanent: block. Whatever else is missing, nothing leaves in the clear.
* PROTECT, above it: only through an SA. The outbound one names the SPI that carries traffic.

The kernel tells policies apart by selector and direction, not by priority: a second policy on
the same selector replaces the first (xfrm_policy_insert_list). ``netlink.xfrm_codec`` therefore
carries the priority in the selector's ports, under a zero port mask where it matches anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import IntEnum

from gateway.model import (
    Direction,
    EspMode,
    IpAddress,
    IpNetwork,
    KernelSnapshot,
    PolicyAction,
    PolicySpec,
    SaId,
)

Configured = tuple[Sequence[IpNetwork], Sequence[IpNetwork]]
"""Local and remote networks, as the configuration has them."""

REQID_BASE = 0x5100_0000
REQID_MASK = 0xFF00_0000

# A policy's priority is PRIORITY_BASE + 4 * (256 - bits of both prefixes) + layer. So the more
# specific pair of networks wins with all its layers: a tunnel that is down never sends its
# traffic through another tunnel with wider networks. The prefixes are those of the configuration.
PRIORITY_BASE = 0x5100
PRIORITY_STEP = 4
LONGEST_PREFIXES = 256  # two IPv6 host prefixes
PRIORITY_LAST = PRIORITY_BASE + PRIORITY_STEP * (LONGEST_PREFIXES + 1) - 1


class Layer(IntEnum):
    """Lower wins, as in the kernel."""

    PROTECT = 1  # 0 is free: policies of earlier versions keep their priorities
    GUARD = 2


def reqid_for(tunnel: str) -> int:
    """The reqid of a tunnel's SAs and policies: stable, from its name alone.

    24 bits of SHA-256: two names of one configuration can meet (1 in 10^4 at 60 tunnels), which
    whoever reads the configuration has to refuse.
    """
    digest = hashlib.sha256(tunnel.encode()).digest()
    return REQID_BASE | int.from_bytes(digest[:3], "big")


def is_our_reqid(reqid: int) -> bool:
    return reqid & REQID_MASK == REQID_BASE


def priority_for(layer: Layer, source: IpNetwork, destination: IpNetwork) -> int:
    bits = source.prefixlen + destination.prefixlen
    return PRIORITY_BASE + PRIORITY_STEP * (LONGEST_PREFIXES - bits) + layer


def is_our_priority(priority: int) -> bool:
    return PRIORITY_BASE <= priority <= PRIORITY_LAST


# --- what a tunnel needs ---------------------------------------------------------------------


def guard_policies(
    tunnel: str, local_nets: Iterable[IpNetwork], remote_nets: Iterable[IpNetwork]
) -> tuple[PolicySpec, ...]:
    """The blocking policies that lie beneath everything else of a tunnel."""
    return tuple(
        _block(tunnel, Layer.GUARD, direction, local, remote)
        for local, remote in _pairs(local_nets, remote_nets)
        for direction in Direction
    )


def _pairs(
    local_nets: Iterable[IpNetwork], remote_nets: Iterable[IpNetwork]
) -> list[tuple[IpNetwork, IpNetwork]]:
    """Those of one IP version."""
    remote_nets = tuple(remote_nets)
    return [
        (local, remote)
        for local in local_nets
        for remote in remote_nets
        if local.version == remote.version
    ]


def protect_policies(
    tunnel: str,
    local_nets: Iterable[IpNetwork],
    remote_nets: Iterable[IpNetwork],
    *,
    local_addr: IpAddress,
    remote_addr: IpAddress,
    reqid: int,
    spi: int | None,
    esp_mode: EspMode = EspMode.TUNNEL,
    parts_of: Configured = ((), ()),
) -> tuple[PolicySpec, ...]:
    """Those of a tunnel that lead into an SA, above its guard policies.

    ``spi`` is the outbound SA to pin, None while there is none or when ``plan`` is to keep the
    pin the kernel has. Pairs of networks of different IP versions are left out.

    ``parts_of``: the local and remote networks of the configuration, where the peer may have
    narrowed them. A part protects with the priority of the whole, so that no peer gets the
    traffic of another tunnel by narrowing its own to less than that one's networks.
    """
    found: list[PolicySpec] = []
    for local, remote in _pairs(tuple(local_nets), tuple(remote_nets)):
        priority = priority_for(Layer.PROTECT, *_whole(local, remote, parts_of))
        for direction in Direction:
            outbound = direction is Direction.OUTBOUND
            found.append(
                PolicySpec(
                    tunnel=tunnel,
                    direction=direction,
                    source=local if outbound else remote,
                    destination=remote if outbound else local,
                    action=PolicyAction.PROTECT,
                    priority=priority,
                    tunnel_source=local_addr if outbound else remote_addr,
                    tunnel_destination=remote_addr if outbound else local_addr,
                    reqid=reqid,
                    outbound_spi=(spi or 0) if outbound else 0,
                    mode=esp_mode,
                )
            )
    return tuple(found)


def _whole(
    local: IpNetwork, remote: IpNetwork, configured: Configured
) -> tuple[IpNetwork, IpNetwork]:
    """The configured networks these are parts of."""
    return _container(local, configured[0]), _container(remote, configured[1])


def _container(part: IpNetwork, networks: Iterable[IpNetwork]) -> IpNetwork:
    """The one of these networks that contains ``part``; ``part`` itself where none does."""
    for one in networks:
        if one.version == part.version and one.prefixlen <= part.prefixlen and one.overlaps(part):
            return one
    return part


def outbound_pins(policies: Iterable[PolicySpec], spi: int) -> tuple[PolicySpec, ...]:
    """The outbound PROTECT policies among these, pinned to ``spi``: what a rekey has to set."""
    return tuple(replace(policy, outbound_spi=spi) for policy in policies if is_pin(policy))


def is_pin(policy: PolicySpec) -> bool:
    return policy.direction is Direction.OUTBOUND and policy.action is PolicyAction.PROTECT


def _block(
    tunnel: str, layer: Layer, direction: Direction, local: IpNetwork, remote: IpNetwork
) -> PolicySpec:
    outbound = direction is Direction.OUTBOUND
    source, destination = (local, remote) if outbound else (remote, local)
    return PolicySpec(
        tunnel=tunnel,
        direction=direction,
        source=source,
        destination=destination,
        action=PolicyAction.BLOCK,
        priority=priority_for(layer, source, destination),
    )


# --- from what is to what should be ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do to the kernel, in this order: set, remove policies, remove SAs."""

    to_set: tuple[PolicySpec, ...]
    to_remove: tuple[PolicySpec, ...]
    sas_to_remove: tuple[SaId, ...]  # abandoned reservations; SAs of no configured tunnel
    missing_sas: tuple[SaId, ...]  # the caller believes in them, the kernel has them no more


PolicyKey = tuple[Direction, IpNetwork, IpNetwork, int]


def policy_key(policy: PolicySpec) -> PolicyKey:
    """What makes two policies the same one, as ``DataPlane.set_policy`` has it."""
    return (policy.direction, policy.source, policy.destination, policy.priority)


def plan(
    desired: Sequence[PolicySpec],
    snapshot: KernelSnapshot,
    known_sas: AbstractSet[SaId] = frozenset(),
) -> Plan:
    """What brings the kernel from ``snapshot`` to ``desired``.

    ``known_sas``: the SAs and reservations of Child SAs that live in this process; none at
    start, all of them after EventsLost. A desired outbound policy without SPI keeps the SPI that
    the kernel has pinned as long as that SA exists, so traffic goes on over a restart.
    """
    present = {policy_key(policy): policy for policy in snapshot.policies}
    spis = {sa.sa_id for sa in snapshot.sas if not sa.larval}
    wanted = {
        policy_key(policy): _keep_pin(policy, present.get(policy_key(policy)), spis)
        for policy in desired
    }
    configured = {policy.reqid for policy in desired if policy.reqid}
    sas = [sa for sa in snapshot.sas if sa.sa_id not in known_sas]
    return Plan(
        to_set=tuple(
            policy for key, policy in wanted.items() if not _same(policy, present.get(key))
        ),
        to_remove=tuple(
            sorted(
                (policy for key, policy in present.items() if key not in wanted),
                key=lambda policy: policy.action is PolicyAction.BLOCK,  # these go last
            )
        ),
        # those of an earlier run stay until a new Child SA is active
        sas_to_remove=tuple(sa.sa_id for sa in sas if sa.larval or sa.reqid not in configured),
        missing_sas=tuple(known_sas - {sa.sa_id for sa in snapshot.sas}),
    )


def _keep_pin(policy: PolicySpec, current: PolicySpec | None, spis: set[SaId]) -> PolicySpec:
    if not is_pin(policy) or policy.outbound_spi or current is None or not current.outbound_spi:
        return policy
    if current.reqid != policy.reqid or policy.tunnel_destination != current.tunnel_destination:
        return policy
    destination = current.tunnel_destination
    if destination is None or SaId(destination, current.outbound_spi) not in spis:
        return policy
    return replace(policy, outbound_spi=current.outbound_spi)


def _same(policy: PolicySpec, current: PolicySpec | None) -> bool:
    return current is not None and replace(policy, tunnel="") == replace(current, tunnel="")
