"""CREATE_CHILD_SA (RFC 7296 1.3): a new Child SA, or one in place of another.

    initiator                                        responder
    SK{[N(REKEY_SA)], SA, Ni, [KEi],
       [N(PPK_IDENTITY_KEY)], TSi, TSr}          -->
                                                 <-- SK{SA, Nr, [KEr], [N(PPK_IDENTITY)], TSi, TSr,
                                                        [N(ADDITIONAL_KEY_EXCHANGE)]}

A request with a proposal for an IKE SA is ``rekey_ike``'s. What both ask for when they replace
the same child at the same time is in ``collision``.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike import limits
from gateway.ike.attempt import ChildAttempt, ChildSecrets
from gateway.ike.child import ChildSa
from gateway.ike.collision import OwnRekey
from gateway.ike.config import PpkMode
from gateway.ike.errors import ProtocolError
from gateway.ike.flow import CommandError, Flow, PpkMissingError, Respond, refuse
from gateway.ike.flows import key_exchange
from gateway.ike.flows.key_exchange import Asked, Opened, Pending
from gateway.ike.negotiation import (
    Traffic,
    accept_traffic,
    agree_mode,
    check_peer_spi,
    choose_tunnel,
    narrow_traffic,
    traffic_payloads,
)
from gateway.ike.payloads import NotifyPayload, Payload
from gateway.ike.ppk import HeldPpk
from gateway.ike.received import Received
from gateway.ike.registry import NotifyType, ProtocolId
from gateway.ike.sa import IkeSa
from gateway.ike.states import ChildState, IkeState
from gateway.ike.steering import activate, watch
from gateway.ike.tunnel import Tunnel
from gateway.model import Role

# --- initiator -------------------------------------------------------------------------------


def initiate(
    sa: IkeSa, attempt: ChildAttempt, own: OwnRekey, ppk: HeldPpk | None
) -> Flow[tuple[Opened, Traffic]]:
    """ProtocolError or ExchangeError where it comes to nothing."""
    config = attempt.tunnel.config
    first: list[Payload] = []
    if attempt.replaces is not None:  # RFC 7296 1.3.3: our inbound SPI
        spi = attempt.replaces.spi_in.to_bytes(limits.ESP_SPI_SIZE, "big")
        first.append(NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=spi))
    asked = Asked(
        own=own,
        specs=config.esp_proposals,
        spi=attempt.spi_octets,
        child=config,
        first=first,
        last=traffic_payloads(Traffic.of(config), Role.INITIATOR),
        ppk=ppk,
    )
    opened = yield from key_exchange.initiate(sa, asked)
    check_peer_spi(sa, opened.chosen)
    return opened, accept_traffic(attempt, opened.received)


# --- responder -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True, eq=False)
class PendingChild(Pending):
    """``attempt`` is reserved once the request is accepted."""

    attempt: ChildAttempt
    traffic: Traffic

    def complete(self, payloads: list[Payload]) -> Flow[None]:
        """Install, then answer, then wait for the peer to move."""
        sa = self.sa
        _check_ppk(sa, self.attempt.tunnel, self.ppk)
        if self.attempt.replaces is None:
            _check_new(sa, self.attempt.tunnel)
        secrets = ChildSecrets(nonces=self.nonces, shared=self.shared, ppk=self.ppk)
        child = yield from self.attempt.install(self.chosen, self.traffic, secrets)
        self.wipe()
        if self.ppk is not None:
            self.ppk.settle(used=True, reason="mixed into a Child SA")
        alone = child.tunnel.stand_in(child) is None
        if not alone:
            watch(sa, child)
        yield Respond(payloads=payloads)
        if alone:
            yield from activate(sa, child)

    def abandon(self, reason: str) -> None:
        Pending.abandon(self, reason)
        self.attempt.abandon()


def respond(sa: IkeSa, received: Received) -> Flow[None]:
    """Ends with the child in the kernel, or with a PendingChild in ``sa.pending``."""
    if sa.state is not IkeState.ESTABLISHED:  # RFC 7296 2.25.2
        raise refuse(NotifyType.TEMPORARY_FAILURE, f"the IKE SA is {sa.state}")
    if sa.own_rekey is not None:  # RFC 7296 2.25.2
        raise refuse(NotifyType.TEMPORARY_FAILURE, "the IKE SA is being rekeyed")
    old = _child_to_replace(sa, received)
    if old is not None:
        tunnel, traffic = old.tunnel, narrow_traffic(old.tunnel, received)
    else:
        tunnel, traffic = choose_tunnel(sa, received)
        _check_new(sa, tunnel)
    traffic = agree_mode(sa, tunnel.config, traffic, received)
    sa.asked_for = tunnel
    sa.abandon_pending("the peer has begun anew", tunnel)
    chosen = key_exchange.choose(received, tunnel.config.esp_proposals)
    check_peer_spi(sa, chosen)
    pending = PendingChild(
        sa=sa,
        tunnel=tunnel,
        chosen=chosen,
        nonce_i=received.nonce(sa.prf),
        attempt=ChildAttempt(sa, tunnel, Role.RESPONDER, old),
        traffic=traffic,
    )
    try:
        ke = key_exchange.respond(sa, received, pending)
        pending.ppk = yield from _choose_ppk(sa, tunnel, received, pending.nonce_i)
        yield from pending.attempt.reserve()
        if old is not None:  # much may have happened while we waited
            _check_replaceable(sa, old)
        else:
            _check_new(sa, tunnel)
        payloads = key_exchange.answer(pending, pending.attempt.spi_octets, ke)
        payloads += traffic_payloads(traffic, Role.RESPONDER)
        if old is not None and old.own_rekey is not None:
            old.own_rekey.rival = pending
        if chosen.additional:
            payloads.append(key_exchange.keep(sa, pending))
            yield Respond(payloads=payloads)
            return
        yield from pending.complete(payloads)
    except CommandError as error:
        raise refuse(NotifyType.TEMPORARY_FAILURE, error.reason) from error
    finally:
        if pending not in sa.pending.values():
            pending.abandon("the Child SA did not come up")


def _child_to_replace(sa: IkeSa, received: Received) -> ChildSa | None:
    """The child REKEY_SA names; None for a request for a new one."""
    notify = received.notify(NotifyType.REKEY_SA)
    if notify is None:
        return None
    child = sa.child_by_outbound(int.from_bytes(notify.spi, "big"))
    if child is None:  # RFC 7296 2.25.1
        raise ChildNotFoundError(notify)
    _check_replaceable(sa, child)
    if len(sa.children_of(child.tunnel)) >= limits.CHILDREN_PER_TUNNEL_MAX:
        raise refuse(NotifyType.NO_ADDITIONAL_SAS, "peer deletes none of the Child SAs it replaces")
    return child


def _check_new(sa: IkeSa, tunnel: Tunnel) -> None:
    if sa.current_child(tunnel) is not None:
        raise refuse(NotifyType.NO_ADDITIONAL_SAS, f"{tunnel.name} has a Child SA already")
    # Both sides make one at the same time: it is the one of who began the IKE SA.
    if sa.role is Role.INITIATOR and sa.owner.creating(tunnel):
        raise refuse(NotifyType.TEMPORARY_FAILURE, "we are making this Child SA ourselves")


def _check_replaceable(sa: IkeSa, child: ChildSa) -> None:
    """ProtocolError(TEMPORARY_FAILURE) where it is going, or its successor is there."""
    replaced = any(one.usable and one.replaces == child.spi_in for one in sa.children)
    # RFC 7296 2.8.1: while our own rekey of it is unanswered, the peer's may be the one to stay
    collides = child.own_rekey is not None and not child.own_rekey.committed
    settled = child.state in (ChildState.ACTIVE, ChildState.INSTALLED)
    if replaced or not (settled or collides) or child not in sa.children:
        raise refuse(
            NotifyType.TEMPORARY_FAILURE,
            f"peer wants to rekey a Child SA that is "
            f"{'replaced' if replaced else child.state} here",
        )


class ChildNotFoundError(ProtocolError):
    """The answer names what was not found (RFC 7296 2.25.1)."""

    def __init__(self, asked: NotifyPayload) -> None:
        super().__init__(
            NotifyType.CHILD_SA_NOT_FOUND, "peer wants to rekey a Child SA we do not have"
        )
        self.payload = NotifyPayload(
            type=NotifyType.CHILD_SA_NOT_FOUND, protocol=asked.protocol, spi=asked.spi
        )


def _choose_ppk(
    sa: IkeSa, tunnel: Tunnel, received: Received, nonce_i: bytes
) -> Flow[HeldPpk | None]:
    if sa.takes_fresh_ppk:
        return (yield from key_exchange.choose_ppk(sa, tunnel, received, nonce_i))
    _check_ppk(sa, tunnel, None)
    return None


def _check_ppk(sa: IkeSa, tunnel: Tunnel, ppk: HeldPpk | None) -> None:
    """Policy as it is now: it may have changed since the exchange began."""
    if tunnel.mode is not PpkMode.REQUIRE or ppk is not None:
        return
    if sa.takes_fresh_ppk:
        raise PpkMissingError(NotifyType.NO_PROPOSAL_CHOSEN, "no QKD key, and policy requires one")
    if not sa.shares_ppk:
        raise PpkMissingError(
            NotifyType.NO_PROPOSAL_CHOSEN, "no QKD key in the IKE SA, and policy requires one"
        )
