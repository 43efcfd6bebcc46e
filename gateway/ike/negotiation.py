"""What the two ends agree on for a Child SA: proposals, traffic, mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from gateway.ike.config import ChildConfig
from gateway.ike.flow import refuse
from gateway.ike.limits import ESP_SPI_SIZE
from gateway.ike.payloads import NotifyPayload, Payload, SaPayload, TsPayload
from gateway.ike.proposals import Chosen, Proposal, ProposalSpec, accept_answer, offers
from gateway.ike.reasons import networks_text, traffic_text
from gateway.ike.received import Received
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa
from gateway.ike.selectors import (
    TrafficSelector,
    covered,
    from_networks,
    narrow,
    networks_max,
)
from gateway.ike.tunnel import Tunnel
from gateway.ike.wire import syntax_error
from gateway.model import EspMode, IpNetwork, Role

if TYPE_CHECKING:
    from gateway.ike.attempt import ChildAttempt

_SPI_MIN = 256  # RFC 4303 2.1: 0 to 255 are reserved
_SHOWN = 8  # of a peer's traffic selectors in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a Child SA carries, and how."""

    local: tuple[IpNetwork, ...]
    remote: tuple[IpNetwork, ...]
    mode: EspMode = EspMode.TUNNEL

    @classmethod
    def of(cls, config: ChildConfig) -> Self:
        """All that a tunnel is to carry."""
        return cls(local=config.local_networks, remote=config.remote_networks, mode=config.esp_mode)


def first_child_specs(tunnel: Tunnel) -> tuple[ProposalSpec, ...]:
    """For IKE_AUTH: without key exchange, each once."""
    specs = (spec.without_key_exchange() for spec in tunnel.config.esp_proposals)
    return tuple(dict.fromkeys(specs))


def proposal_payload(specs: Sequence[ProposalSpec], spi: bytes) -> SaPayload:
    return SaPayload(proposals=offers(specs, spi))


def traffic_payloads(traffic: Traffic, role: Role) -> list[Payload]:
    """The mode, TSi and TSr; TSi is the side of the exchange's initiator (RFC 7296 2.9)."""
    ours, theirs = from_networks(traffic.local), from_networks(traffic.remote)
    if role is Role.RESPONDER:
        ours, theirs = theirs, ours
    # RFC 7296 1.3.1: asks for transport mode, or agrees to it
    notify = NotifyPayload(type=NotifyType.USE_TRANSPORT_MODE)
    return [
        *([notify] if traffic.mode is EspMode.TRANSPORT else []),
        TsPayload(initiator=True, selectors=ours),
        TsPayload(initiator=False, selectors=theirs),
    ]


def check_path(sa: IkeSa, config: ChildConfig) -> None:
    """Refuse transport mode through a NAT.

    RFC 7296 2.23.1 has rules by which both ends rewrite selectors and checksums; our policies
    are for the addresses that are configured.
    """
    if config.esp_mode is EspMode.TRANSPORT and sa.nat.present:
        raise refuse(
            NotifyType.TS_UNACCEPTABLE,
            "there is a NAT on the path, and transport mode needs the hosts' own addresses: "
            'write mode = "tunnel"',
        )


def agree_mode(sa: IkeSa, config: ChildConfig, traffic: Traffic, received: Received) -> Traffic:
    """RFC 7296 1.3.1: transport mode where both ends say so, else tunnel mode.

    The selectors are the two hosts in either case, so tunnel mode protects the same traffic.
    """
    check_path(sa, config)
    asked = config.esp_mode is EspMode.TRANSPORT
    agreed = asked and received.has(NotifyType.USE_TRANSPORT_MODE)
    return replace(traffic, mode=EspMode.TRANSPORT if agreed else EspMode.TUNNEL)


def accept_child(
    attempt: ChildAttempt, received: Received, specs: Sequence[ProposalSpec]
) -> tuple[Chosen, Traffic]:
    """Initiator: check the responder's choice against what we offered. ProtocolError if bad."""
    chosen = accept_answer(received.need(SaPayload).proposals, offers(specs, attempt.spi_octets))
    check_peer_spi(attempt.sa, chosen)
    return chosen, accept_traffic(attempt, received)


def accept_traffic(attempt: ChildAttempt, received: Received) -> Traffic:
    """Initiator: the responder's selectors must lie within ours. ProtocolError if not."""
    tsi, tsr = received.selectors()
    config = attempt.tunnel.config
    if not (
        covered(tsi.selectors, config.local_networks)
        and covered(tsr.selectors, config.remote_networks)
    ):
        raise refuse(
            NotifyType.TS_UNACCEPTABLE, f"peer widened our traffic: {traffic_text(config)}"
        )
    traffic = Traffic(local=_networks(tsi), remote=_networks(tsr))
    if len(traffic.local) > networks_max(config.local_networks) or len(
        traffic.remote
    ) > networks_max(config.remote_networks):
        raise refuse(NotifyType.TS_UNACCEPTABLE, "peer cut our traffic into too many networks")
    if config.esp_mode is EspMode.TUNNEL and received.has(NotifyType.USE_TRANSPORT_MODE):
        raise syntax_error("peer agrees to transport mode, which we have not asked for")
    return agree_mode(attempt.sa, config, traffic, received)


def choose_tunnel(sa: IkeSa, received: Received) -> tuple[Tunnel, Traffic]:
    """Responder: the tunnel the peer's traffic selectors are for, and the part that is its.

    First the one whose networks are the offered ones, then one that takes all that is offered,
    then one that takes a part (RFC 7296 2.9); among equals one that has no Child SA yet.
    """
    tsi, tsr = received.selectors()
    offered = Traffic(local=_networks(tsr), remote=_networks(tsi))
    found: list[tuple[bool, bool, bool, Tunnel, Traffic]] = []
    for tunnel in sa.peering.tunnels.values():
        traffic = _narrowed(tunnel.config, tsi, tsr)
        if traffic is None:
            continue
        exact = traffic == offered == Traffic.of(tunnel.config)
        idle = sa.current_child(tunnel) is None
        found.append((exact, traffic == offered, idle, tunnel, traffic))
    if found:
        *_, tunnel, traffic = max(found, key=lambda entry: entry[:3])
        return tunnel, traffic
    ours = "; ".join(
        f"{networks_text(tunnel.config.remote_networks)} -> "
        f"{networks_text(tunnel.config.local_networks)}"
        for tunnel in sa.peering.tunnels.values()
    )
    raise refuse(
        NotifyType.TS_UNACCEPTABLE,
        "peer's traffic selectors do not meet ours: peer "
        f"{_selectors_text(tsi)} -> {_selectors_text(tsr)}, ours {ours or 'none'}",
    )


def narrow_traffic(tunnel: Tunnel, received: Received) -> Traffic:
    """Responder: the part of the offered traffic that is this tunnel's (RFC 7296 2.9)."""
    tsi, tsr = received.selectors()
    traffic = _narrowed(tunnel.config, tsi, tsr)
    if traffic is None:
        raise refuse(
            NotifyType.TS_UNACCEPTABLE,
            "peer's traffic selectors do not meet ours: peer "
            f"{_selectors_text(tsi)} -> {_selectors_text(tsr)}, "
            f"ours {networks_text(tunnel.config.remote_networks)} -> "
            f"{networks_text(tunnel.config.local_networks)}",
        )
    return traffic


def _narrowed(config: ChildConfig, tsi: TsPayload, tsr: TsPayload) -> Traffic | None:
    remote = narrow(tsi.selectors, config.remote_networks)
    local = narrow(tsr.selectors, config.local_networks)
    return Traffic(local=local, remote=remote) if local and remote else None


def check_peer_spi(sa: IkeSa, chosen: Chosen) -> None:
    """ProtocolError where no ESP SA can have the peer's SPI, or another one has it."""
    if len(chosen.spi) != ESP_SPI_SIZE or int.from_bytes(chosen.spi, "big") < _SPI_MIN:
        raise syntax_error("ESP SPI is reserved or of the wrong size")
    taken = {child.spi_out for each in sa.peering.tunnels.values() for child in each.children}
    if int.from_bytes(chosen.spi, "big") in taken:
        raise refuse(NotifyType.NO_PROPOSAL_CHOSEN, "peer has an ESP SA with this SPI already")


def esp_offers(received: Received) -> tuple[Proposal, ...]:
    return received.need(SaPayload).proposals


def _networks(payload: TsPayload) -> tuple[IpNetwork, ...]:
    found: list[IpNetwork] = []
    for selector in payload.selectors:
        if isinstance(selector, TrafficSelector):
            found.extend(selector.networks())
    return tuple(found)


def _selectors_text(payload: TsPayload) -> str:
    shown = [
        str(one) if isinstance(one, TrafficSelector) else f"type {one.type}"
        for one in payload.selectors[:_SHOWN]
    ]
    more = len(payload.selectors) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
