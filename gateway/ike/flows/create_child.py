"""CREATE_CHILD_SA (RFC 7296 1.3): a new Child SA, or one in place of another.

    initiator                                        responder
    SK{[N(REKEY_SA)], SA, Ni, [KEi],
       [N(PPK_IDENTITY_KEY)], TSi, TSr}          -->
                                                 <-- SK{SA, Nr, [KEr], [N(PPK_IDENTITY)], TSi, TSr,
                                                        [N(ADDITIONAL_KEY_EXCHANGE)]}

With N(ADDITIONAL_KEY_EXCHANGE) the child comes into being only with the last IKE_FOLLOWUP_KE
(RFC 9370 2.2.4). The PPK notifies are those of RFC 9867 3.2, between qsgw peers only. A
request to rekey the IKE SA is refused with NO_ADDITIONAL_SAS (RFC 7296 4).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike import limits
from gateway.ike.child import ChildSa
from gateway.ike.config import ChildConfig, PpkMode
from gateway.ike.errors import ProtocolError
from gateway.ike.flow import (
    CommandError,
    ExchangeError,
    Flow,
    PpkMissingError,
    Respond,
    refuse,
    request,
)
from gateway.ike.flows import ppk_choice
from gateway.ike.negotiation import (
    ChildAttempt,
    PendingChild,
    Traffic,
    accept_child,
    activate,
    agree_mode,
    check_peer_spi,
    choose_tunnel,
    narrow_traffic,
    proposal_payload,
    traffic_payloads,
    watch,
)
from gateway.ike.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload
from gateway.ike.ppk import HeldPpk, confirmation
from gateway.ike.proposals import Chosen, select
from gateway.ike.reasons import proposals_text, raise_on_error
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, KeMethod, NotifyType, ProtocolId, ke_name
from gateway.ike.sa import IkeSa
from gateway.ike.states import ChildState, IkeState
from gateway.ike.tunnel import Tunnel
from gateway.ike.wire import syntax_error
from gateway.model import Role

# --- initiator -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the exchange gave its initiator."""

    config: ChildConfig
    chosen: Chosen
    traffic: Traffic
    nonces: bytes  # Ni | Nr
    shared: tuple[Secret, ...]
    ppk: HeldPpk | None  # taken by the peer
    link: bytes  # for the first IKE_FOLLOWUP_KE


def initiate(sa: IkeSa, attempt: ChildAttempt, ppk: HeldPpk | None) -> Flow[Opened]:
    """ProtocolError or ExchangeError where it comes to nothing."""
    specs = attempt.tunnel.config.esp_proposals
    ours = {method for spec in specs for method in spec.key_exchanges}
    method = specs[0].key_exchanges[0] if specs[0].key_exchanges else KeMethod.NONE
    for _ in range(limits.KE_ROUNDS_MAX):
        nonce = sa.env.rng.random_bytes(limits.NONCE_SIZE)
        kex = None if method is KeMethod.NONE else sa.env.kex.initiate(method)
        payloads = _request_payloads(sa, attempt, nonce, ppk)
        if kex is not None:
            payloads.insert(-2, KePayload(method=method, data=kex.public))
        reply = yield from request(ExchangeType.CREATE_CHILD_SA, payloads)
        received = reply.payloads
        wanted = received.notify(NotifyType.INVALID_KE_PAYLOAD)
        if wanted is not None and int.from_bytes(wanted.data, "big") in ours:
            method = KeMethod(int.from_bytes(wanted.data, "big"))
            continue
        _check_error(attempt, received, ppk)
        chosen, traffic = accept_child(attempt, received, specs)
        shared: tuple[Secret, ...] = ()
        if chosen.key_exchange is not KeMethod.NONE:
            ke = received.need(KePayload)
            if kex is None or ke.method != method or chosen.key_exchange is not method:
                raise syntax_error("KE payload is not the chosen one")
            shared = (kex.finish(ke.data),)
        return Opened(
            config=attempt.tunnel.config,
            chosen=chosen,
            traffic=traffic,
            nonces=nonce + received.nonce(sa.prf),
            shared=shared,
            ppk=ppk if ppk is not None and ppk_choice.accepted(received, ppk) else None,
            link=_link(received, chosen),
        )
    raise ExchangeError("peer keeps asking for other key exchanges", from_peer=True)


def _check_error(attempt: ChildAttempt, received: Received, ppk: HeldPpk | None) -> None:
    error = received.error()
    refused = error is not None and error.type == NotifyType.NO_PROPOSAL_CHOSEN
    if refused and takes_fresh_ppk(attempt.sa):
        reason = (
            "peer insists on a QKD key it has not got, or takes none of our ESP proposals "
            "(NO_PROPOSAL_CHOSEN)"
        )
        if ppk is not None:
            ppk.settle(used=False, reason=reason, refused=True)
        raise ExchangeError(
            reason,
            notify=NotifyType.NO_PROPOSAL_CHOSEN.name,
            from_peer=True,
            ppk_missing=True,
        )
    config = attempt.tunnel.config
    raise_on_error(received, config.esp_proposals, config)


def _request_payloads(
    sa: IkeSa, attempt: ChildAttempt, nonce: bytes, ppk: HeldPpk | None
) -> list[Payload]:
    config = attempt.tunnel.config
    payloads: list[Payload] = []
    if attempt.replaces is not None:  # RFC 7296 1.3.3: our inbound SPI
        spi = attempt.replaces.spi_in.to_bytes(limits.ESP_SPI_SIZE, "big")
        payloads.append(NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=spi))
    payloads += [
        proposal_payload(config.esp_proposals, attempt.spi_octets),
        NoncePayload(data=nonce),
    ]
    if ppk is not None:
        payloads.append(ppk_choice.offer(ppk, _confirm(sa, nonce)))
    return [*payloads, *traffic_payloads(Traffic.of(config), Role.INITIATOR)]


def _link(received: Received, chosen: Chosen) -> bytes:
    notify = received.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    if not chosen.additional:
        return b""
    if notify is None or not notify.data:  # RFC 9370 2.2.4
        raise syntax_error("additional key exchanges were chosen without a link to them")
    return notify.data


# --- responder -------------------------------------------------------------------------------


def respond(sa: IkeSa, received: Received) -> Flow[None]:
    """Ends with the child in the kernel, or with a PendingChild in ``sa.pending``."""
    if sa.state is not IkeState.ESTABLISHED:  # RFC 7296 2.25.2
        raise refuse(NotifyType.TEMPORARY_FAILURE, "the IKE SA is being deleted")
    offered = received.need(SaPayload).proposals
    if any(proposal.protocol == ProtocolId.IKE for proposal in offered):
        raise refuse(NotifyType.NO_ADDITIONAL_SAS, "peer wants to rekey the IKE SA")
    old = _child_to_replace(sa, received)
    if old is not None:
        tunnel, traffic = old.tunnel, narrow_traffic(old.tunnel, received)
    else:
        tunnel, traffic = choose_tunnel(sa, received)
        _check_new(sa, tunnel)
    traffic = agree_mode(sa, tunnel.config, traffic, received)
    sa.asked_for = tunnel
    sa.abandon_pending("the peer has begun anew", tunnel)
    specs = tunnel.config.esp_proposals
    chosen = select(offered, specs)
    if chosen is None:
        reason = f"no ESP proposal in common, ours: {proposals_text(specs)}"
        raise refuse(NotifyType.NO_PROPOSAL_CHOSEN, reason)
    check_peer_spi(sa, chosen)
    nonce_i = received.nonce(sa.prf)
    ke, shared = _key_exchange(sa, received, chosen)
    attempt = ChildAttempt(sa, tunnel, Role.RESPONDER, old)
    ppk = yield from _choose_ppk(sa, tunnel, received, nonce_i)
    pending = PendingChild(
        attempt=attempt, chosen=chosen, traffic=traffic, nonces=b"", shared=shared, ppk=ppk
    )
    try:
        yield from attempt.reserve()
        nonce_r = sa.env.rng.random_bytes(limits.NONCE_SIZE)
        pending.nonces = nonce_i + nonce_r
        payloads = _response_payloads(pending, nonce_r, ke)
        if chosen.additional:
            link = keep(sa, pending)
            payloads.append(link)
            yield Respond(payloads=payloads)
            return
        yield from complete(sa, pending, payloads)
    except CommandError as error:
        raise refuse(NotifyType.TEMPORARY_FAILURE, error.reason) from error
    finally:
        if pending not in sa.pending.values():
            pending.abandon("the Child SA did not come up")


def complete(sa: IkeSa, pending: PendingChild, payloads: list[Payload]) -> Flow[None]:
    """All secrets are there: install, then answer, then wait for the peer to move."""
    _check_ppk(sa, pending.attempt.tunnel, pending.ppk)
    child = yield from pending.attempt.install(pending.chosen, pending.traffic, pending.secrets)
    for secret in pending.shared:
        secret.wipe()
    if pending.ppk is not None:
        pending.ppk.settle(used=True, reason="mixed into a Child SA")
    alone = child.tunnel.stand_in(child) is None
    if not alone:
        watch(sa, child)
    yield Respond(payloads=payloads)
    if alone:
        yield from activate(sa, child)


def keep(sa: IkeSa, pending: PendingChild) -> NotifyPayload:
    """Wait for the next IKE_FOLLOWUP_KE. Returns the link that names what it continues."""
    link = sa.env.rng.random_bytes(limits.LINK_SIZE)
    sa.pending[link] = pending

    def forget(_now: float) -> None:
        sa.pending.pop(link, None)
        pending.abandon("IKE_FOLLOWUP_KE did not come")

    when = sa.now + sa.peering.timing.followup_timeout
    sa.env.deadlines.set(("followup", link), when, forget)
    return NotifyPayload(type=NotifyType.ADDITIONAL_KEY_EXCHANGE, data=link)


def _child_to_replace(sa: IkeSa, received: Received) -> ChildSa | None:
    """The child REKEY_SA names; None for a request for a new one."""
    notify = received.notify(NotifyType.REKEY_SA)
    if notify is None:
        return None
    child = sa.child_by_outbound(int.from_bytes(notify.spi, "big"))
    if child is None:  # RFC 7296 2.25.1
        raise ChildNotFoundError(notify)
    replaced = any(one.usable and one.replaces == child.spi_in for one in sa.children)
    if replaced or child.state not in (ChildState.ACTIVE, ChildState.INSTALLED):
        raise refuse(
            NotifyType.TEMPORARY_FAILURE,
            f"peer wants to rekey a Child SA that is "
            f"{'replaced' if replaced else child.state} here",
        )
    if len(sa.children_of(child.tunnel)) >= limits.CHILDREN_PER_TUNNEL_MAX:
        raise refuse(NotifyType.NO_ADDITIONAL_SAS, "peer deletes none of the Child SAs it replaces")
    return child


def _check_new(sa: IkeSa, tunnel: Tunnel) -> None:
    if sa.current_child(tunnel) is not None:
        raise refuse(NotifyType.NO_ADDITIONAL_SAS, f"{tunnel.name} has a Child SA already")


class ChildNotFoundError(ProtocolError):
    """The answer names what was not found (RFC 7296 2.25.1)."""

    def __init__(self, asked: NotifyPayload) -> None:
        super().__init__(
            NotifyType.CHILD_SA_NOT_FOUND, "peer wants to rekey a Child SA we do not have"
        )
        self.payload = NotifyPayload(
            type=NotifyType.CHILD_SA_NOT_FOUND, protocol=asked.protocol, spi=asked.spi
        )


def _key_exchange(
    sa: IkeSa, received: Received, chosen: Chosen
) -> tuple[KePayload | None, list[Secret]]:
    if chosen.key_exchange is KeMethod.NONE:
        return None, []
    ke = received.need(KePayload)
    if ke.method != chosen.key_exchange:  # RFC 7296 1.3
        raise ProtocolError(
            NotifyType.INVALID_KE_PAYLOAD,
            f"peer guessed {ke_name(ke.method)}, we want {ke_name(chosen.key_exchange)}",
            chosen.key_exchange.to_bytes(2, "big"),
        )
    try:
        public, shared = sa.env.kex.respond(chosen.key_exchange, ke.data)
    except CryptoError as error:  # RFC 6989 2.5
        raise syntax_error(str(error)) from error
    return KePayload(method=chosen.key_exchange, data=public), [shared]


def _choose_ppk(
    sa: IkeSa, tunnel: Tunnel, received: Received, nonce_i: bytes
) -> Flow[HeldPpk | None]:
    if takes_fresh_ppk(sa):
        confirm = _confirm(sa, nonce_i)
        # The IKE SA lives on, so this is no failure of authentication.
        return (
            yield from ppk_choice.choose(
                sa, tunnel, received, confirm, NotifyType.NO_PROPOSAL_CHOSEN
            )
        )
    _check_ppk(sa, tunnel, None)
    return None


def _check_ppk(sa: IkeSa, tunnel: Tunnel, ppk: HeldPpk | None) -> None:
    """Policy as it is now: it may have changed since the exchange began."""
    if tunnel.mode is not PpkMode.REQUIRE or ppk is not None:
        return
    if takes_fresh_ppk(sa):
        raise PpkMissingError(NotifyType.NO_PROPOSAL_CHOSEN, "no QKD key, and policy requires one")
    if sa.ppk_method is None:
        raise PpkMissingError(
            NotifyType.NO_PROPOSAL_CHOSEN, "no QKD key in the IKE SA, and policy requires one"
        )


def _response_payloads(
    pending: PendingChild, nonce_r: bytes, ke: KePayload | None
) -> list[Payload]:
    answer = pending.chosen.answer(pending.attempt.spi_octets)
    payloads: list[Payload] = [SaPayload(proposals=(answer,)), NoncePayload(data=nonce_r)]
    if ke is not None:
        payloads.append(ke)
    if pending.ppk is not None:
        payloads.append(ppk_choice.answer(pending.ppk))
    return [*payloads, *traffic_payloads(pending.traffic, Role.RESPONDER)]


# --- both ------------------------------------------------------------------------------------


def takes_fresh_ppk(sa: IkeSa) -> bool:
    """Whether a Child SA of this IKE SA may be keyed with a PPK of its own."""
    return sa.peer.qsgw and sa.peer.ppk_intermediate


def _confirm(sa: IkeSa, nonce_i: bytes) -> ppk_choice.Confirm:
    return lambda ppk: confirmation(sa.prf, ppk, nonce_i, sa.spi_i, sa.spi_r)
