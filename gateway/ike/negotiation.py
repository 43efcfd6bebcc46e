"""A Child SA in the making: what IKE_AUTH and CREATE_CHILD_SA have in common.

Both reserve an SPI, agree on algorithms and traffic, derive keys and put the two ESP SAs
into the kernel. Whatever goes wrong before the end, ``abandon`` gives everything back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from gateway.crypto.secret import Secret
from gateway.ike.child import ChildSa
from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    InstallChild,
    InstallInbound,
    RemoveSas,
    WatchInbound,
)
from gateway.ike.config import ChildConfig
from gateway.ike.flow import CommandError, ExchangeError, Flow, allocate_spi, carry_out, refuse
from gateway.ike.keymat import child_keymat, fresh_sk_d
from gateway.ike.limits import ESP_SPI_SIZE
from gateway.ike.nat import encapsulation
from gateway.ike.path import update_encap
from gateway.ike.payloads import NotifyPayload, Payload, SaPayload, TsPayload
from gateway.ike.ppk import HeldPpk
from gateway.ike.proposals import Chosen, Proposal, ProposalSpec, accept_answer, offers, select
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
from gateway.model import Direction, EspMode, IpNetwork, Mixed, PpkMethod, Role, SaId, SaSpec

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSecrets:
    """What the keys of a Child SA come from besides SK_d."""

    nonces: bytes  # Ni | Nr
    shared: Sequence[Secret] = ()  # of the exchange itself, then of each IKE_FOLLOWUP_KE
    ppk: HeldPpk | None = None


class ChildAttempt:
    """``role``: ours in this exchange. ``replaces``: the child it is to replace."""

    def __init__(
        self, sa: IkeSa, tunnel: Tunnel, role: Role, replaces: ChildSa | None = None
    ) -> None:
        self.sa = sa
        self.tunnel = tunnel
        self.role = role
        self.replaces = replaces
        self.spi_in = 0
        self._reserved = False
        self._early: SaSpec | None = None  # inbound, in the kernel before the peer has answered

    def reserve(self) -> Flow[None]:
        """An inbound SPI. CommandError if there is none."""
        self.spi_in = yield from allocate_spi(
            AllocateSpi(
                token=self.sa.env.desk.token(),
                tunnel=self.tunnel.name,
                source=self.sa.remote[0],
                destination=self.sa.local[0],
            )
        )
        self._reserved = True

    @property
    def spi_octets(self) -> bytes:
        return self.spi_in.to_bytes(ESP_SPI_SIZE, "big")

    def abandon(self) -> None:
        """Give the reservation back. Does nothing once the SAs are in the kernel."""
        if self._reserved:
            self._reserved = False
            self._remove(self._inbound_id)
        self._forget_early()

    def _remove(self, *sa_ids: SaId) -> None:
        self.sa.env.outbox.commands.append(RemoveSas(tunnel=self.tunnel.name, sa_ids=sa_ids))

    @property
    def _inbound_id(self) -> SaId:
        return SaId(self.sa.local[0], self.spi_in)

    def install_early(self, sk_d: Secret) -> Flow[None]:
        """As initiator of IKE_AUTH: be able to receive before the request goes out.

        A responder may send through the new SA as soon as it has answered, and its packets
        overtake the answer. All that its keys come from is known but which of our proposals it
        takes and whether it has the PPK: guessed are our first proposal, or what the running
        child has, and ``sk_d``. Where the answer is another, ``install`` puts another SA in the
        place of this one. CommandError where the kernel refuses.
        """
        specs = first_child_specs(self.tunnel)
        guess = select(offers(specs, self.spi_octets), specs)
        if guess is None:
            raise RuntimeError("we do not take our own proposal")
        secrets = ChildSecrets(nonces=self.sa.nonce_i + self.sa.nonce_r)
        outbound_key, key = self._keys(guess, secrets, sk_d)
        outbound_key.wipe()
        running = self.tunnel.active
        if running is None:
            inbound = self._inbound(key, esn=guess.esn, mode=self.tunnel.config.esp_mode)
        else:
            inbound = self._inbound(key, esn=running.esn, mode=running.esp_mode)
        self._early = replace(inbound, key=Secret(key.expose()))  # the other is wiped by its taker
        self.tunnel.early.append(self._inbound_id)
        yield from carry_out(
            InstallInbound(
                token=self.sa.env.desk.token(), tunnel=self.tunnel.name, inbound=inbound
            ),
            "the kernel did not take the inbound SA",
        )

    def _guessed_wrong(self, inbound: SaSpec) -> bool:
        """Whether there is an inbound SA in the kernel that is not this one."""
        # A peer behind a NAT may have moved: that alone is no other SA.
        return self._early is not None and replace(self._early, encap=inbound.encap) != inbound

    def _forget_early(self) -> None:
        if self._early is not None:
            self._early.key.wipe()
            self._early = None
            self.tunnel.early.remove(self._inbound_id)

    def install(self, chosen: Chosen, traffic: Traffic, secrets: ChildSecrets) -> Flow[ChildSa]:
        """Derive the keys and put both SAs into the kernel.

        CommandError leaves none there; so does ExchangeError, where the peer deletes the child
        before it is there: its Delete may overtake the answer, or find our kernel at work.
        """
        sa = self.sa
        spi_out = int.from_bytes(chosen.spi, "big")
        if spi_out in sa.deleted_early:
            raise _deleted_early()
        sending, receiving = self._keys(chosen, secrets, sa.keys.sk_d)
        inbound = self._inbound(receiving, esn=chosen.esn, mode=traffic.mode)
        outbound = self._outbound(chosen, sending, traffic.mode)
        try:
            yield from carry_out(
                InstallChild(
                    token=sa.env.desk.token(),
                    tunnel=self.tunnel.name,
                    inbound=inbound,
                    outbound=outbound,
                    local_networks=traffic.local,
                    remote_networks=traffic.remote,
                    # Inbound, the same key may be put in again with a counter from zero (other
                    # ESN): with it nothing is encrypted here, and of what the peer sends the SA
                    # that goes has accepted no packet that could be replayed to the new one, as
                    # other keys or another ESN fail each packet's integrity check.
                    replaces_inbound=self._guessed_wrong(inbound),
                ),
                "the kernel did not take the SAs",
            )
        except CommandError:  # the outbound SA, if one is there, is not ours
            self.abandon()
            raise
        self._reserved = False
        self._forget_early()
        if spi_out in sa.deleted_early:
            self._remove(outbound.sa_id, inbound.sa_id)
            raise _deleted_early()
        child = ChildSa(
            tunnel=self.tunnel,
            owner=sa.owner,
            role=self.role,
            local_address=sa.local[0],
            remote_address=sa.remote[0],
            spi_in=self.spi_in,
            spi_out=spi_out,
            mixed=_mixed(sa, chosen, secrets, rekeyed=self.replaces is not None),
            encryption=chosen.encryption_name,
            esp_mode=traffic.mode,
            esn=chosen.esn,
            local_networks=traffic.local,
            remote_networks=traffic.remote,
            established_at=sa.now,
            peer_port=outbound.encap.destination_port if outbound.encap else None,
            replaces=None if self.replaces is None else self.replaces.spi_in,
        )
        self.tunnel.add(child)
        sa.children.append(child)
        update_encap(sa, child)  # the peer may have moved while the kernel was at work
        return child

    def _keys(self, chosen: Chosen, secrets: ChildSecrets, sk_d: Secret) -> tuple[Secret, Secret]:
        """For what we send, and for what we receive."""
        sa = self.sa
        ppk = None if secrets.ppk is None else secrets.ppk.key
        mixed = fresh_sk_d(sa.prf, sk_d, ppk)
        # RFC 7296 2.17: first the key for what the exchange's initiator sends
        sending, receiving = child_keymat(
            sa.prf, mixed, secrets.nonces, secrets.shared, chosen.key_size
        )
        mixed.wipe()
        return (receiving, sending) if self.role is Role.RESPONDER else (sending, receiving)

    def _inbound(self, key: Secret, *, esn: bool, mode: EspMode) -> SaSpec:
        sa = self.sa
        return SaSpec(
            tunnel=self.tunnel.name,
            direction=Direction.INBOUND,
            spi=self.spi_in,
            source=sa.remote[0],
            destination=sa.local[0],
            reqid=0,
            key=key,
            mode=mode,
            esn=esn,
            encap=encapsulation(sa.nat, sa.local, sa.remote)[0],
        )

    def _outbound(self, chosen: Chosen, key: Secret, mode: EspMode) -> SaSpec:
        sa = self.sa
        return SaSpec(
            tunnel=self.tunnel.name,
            direction=Direction.OUTBOUND,
            spi=int.from_bytes(chosen.spi, "big"),
            source=sa.local[0],
            destination=sa.remote[0],
            reqid=0,
            key=key,
            mode=mode,
            esn=chosen.esn,
            encap=encapsulation(sa.nat, sa.local, sa.remote)[1],
        )


def _deleted_early() -> ExchangeError:
    return ExchangeError("peer deleted the new Child SA before it was in use", from_peer=True)


def _mixed(sa: IkeSa, chosen: Chosen, secrets: ChildSecrets, *, rekeyed: bool) -> Mixed:
    # SK_d brings in everything that keyed the IKE SA; fresh exchanges come on top.
    names = dict.fromkeys((*chosen.key_exchanges, *sa.key_exchanges))
    if secrets.ppk is not None:
        return Mixed(
            key_exchanges=tuple(names),
            key_id=secrets.ppk.key_id,
            ppk_method=PpkMethod.CREATE_CHILD,
        )
    first = secrets.nonces == sa.nonce_i + sa.nonce_r  # RFC 7296 2.17
    # Where there is no way to a fresh key, a new child has the one that is in SK_d, as the
    # first has. What replaces a child would have no other key than that one had.
    shared = not first and not rekeyed and sa.shares_ppk
    counts = first or shared
    return Mixed(
        key_exchanges=tuple(names),
        key_id=sa.key_id if counts else None,
        ppk_method=sa.ppk_method if counts else None,
        key_shared=shared,
    )


def bring_up(sa: IkeSa, child: ChildSa) -> Flow[None]:
    """``activate`` a child somebody asked us for: it ends in ChildUp or in an error.

    ExchangeError where the peer deletes it while our traffic is on its way there.
    """
    yield from activate(sa, child)
    if not child.announced:
        raise _deleted_early()


def activate(sa: IkeSa, child: ChildSa) -> Flow[None]:
    """Move our outbound traffic to ``child``, unless it is there to stay. CommandError if refused.

    Several may be on their way at a time. The kernel keeps our order, and so do its answers: where
    traffic was moved last it stays, and a child that went away meanwhile is made good by who moved
    traffic there, if nobody has moved it since.
    """
    tunnel = child.tunnel
    if not child.usable or (child.carries_outbound and tunnel.steered is child):
        return
    child.activating = True
    try:
        yield from _steer(sa, child)
    except GeneratorExit:  # the IKE SA ends and the kernel is still at it
        child.activating = False
        if tunnel.steered is child:
            tunnel.steered = None  # the answer comes to nobody: another IKE SA has to move it again
            stays = child if child.owner is not sa.owner else tunnel.active
            if stays is not None and stays.owner is not sa.owner:
                stays.owner.stand_in(stays, sa.now)
        raise
    finally:
        child.activating = False
    if child.usable and not child.carries_outbound:
        tunnel.activated(child, sa.now)
    while not child.usable and tunnel.steered is child and tunnel.active is not None:
        child = tunnel.active
        yield from _steer(sa, child)


def _steer(sa: IkeSa, child: ChildSa) -> Flow[None]:
    tunnel = child.tunnel
    try:
        yield from carry_out(
            _steering(sa, child), "outbound traffic could not be moved to the new SA"
        )
    except CommandError:
        if tunnel.steered is child:
            tunnel.steered = tunnel.active
        raise


def _steering(sa: IkeSa, child: ChildSa) -> ActivateOutbound:
    child.tunnel.steered = child
    return ActivateOutbound(
        token=sa.env.desk.token(),
        tunnel=child.tunnel.name,
        spi=child.spi_out,
        mode=child.esp_mode,
        source=child.local_address,
        destination=child.remote_address,
        local_networks=child.local_networks,
        remote_networks=child.remote_networks,
    )


def watch(sa: IkeSa, child: ChildSa) -> None:
    """Ask to be told of the first inbound packet: the peer has moved to this child."""
    sa.env.outbox.commands.append(WatchInbound(tunnel=child.tunnel.name, sa_id=child.inbound))


# --- payloads --------------------------------------------------------------------------------


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
