"""Builds the one snapshot that CLI, MQTT and Prometheus show, against the kernel as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from gateway.config.schema import Start, TunnelConfig
from gateway.daemon.bulletin import timestamp
from gateway.daemon.tunnel import Tunnel
from gateway.dataplane.reconcile import is_pin, policy_key
from gateway.ike.states import IkeState
from gateway.ike.views import ChildFacts, IkeFacts, TunnelFacts
from gateway.model import (
    ChildView,
    IkeView,
    KernelSnapshot,
    PolicySpec,
    Protection,
    SaId,
    SaLifetime,
    SaState,
    TunnelView,
)

_UP = (IkeState.ESTABLISHED, IkeState.REKEYED)
_WEAKER = (Protection.HYBRID, Protection.PQC_ONLY, Protection.CLASSICAL)  # each than the last


class Viewer:
    """Turns facts with monotonic times into views with wall-clock times."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def wall(self, moment: float) -> str:
        """RFC 3339 of a monotonic moment."""
        return timestamp(time.time() - (self._clock() - moment))

    def tunnel(
        self, config: TunnelConfig, tunnel: Tunnel, facts: TunnelFacts, kernel: KernelSnapshot
    ) -> TunnelView:
        states = {sa.sa_id: sa for sa in kernel.sas if not sa.larval}
        due = tunnel.protection.rekey_due
        rekey_at = self.wall(due) if due is not None else None
        children = tuple(self._child(config, child, states, rekey_at) for child in facts.children)
        if config.childless:
            protection, reason = _shown_ike(tunnel, facts)
        else:
            protection, reason = _shown(tunnel, children, kernel)
        tally = tunnel.tally
        return TunnelView(
            name=config.name,
            connection=config.connection,
            protection=protection,
            reason=reason,
            since=self.wall(tunnel.protection.since),
            qkd=config.qkd,
            on_demand=config.start is Start.TRAP,
            childless=config.childless,
            rekey_at=rekey_at,
            local_id=config.local_id,
            remote_id=config.remote_id,
            local_address=str(config.local),
            remote_address=str(config.remote),
            local_subnets=tuple(str(network) for network in config.local_subnets),
            remote_subnets=tuple(str(network) for network in config.remote_subnets),
            ike=self._ike(facts.ike[0]) if facts.ike else None,
            children=children,
            keys=tunnel.keys.view() if tunnel.keys is not None else None,
            rekeys=tally.rekeys,
            rekeys_hybrid=tally.rekeys_hybrid,
            rekeys_pqc_only=tally.rekeys_pqc_only,
            ike_rekeys=tally.ike_rekeys,
            failures=tally.failures,
            last_error=tally.last_error,
        )

    def _ike(self, facts: IkeFacts) -> IkeView:
        return IkeView(
            spi_i=facts.spi_i.hex(),
            spi_r=facts.spi_r.hex(),
            role=facts.role,
            state=facts.state,
            local=_endpoint_text(facts.local),
            remote=_endpoint_text(facts.remote),
            proposal=facts.proposal,
            key_exchanges=facts.key_exchanges,
            ppk_method=facts.ppk_method,
            key_id=facts.key_id,
            protection=facts.mixed.protection,
            established_at=(
                self.wall(facts.established_at) if facts.established_at is not None else None
            ),
            nat=facts.nat,
            fragmentation=facts.fragmentation,
            local_proof=facts.local_proof,
            remote_proof=facts.remote_proof,
        )

    def _child(
        self,
        config: TunnelConfig,
        facts: ChildFacts,
        states: Mapping[SaId, SaState],
        rekey_at: str | None,
    ) -> ChildView:
        inbound = states.get(SaId(config.local, facts.spi_in))
        outbound = states.get(SaId(config.remote, facts.spi_out))
        limits = outbound.lifetime if outbound else SaLifetime()
        return ChildView(
            spi_in=f"{facts.spi_in:08x}",
            spi_out=f"{facts.spi_out:08x}",
            protection=facts.mixed.protection,
            key_exchanges=facts.mixed.key_exchanges,
            ppk_method=facts.mixed.ppk_method,
            key_id=facts.mixed.key_id,
            key_shared=facts.mixed.key_shared,
            encryption=facts.encryption,
            mode=facts.mode,
            esn=facts.esn,
            in_kernel=inbound is not None and outbound is not None,
            carries_outbound=facts.carries_outbound,
            bytes_in=inbound.bytes if inbound else 0,
            bytes_out=outbound.bytes if outbound else 0,
            packets_in=inbound.packets if inbound else 0,
            packets_out=outbound.packets if outbound else 0,
            established_at=self.wall(facts.established_at),
            rekey_at=rekey_at if facts.carries_outbound else None,
            rekey_bytes=limits.soft_bytes,
            rekey_packets=limits.soft_packets,
            life_bytes=limits.hard_bytes,
            life_packets=limits.hard_packets,
        )


def _shown(
    tunnel: Tunnel, children: tuple[ChildView, ...], kernel: KernelSnapshot
) -> tuple[Protection, str]:
    """The policy's word, unless the kernel contradicts it: what is shown is what is so."""
    believed, reason = tunnel.protection.protection, tunnel.protection.reason
    pins = {policy_key(policy): policy for policy in kernel.policies if is_pin(policy)}
    if believed in (Protection.BLOCKED, Protection.DOWN):
        return believed, reason + _left_over(tunnel, pins.values(), kernel)
    carrying = next((child for child in children if child.carries_outbound), None)
    if carrying is None or not carrying.in_kernel:
        return Protection.DOWN, "the SA is not in the kernel"
    # While traffic is moved, the kernel is a step ahead of the core: either SA will do.
    usable = {int(child.spi_out, 16): child.protection for child in children if child.in_kernel}
    leads: set[Protection] = set()
    for meant in filter(is_pin, tunnel.policies.desired):
        found = pins.get(policy_key(meant))
        if found is None or found.reqid != tunnel.reqid or found.outbound_spi not in usable:
            return Protection.DOWN, "no kernel policy leads into the SA"
        leads.add(usable[found.outbound_spi])
    if not leads:
        return Protection.DOWN, "no kernel policy leads into the SA"
    return max(leads, key=_WEAKER.index), reason


def _shown_ike(tunnel: Tunnel, facts: TunnelFacts) -> tuple[Protection, str]:
    """The policy's word, unless the IKE SA there is contradicts it."""
    believed, reason = tunnel.protection.protection, tunnel.protection.reason
    if believed in (Protection.BLOCKED, Protection.DOWN):
        return believed, reason
    up = next((ike for ike in facts.ike if ike.state in _UP), None)
    return (Protection.DOWN, "there is no IKE SA") if up is None else (up.mixed.protection, reason)


def _left_over(tunnel: Tunnel, pins: Iterable[PolicySpec], kernel: KernelSnapshot) -> str:
    """Said of a tunnel without an SA of its own through which traffic leaves all the same."""
    alive = {sa.sa_id for sa in kernel.sas if not sa.larval}
    leading = {SaId(tunnel.remote, pin.outbound_spi) for pin in pins if pin.reqid == tunnel.reqid}
    if not leading & alive:
        return ""
    if leading & set(tunnel.orphans.sa_ids):
        return "; SAs of an earlier run carry traffic meanwhile"
    return "; an SA that is to go still carries traffic"


def _endpoint_text(address: tuple[object, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
