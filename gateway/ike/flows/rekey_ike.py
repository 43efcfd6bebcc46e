"""A new IKE SA in place of one, with its children (RFC 7296 1.3.2, 2.8, 2.18).

    initiator                                    responder
    SK{SA(SPIi), Ni, KEi,
       [N(PPK_IDENTITY_KEY)]}                -->
                                             <-- SK{SA(SPIr), Nr, KEr, [N(PPK_IDENTITY)],
                                                    [N(ADDITIONAL_KEY_EXCHANGE)]}
    IKE_FOLLOWUP_KE for every additional key exchange (RFC 9370 2.2.4)
    SK{D(IKE)}                               -->                  in the old IKE SA
                                             <-- SK{}

The initiator of the exchange is the original initiator of the new IKE SA, whose Message IDs
begin at 0. The children keep their keys: nothing changes in the kernel. The flows end with the
new IKE SA; what becomes of the two is ``succession``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.crypto.secret import Secret
from gateway.errors import QsgwError
from gateway.ike.collision import OwnRekey
from gateway.ike.config import PpkMode
from gateway.ike.flow import (
    ExchangeError,
    Flow,
    PpkMissingError,
    Respond,
    YieldedError,
    refuse,
)
from gateway.ike.flows import followup_ke, key_exchange, ppk_choice
from gateway.ike.flows.key_exchange import Asked, Opened, Pending
from gateway.ike.flows.sa_init import classical_reason
from gateway.ike.keymat import KeyInputs, rekeyed_keys
from gateway.ike.limits import IKE_SAS_PER_PEER_MAX, IKE_SPI_SIZE
from gateway.ike.message import NO_SPI
from gateway.ike.payloads import Payload
from gateway.ike.ppk import HeldPpk
from gateway.ike.proposals import Chosen, ProposalSpec
from gateway.ike.received import Received
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa
from gateway.ike.states import IkeState
from gateway.ike.wire import syntax_error
from gateway.model import PpkMethod, Role

_NOT_TAKEN = "peer did not take a QKD key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """The outcome. ``redundant``: why we have to delete it at once; the old IKE SA stays."""

    sa: IkeSa
    redundant: QsgwError | None = None


# --- initiator -------------------------------------------------------------------------------


def rekey(sa: IkeSa, ppk: HeldPpk | None) -> Flow[Successor]:
    """``ppk`` is settled when this ends. Errors leave the IKE SA as it was."""
    sa.own_rekey = own = OwnRekey()
    spi = sa.env.spis.draw()
    made = False
    try:
        opened, redundant = yield from _open(sa, own, spi, ppk)
        yield from followup_ke.initiate(sa, own, opened, _specs(sa))
        terms = _Terms(
            chosen=opened.chosen,
            spi_i=spi,
            spi_r=opened.chosen.spi,
            nonce_i=opened.nonce_i,
            nonce_r=opened.nonce_r,
        )
        new = _successor(sa, Role.INITIATOR, terms, own.secrets, opened.ppk)
        made = True
        return Successor(sa=new, redundant=redundant)
    except ExchangeError as error:
        if own.rival is not None and not isinstance(
            error, YieldedError
        ):  # the peer was quicker, or has won
            raise YieldedError("the IKE SA") from error
        raise
    finally:
        sa.own_rekey = None
        own.wipe()
        if not made:
            sa.env.spis.release(spi)
        if ppk is not None:
            ppk.settle(used=False, reason="the new IKE SA did not come up")


def _open(
    sa: IkeSa, own: OwnRekey, spi: bytes, ppk: HeldPpk | None
) -> Flow[tuple[Opened, QsgwError | None]]:
    """CREATE_CHILD_SA, and why what comes of it is redundant, if it is.

    With additional key exchanges to come that is an error: the peer has made nothing yet.
    """
    asked = Asked(own=own, specs=_specs(sa), spi=spi, ppk=ppk if sa.takes_fresh_ppk else None)
    opened = yield from key_exchange.initiate(sa, asked)
    redundant: QsgwError | None = None
    if own.yields(opened.lowest_nonce):
        redundant = YieldedError("the IKE SA")
    else:
        sa.drop_pending(own.rival, "the peer's rekey of the same IKE SA gives way")
        if opened.ppk is None and asked.ppk is not None and not sa.peering.tunnels:
            asked.ppk.settle(used=False, reason=_NOT_TAKEN, refused=True)
            sa.ppk_not_used(sa.peering, asked.ppk.key_id, _NOT_TAKEN)
        if opened.ppk is None and _needs_fresh_ppk(sa):
            redundant = _missing(_NOT_TAKEN)
    if redundant is not None and opened.chosen.additional:
        raise redundant
    _check_spi(opened.chosen)
    _check_strength(sa, opened.chosen)
    return opened, redundant


# --- responder -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True, eq=False)
class PendingIke(Pending):
    """``spi`` is drawn once the request is accepted."""

    spi: bytes = b""

    def complete(self, payloads: list[Payload]) -> Flow[Successor]:
        """Answer; the old IKE SA stays until the peer deletes it."""
        sa = self.sa
        _check_free(sa)
        terms = _Terms(
            chosen=self.chosen,
            spi_i=self.chosen.spi,
            spi_r=self.spi,
            nonce_i=self.nonce_i,
            nonce_r=self.nonce_r,
        )
        new = _successor(sa, Role.RESPONDER, terms, self.shared, self.ppk)
        self.spi = b""
        yield Respond(payloads=payloads)
        return Successor(sa=new)

    def abandon(self, reason: str) -> None:
        Pending.abandon(self, reason)
        if self.spi:
            self.sa.env.spis.release(self.spi)
            self.spi = b""


def respond(sa: IkeSa, received: Received) -> Flow[object]:
    """Returns the Successor, or None where IKE_FOLLOWUP_KE is to come."""
    _check_free(sa)
    sa.abandon_pending("the peer has begun anew")
    chosen = key_exchange.choose(received, _specs(sa))
    _check_spi(chosen)
    _check_strength(sa, chosen)
    pending = PendingIke(sa=sa, tunnel=None, chosen=chosen, nonce_i=received.nonce(sa.prf))
    try:
        ke = key_exchange.respond(sa, received, pending)
        pending.ppk = yield from _find_ppk(sa, received, pending.nonce_i)
        _check_free(sa)  # much may have happened while we waited
        pending.spi = sa.env.spis.draw()
        payloads = key_exchange.answer(pending, pending.spi, ke)
        if sa.own_rekey is not None:
            sa.own_rekey.rival = pending
        if chosen.additional:
            payloads.append(key_exchange.keep(sa, pending))
            yield Respond(payloads=payloads)
            return None
        return (yield from pending.complete(payloads))
    finally:
        if pending not in sa.pending.values():
            pending.abandon("the new IKE SA did not come up")


def _check_free(sa: IkeSa) -> None:
    """ProtocolError(TEMPORARY_FAILURE) where the rekey has to wait (RFC 7296 2.25.2)."""
    reason = ""
    if sa.state is not IkeState.ESTABLISHED:
        reason = f"that is {sa.state}"
    elif sa.own_rekey is not None and sa.own_rekey.committed:
        reason = "that we are replacing"
    elif sa.owner.busy:
        reason = "while a Child SA is being made or deleted"
    elif sa.owner.leaving:
        reason = "in whose place another one stands"
    elif len(sa.line()) >= IKE_SAS_PER_PEER_MAX:
        reason = "and deletes none of those it has rekeyed"
    if reason:
        raise refuse(NotifyType.TEMPORARY_FAILURE, f"peer wants to rekey an IKE SA {reason}")


def _find_ppk(sa: IkeSa, received: Received, nonce_i: bytes) -> Flow[HeldPpk | None]:
    found: HeldPpk | str = "peer cannot use QKD keys here"
    if sa.takes_fresh_ppk:
        found = yield from ppk_choice.find(
            sa, sa.peering, received, key_exchange.confirm(sa, nonce_i)
        )
    if not isinstance(found, str):
        return found
    if _needs_fresh_ppk(sa):
        raise _missing(found)
    if not sa.peering.tunnels and sa.peering.mode is not PpkMode.OFF:
        sa.ppk_not_used(sa.peering, None, found)
    return None


# --- both ------------------------------------------------------------------------------------


def _specs(sa: IkeSa) -> list[ProposalSpec]:
    """Ours, but for the PRF: it stays.

    RFC 7296 2.18 takes the old PRF for SKEYSEED and the new one for the keys, and not everybody
    does: with one PRF there is nothing to differ about.
    """
    specs = sa.connection.ike_proposals
    return [spec.with_prf(sa.prf.id) for spec in specs if sa.prf.id in spec.prfs]


def _check_spi(chosen: Chosen) -> None:
    if len(chosen.spi) != IKE_SPI_SIZE or chosen.spi == NO_SPI:  # RFC 7296 1.3.2
        raise syntax_error("SPI of the new IKE SA is zero or of the wrong size")


def _check_strength(sa: IkeSa, chosen: Chosen) -> None:
    reason = classical_reason(sa.connection, chosen)
    if reason:
        raise refuse(NotifyType.NO_PROPOSAL_CHOSEN, reason)


def _needs_fresh_ppk(sa: IkeSa) -> bool:
    """Policy requires a QKD key, and none reaches the new IKE SA through SK_d.

    Without tunnels the IKE SA is what policy protects: each wants a key of its own.
    """
    needed = sa.ppk_method is None or not sa.peering.tunnels
    return sa.peering.mode is PpkMode.REQUIRE and needed


def _missing(reason: str) -> PpkMissingError:
    text = f"{reason}, there is none in the new IKE SA, and policy requires one"
    return PpkMissingError(NotifyType.NO_PROPOSAL_CHOSEN, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What the exchange agreed on; "i" is its initiator."""

    chosen: Chosen
    spi_i: bytes
    spi_r: bytes
    nonce_i: bytes
    nonce_r: bytes


def _successor(
    sa: IkeSa, role: Role, terms: _Terms, shared: Sequence[Secret], ppk: HeldPpk | None
) -> IkeSa:
    """The new IKE SA."""
    chosen = terms.chosen
    inputs = KeyInputs(
        prf=sa.prf,
        encryption_size=chosen.key_size,
        nonce_i=terms.nonce_i,
        nonce_r=terms.nonce_r,
        spi_i=terms.spi_i,
        spi_r=terms.spi_r,
    )
    key = None if ppk is None else ppk.key
    new = IkeSa(
        env=sa.env,
        peering=sa.peering,
        tunnel=None,
        role=role,
        state=IkeState.ESTABLISHED,
        local=sa.local,
        remote=sa.remote,
        spi_i=terms.spi_i,
        spi_r=terms.spi_r,
        origin=sa.origin,
        now=sa.now,
        established_at=sa.now,
        nonce_i=terms.nonce_i,
        nonce_r=terms.nonce_r,
        agreed=chosen,
        peer=sa.peer,
        nat=sa.nat,
        datagram_max=sa.datagram_max,
        # RFC 8784 3 and RFC 9867: what was mixed into SK_d reaches the new IKE SA through it
        ppk_method=sa.ppk_method if ppk is None else PpkMethod.CREATE_CHILD,
        key_id=sa.key_id if ppk is None else ppk.key_id,
        ppk_inherited=ppk is None,
        initial_contact=sa.initial_contact,
        remote_id=sa.remote_id,
        local_proof=sa.local_proof,
        remote_proof=sa.remote_proof,
    )
    new.first_keys(rekeyed_keys(inputs, sa.prf, sa.keys.sk_d, shared, key))
    for secret in shared:
        secret.wipe()
    if ppk is not None:
        ppk.settle(used=True, reason="mixed into an IKE SA")
    return new
