"""A link as users see it, against the kernel as it is now."""

from __future__ import annotations

from collections.abc import Callable

from gateway.daemon.macsec.audit import complete
from gateway.daemon.macsec.caks import Origin
from gateway.daemon.macsec.events import suite_name
from gateway.daemon.macsec.link import MacsecLink
from gateway.daemon.macsec.shown import shown
from gateway.dataplane.macsec_port import SecyState
from gateway.mka.registry import Confidentiality
from gateway.mka.views import ParticipantFacts, PortFacts, SakFacts
from gateway.model import (
    CakView,
    MacsecPeerView,
    MacsecView,
    PortState,
    QkdPolicy,
    SakView,
)

Wall = Callable[[float], str]


def macsec_view(
    link: MacsecLink, state: SecyState | None, *, qkd: QkdPolicy, wall: Wall
) -> MacsecView:
    """``state``: read a moment ago. ``wall``: RFC 3339 of a monotonic moment."""
    config, facts, station = link.config, link.facts, link.station
    policy, tally = link.policy, link.events.tally
    protection, reason = shown(facts, state, link.caks, policy, trouble=link.trouble)
    due = None if policy is None else policy.rekey_due
    return MacsecView(
        name=config.name,
        interface=config.interface,
        device=config.device,
        sci="" if station is None else str(station.sci),
        link=config.link,
        connection=config.connection,
        qkd=qkd,
        protection=protection,
        reason=reason,
        since=wall(link.since),
        security=config.security,
        port=PortState.BLOCKED if state is None else state.port,
        we_are_key_server=station is not None and station.is_key_server,
        caks=_caks(link, facts, wall),
        cak_at=None if due is None else wall(due),
        peers=_peers(facts),
        saks=() if facts is None else tuple(_sak(sak, facts, state) for sak in facts.saks),
        counters=None if state is None else state.counters,
        mtu=None if state is None else state.mtu,
        cak_rollovers=tally.cak_rollovers,
        cak_rollovers_hybrid=tally.cak_rollovers_hybrid,
        cak_rollovers_pqc_only=tally.cak_rollovers_pqc_only,
        sak_rollovers=tally.sak_rollovers,
        failures=tally.failures,
        last_error=tally.last_error,
        drops={**tally.drops, **({} if station is None else station.unsent)},
    )


def _caks(link: MacsecLink, facts: PortFacts | None, wall: Wall) -> tuple[CakView, ...]:
    participants = () if facts is None else facts.participants
    known = {item.ckn: item for item in participants}
    return tuple(_cak(origin, known.get(origin.ckn), wall) for origin in link.caks)


def _cak(origin: Origin, facts: ParticipantFacts | None, wall: Wall) -> CakView:
    server = None if facts is None else facts.key_server
    return CakView(
        ckn=origin.ckn.hex(),
        protection=origin.protection,
        key_exchanges=origin.mixed.key_exchanges,
        ppk_method=origin.mixed.ppk_method,
        key_id=origin.mixed.key_id,
        principal=facts is not None and facts.principal,
        key_server=None if server is None else str(server),
        live_peers=0 if facts is None else sum(peer.live for peer in facts.peers),
        since=wall(origin.since),
    )


def _peers(facts: PortFacts | None) -> tuple[MacsecPeerView, ...]:
    """Under the CAK that decides; before one does, under the newest."""
    participants = () if facts is None else facts.participants
    item = next((item for item in participants if item.principal), None)
    item = item or next(reversed(participants), None)
    if item is None:
        return ()
    return tuple(
        MacsecPeerView(
            sci=str(peer.sci),
            mi=peer.mi.hex(),
            live=peer.live,
            priority=peer.priority,
            key_server=peer.sci == item.key_server,
        )
        for peer in item.peers
    )


def _sak(sak: SakFacts, facts: PortFacts, state: SecyState | None) -> SakView:
    ki = sak.ki.encode()
    transmit = () if state is None else state.transmit
    own = next((sa for sa in transmit if (sa.an, sa.ki) == (sak.an, ki)), None)
    return SakView(
        an=sak.an,
        ki=str(sak.ki),
        kn=sak.ki.kn,
        ckn=sak.ckn.hex(),
        suite=suite_name(sak.suite),
        encrypted=sak.confidentiality is not Confidentiality.NONE,
        transmits=sak.transmits,
        in_kernel=state is not None and own is not None and complete(facts, state, ki),
        next_pn=sak.next_pn if own is None else own.pn,
    )
