"""What CREATE_CHILD_SA is for every SA it makes: proposal, nonces, key exchanges, PPK.

    initiator                                        responder
    SK{..., SA, Ni, [KEi],
       [N(PPK_IDENTITY_KEY)], ...}               -->
                                                 <-- SK{SA, Nr, [KEr], [N(PPK_IDENTITY)], ...,
                                                        [N(ADDITIONAL_KEY_EXCHANGE)]}

With N(ADDITIONAL_KEY_EXCHANGE) the SA comes into being only with the last IKE_FOLLOWUP_KE
(RFC 9370 2.2.4). The PPK notifies are those of RFC 9867 3.2, between qsgw peers only.
``create_child`` and ``rekey_ike`` say what the SA is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike import limits
from gateway.ike.collision import OwnRekey
from gateway.ike.config import ChildConfig
from gateway.ike.errors import ProtocolError
from gateway.ike.flow import ExchangeError, Flow, refuse, request
from gateway.ike.flows import ppk_choice
from gateway.ike.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload
from gateway.ike.ppk import HeldPpk, confirmation
from gateway.ike.proposals import Chosen, ProposalSpec, accept_answer, offers, select
from gateway.ike.reasons import proposals_text, raise_on_error
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, KeMethod, NotifyType, ProtocolId, ke_name
from gateway.ike.tunnel import Tunnel
from gateway.ike.wire import syntax_error

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa, KeyPolicy

# --- initiator -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is in a request besides the key exchange."""

    own: OwnRekey  # gets the secrets; who began it wipes them
    specs: Sequence[ProposalSpec]
    spi: bytes  # ours in the new SA
    child: ChildConfig | None = None  # None: an IKE SA
    first: Sequence[Payload] = ()
    last: Sequence[Payload] = ()
    ppk: HeldPpk | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the exchange gave its initiator."""

    received: Received
    chosen: Chosen
    nonce_i: bytes
    nonce_r: bytes
    ppk: HeldPpk | None  # taken by the peer
    link: bytes  # for the first IKE_FOLLOWUP_KE

    @property
    def nonces(self) -> bytes:
        return self.nonce_i + self.nonce_r

    @property
    def lowest_nonce(self) -> bytes:
        return min(self.nonce_i, self.nonce_r)


def initiate(sa: IkeSa, asked: Asked) -> Flow[Opened]:
    """ProtocolError or ExchangeError where it comes to nothing."""
    specs = asked.specs
    ours = {method for spec in specs for method in spec.key_exchanges}
    method = specs[0].key_exchanges[0] if specs[0].key_exchanges else KeMethod.NONE
    for _ in range(limits.KE_ROUNDS_MAX):
        nonce = sa.env.rng.random_bytes(limits.NONCE_SIZE)
        kex = None if method is KeMethod.NONE else sa.env.kex.initiate(method)
        payloads: list[Payload] = [
            *asked.first,
            SaPayload(proposals=offers(specs, asked.spi)),
            NoncePayload(data=nonce),
        ]
        if kex is not None:
            payloads.append(KePayload(method=method, data=kex.public))
        if asked.ppk is not None:
            payloads.append(ppk_choice.offer(asked.ppk, confirm(sa, nonce)))
        reply = yield from request(ExchangeType.CREATE_CHILD_SA, [*payloads, *asked.last])
        received = reply.payloads
        wanted = received.notify(NotifyType.INVALID_KE_PAYLOAD)
        if wanted is not None and int.from_bytes(wanted.data, "big") in ours:
            method = KeMethod(int.from_bytes(wanted.data, "big"))
            continue
        _check_error(sa, received, asked)
        chosen = accept_answer(received.need(SaPayload).proposals, offers(specs, asked.spi))
        if chosen.key_exchange is not KeMethod.NONE:
            ke = received.need(KePayload)
            if kex is None or ke.method != method or chosen.key_exchange is not method:
                raise syntax_error("KE payload is not the chosen one")
            asked.own.secrets.append(kex.finish(ke.data))
        ppk = asked.ppk
        return Opened(
            received=received,
            chosen=chosen,
            nonce_i=nonce,
            nonce_r=received.nonce(sa.prf),
            ppk=ppk if ppk is not None and ppk_choice.accepted(received, ppk) else None,
            link=_link(received, chosen),
        )
    raise ExchangeError("peer keeps asking for other key exchanges", from_peer=True)


def _check_error(sa: IkeSa, received: Received, asked: Asked) -> None:
    error = received.error()
    refused = error is not None and error.type == NotifyType.NO_PROPOSAL_CHOSEN
    # Ours: says that the proposals are good (see docs/ikev2.md).
    if refused and sa.takes_fresh_ppk and received.has(NotifyType.PPK_IDENTITY):
        reason = "peer insists on a QKD key, and has got none (NO_PROPOSAL_CHOSEN)"
        if asked.ppk is not None:
            asked.ppk.settle(used=False, reason=reason, refused=True)
        raise ExchangeError(
            reason,
            notify=NotifyType.NO_PROPOSAL_CHOSEN.name,
            from_peer=True,
            ppk_missing=True,
        )
    raise_on_error(received, asked.specs, asked.child)


def _link(received: Received, chosen: Chosen) -> bytes:
    notify = received.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    if not chosen.additional:
        return b""
    if notify is None or not notify.data:  # RFC 9370 2.2.4
        raise syntax_error("additional key exchanges were chosen without a link to them")
    return notify.data


# --- responder -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True, eq=False)
class Pending:
    """An SA a peer is making: what is agreed, and the secrets so far."""

    sa: IkeSa  # in which the exchanges run
    tunnel: Tunnel | None  # None: an IKE SA
    chosen: Chosen
    nonce_i: bytes
    nonce_r: bytes = b""
    shared: list[Secret] = field(default_factory=list)
    ppk: HeldPpk | None = None

    @property
    def nonces(self) -> bytes:
        return self.nonce_i + self.nonce_r

    @property
    def lowest_nonce(self) -> bytes:
        return min(self.nonce_i, self.nonce_r)

    @property
    def next_method(self) -> KeMethod | None:
        """The key exchange that is due, or None when all are done."""
        additional = self.chosen.additional
        done = len(self.shared) - 1
        return additional[done][1] if done < len(additional) else None

    def complete(self, payloads: list[Payload]) -> Flow[object]:
        """All secrets are there: make the SA and answer with ``payloads``.

        Returns what the responder's flow shall return.
        """
        raise NotImplementedError

    def abandon(self, reason: str) -> None:
        """Give back what is held. Does nothing once the SA is made."""
        self.wipe()
        if self.ppk is not None:
            self.ppk.settle(used=False, reason=reason)

    def wipe(self) -> None:
        for secret in self.shared:
            secret.wipe()


def is_for_ike(received: Received) -> bool:
    """Whether the request wants a new IKE SA, not a Child SA."""
    payload = received.find(SaPayload)
    proposals = () if payload is None else payload.proposals
    return any(proposal.protocol == ProtocolId.IKE for proposal in proposals)


def choose(received: Received, specs: Sequence[ProposalSpec]) -> Chosen:
    """ProtocolError(NO_PROPOSAL_CHOSEN) where nothing in the offer suits us."""
    chosen = select(received.need(SaPayload).proposals, specs)
    if chosen is None:
        kind = specs[0].protocol.name
        reason = f"no {kind} proposal in common, ours: {proposals_text(specs)}"
        raise refuse(NotifyType.NO_PROPOSAL_CHOSEN, reason)
    return chosen


def respond(sa: IkeSa, received: Received, pending: Pending) -> KePayload | None:
    """Carry out the exchange's own key exchange, if it has one."""
    method = pending.chosen.key_exchange
    if method is KeMethod.NONE:
        return None
    ke = received.need(KePayload)
    if ke.method != method:  # RFC 7296 1.3
        raise ProtocolError(
            NotifyType.INVALID_KE_PAYLOAD,
            f"peer guessed {ke_name(ke.method)}, we want {ke_name(method)}",
            method.to_bytes(2, "big"),
        )
    try:
        public, shared = sa.env.kex.respond(method, ke.data)
    except CryptoError as error:  # RFC 6989 2.5
        raise syntax_error(str(error)) from error
    pending.shared.append(shared)
    return KePayload(method=method, data=public)


def choose_ppk(
    sa: IkeSa, policy: KeyPolicy, received: Received, nonce_i: bytes
) -> Flow[HeldPpk | None]:
    """Of those offered; policy may insist on one."""
    # The IKE SA lives on, so a refusal is no failure of authentication.
    refusal = NotifyType.NO_PROPOSAL_CHOSEN
    return (yield from ppk_choice.choose(sa, policy, received, confirm(sa, nonce_i), refusal))


def answer(pending: Pending, spi: bytes, ke: KePayload | None) -> list[Payload]:
    """The response, but for what only a Child SA has. ``spi``: ours."""
    pending.nonce_r = pending.sa.env.rng.random_bytes(limits.NONCE_SIZE)
    payloads: list[Payload] = [
        SaPayload(proposals=(pending.chosen.answer(spi),)),
        NoncePayload(data=pending.nonce_r),
    ]
    if ke is not None:
        payloads.append(ke)
    if pending.ppk is not None:
        payloads.append(ppk_choice.answer(pending.ppk))
    return payloads


def keep(sa: IkeSa, pending: Pending) -> NotifyPayload:
    """Wait for the next IKE_FOLLOWUP_KE. Returns the link that names what it continues."""
    link = sa.env.rng.random_bytes(limits.LINK_SIZE)
    sa.pending[link] = pending

    def forget(_now: float) -> None:
        sa.pending.pop(link, None)
        pending.abandon("IKE_FOLLOWUP_KE did not come")

    when = sa.now + sa.peering.timing.followup_timeout
    sa.env.deadlines.set(("followup", link), when, forget)
    return NotifyPayload(type=NotifyType.ADDITIONAL_KEY_EXCHANGE, data=link)


# --- both ------------------------------------------------------------------------------------


def confirm(sa: IkeSa, nonce_i: bytes) -> ppk_choice.Confirm:
    """For a PPK in this exchange (see ``ppk``)."""
    return lambda ppk: confirmation(sa.prf, ppk, nonce_i, sa.spi_i, sa.spi_r)
