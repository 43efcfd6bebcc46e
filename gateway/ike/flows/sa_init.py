"""IKE_SA_INIT (RFC 7296 1.2): algorithms, first key exchange, nonces, what both can do.

    initiator                                           responder
    SA, KE, Ni, N(NATD_S_IP), N(NATD_D_IP),
      N(FRAGMENTATION), N(INTERMEDIATE),
      [N(SIGNATURE_HASH_ALGORITHMS)],
      [N(USE_PPK_INT)], [N(USE_PPK)], V           -->
                                                  <--   N(COOKIE)                 under load
    N(COOKIE), SA, KE, Ni, ...                    -->
                                                  <--   N(INVALID_KE_PAYLOAD)     other method
    [N(COOKIE)], SA, KE', Ni, ...                 -->
                                                  <--   SA, KE, Nr, N(NATD_S_IP), N(NATD_D_IP),
                                                        N(FRAGMENTATION), N(INTERMEDIATE),
                                                        [N(SIGNATURE_HASH_ALGORITHMS)],
                                                        [CERTREQ],
                                                        [N(SUPPORTED_AUTH_METHODS)],
                                                        [N(USE_PPK_INT) | N(USE_PPK)], V

Nothing here is authenticated yet; IKE_AUTH covers both messages. The responder's side is a
plain function: until it has accepted, it keeps no state (RFC 7296 2.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.crypto.kex import InitiatorKex
from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike import limits
from gateway.ike.auth_hints import announce
from gateway.ike.config import Connection, PpkMode
from gateway.ike.downgrade import offers_in
from gateway.ike.environment import Environment
from gateway.ike.errors import ProtocolError
from gateway.ike.flow import ExchangeError, Flow, refuse, request
from gateway.ike.flows import proof
from gateway.ike.keymat import initial_keys
from gateway.ike.message import NO_SPI
from gateway.ike.nat import NatStatus, detect, detection_hash, source_hash
from gateway.ike.outbox import Address
from gateway.ike.payloads import (
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    VendorIdPayload,
)
from gateway.ike.proposals import Chosen, accept_answer, offers, select
from gateway.ike.reasons import proposals_text
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, KeMethod, NotifyType, ProtocolId, ke_name
from gateway.ike.sa import IkeSa, PeerTraits
from gateway.ike.states import IkeInput
from gateway.ike.wire import syntax_error
from gateway.model import PQ_PREFIXES

VENDOR_ID: Final = b"qsgw PPK in CREATE_CHILD_SA v1"
"""Our Vendor ID. Between two peers that sent it, an SA may be rekeyed with a fresh PPK as
``keymat.fresh_sk_d`` and ``ppk.confirmation`` describe; the digit names that description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A responder's decision to go on: the response, and what the IKE SA starts with."""

    payloads: tuple[Payload, ...]
    chosen: Chosen
    spi_r: bytes
    nonce_i: bytes
    nonce_r: bytes
    shared: Secret
    peer: PeerTraits
    nat: NatStatus


# --- initiator -------------------------------------------------------------------------------


def initiate(sa: IkeSa, *, offer_ppk: bool) -> Flow[None]:
    """``offer_ppk``: we hold a QKD key, so RFC 8784 may be offered too."""
    sa.nonce_i = sa.env.rng.random_bytes(limits.NONCE_SIZE)
    method = _first_method(sa.connection)
    kex = sa.env.kex.initiate(method)
    cookie = b""
    cookies = retries = 0
    while True:
        sa.init_demands = (cookie, method.to_bytes(2, "big"))
        payloads = _request_payloads(sa, method, kex, cookie)
        reply = yield from request(
            ExchangeType.IKE_SA_INIT, payloads + _ppk_offers(sa, offer_ppk=offer_ppk)
        )
        if (demand := reply.payloads.notify(NotifyType.COOKIE)) is not None:
            cookie = demand.data
            cookies += 1
            if cookies > limits.COOKIE_ROUNDS_MAX or len(cookie) > limits.COOKIE_SIZE_MAX:
                raise ExchangeError("peer keeps asking for cookies", from_peer=True)
        elif (wanted := reply.payloads.notify(NotifyType.INVALID_KE_PAYLOAD)) is not None:
            retries += 1
            if retries > limits.KE_ROUNDS_MAX:
                raise ExchangeError("peer keeps asking for other key exchanges", from_peer=True)
            method = _wanted_method(sa.connection, wanted)
            kex = sa.env.kex.initiate(method)
        else:
            break
    sa.spi_r = reply.spi_r
    sa.init_response = reply.data
    _accept(sa, reply.payloads, kex)


def _first_method(connection: Connection) -> KeMethod:
    return connection.ike_proposals[0].key_exchanges[0]


def _wanted_method(connection: Connection, notify: NotifyPayload) -> KeMethod:
    """RFC 7296 1.2: it must be one of ours, or somebody is leading us to a weaker one."""
    if len(notify.data) != 2:  # RFC 7296 3.10.1
        raise ExchangeError("peer asks for another key exchange and names none", from_peer=True)
    number = int.from_bytes(notify.data, "big")
    ours = {method for spec in connection.ike_proposals for method in spec.key_exchanges}
    if number not in ours:
        raise ExchangeError(
            f"peer asks for key exchange {ke_name(number)}, which we did not propose",
            notify=NotifyType.INVALID_KE_PAYLOAD.name,
            from_peer=True,
        )
    return KeMethod(number)


def _request_payloads(
    sa: IkeSa, method: KeMethod, kex: InitiatorKex, cookie: bytes
) -> list[Payload]:
    # RFC 7296 2.6: the cookie comes first, and stays when the KE payload changes
    first: list[Payload] = [NotifyPayload(type=NotifyType.COOKIE, data=cookie)] if cookie else []
    return [
        *first,
        SaPayload(proposals=offers(sa.connection.ike_proposals)),
        KePayload(method=method, data=kex.public),
        NoncePayload(data=sa.nonce_i),
        *_nat_payloads(sa.connection, sa.spi_i, NO_SPI, sa.local, sa.remote),
        NotifyPayload(type=NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        NotifyPayload(type=NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),
        *proof.hash_payloads(sa.connection),
    ]


def _ppk_offers(sa: IkeSa, *, offer_ppk: bool) -> list[Payload]:
    offered: list[Payload] = []
    if sa.connection.uses_ppk:
        # Offered without a key too: a later rekey may bring one (RFC 9867 3.2).
        offered.append(NotifyPayload(type=NotifyType.USE_PPK_INT))
    if offer_ppk:  # RFC 8784 3: who offers it must name a PPK in IKE_AUTH
        offered.append(NotifyPayload(type=NotifyType.USE_PPK))
    return [*offered, VendorIdPayload(data=VENDOR_ID)]


def _accept(sa: IkeSa, received: Received, kex: InitiatorKex) -> None:
    sa.heard = offers_in(received, VENDOR_ID)
    sa.missing = sa.peering.missing(sa.role, sa.heard)
    offered = offers(sa.connection.ike_proposals)
    chosen = accept_answer(received.need(SaPayload).proposals, offered)
    ke = received.need(KePayload)
    sa.nonce_r = _nonce(received, chosen)
    sa.peer = _peer_traits(sa.connection, received)
    proof.heed(sa, received)
    if ke.method != chosen.key_exchange:
        raise syntax_error(f"peer chose {ke_name(chosen.key_exchange)} and sent another KE")
    if chosen.additional and not sa.peer.intermediate:  # RFC 9370 2.2.2
        raise ExchangeError("peer chose additional key exchanges without IKE_INTERMEDIATE")
    reason = classical_reason(sa.connection, chosen)
    if reason:
        raise ExchangeError(f"peer chose {chosen}: {reason}")
    sa.agreed = chosen
    sa.nat = _detect_nat(sa.connection, received, (sa.spi_i, sa.spi_r), sa.local, sa.remote)
    if sa.nat.present:  # RFC 7296 2.23: on to port 4500 with the next exchange
        sa.local = (sa.local[0], limits.NAT_PORT)
        sa.remote = (sa.remote[0], limits.NAT_PORT)
    shared = kex.finish(ke.data)
    sa.first_keys(initial_keys(sa.key_inputs, shared))
    shared.wipe()
    sa.happened(IkeInput.KEYS)


# --- responder -------------------------------------------------------------------------------


def respond(
    connection: Connection,
    mode: PpkMode,
    received: Received,
    env: Environment,
    *,
    spi_i: bytes,
    local: Address,
    remote: Address,
) -> Accepted:
    """ProtocolError with what to answer where this goes no further; no state is kept then."""
    offered = received.need(SaPayload).proposals
    ke = received.need(KePayload)
    both = received.has(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)
    chosen = select(offered, connection.ike_proposals, additional_key_exchanges=both)
    if chosen is None:
        why = "" if both else "; peer has no IKE_INTERMEDIATE"
        ours = proposals_text(connection.ike_proposals)
        raise refuse(NotifyType.NO_PROPOSAL_CHOSEN, f"no proposal in common, ours: {ours}{why}")
    reason = classical_reason(connection, chosen)
    if reason:
        raise refuse(NotifyType.NO_PROPOSAL_CHOSEN, reason)
    nonce_i = _nonce(received, chosen)
    if ke.method != chosen.key_exchange:  # RFC 7296 1.2
        raise ProtocolError(
            NotifyType.INVALID_KE_PAYLOAD,
            f"peer guessed {ke_name(ke.method)}, we want {ke_name(chosen.key_exchange)}",
            chosen.key_exchange.to_bytes(2, "big"),
        )
    peer = _peer_traits(connection, received, mode)
    try:
        public, shared = env.kex.respond(chosen.key_exchange, ke.data)
    except CryptoError as error:  # RFC 6989 2.5
        raise syntax_error(str(error)) from error
    spi_r = env.spis.draw()
    nonce_r = env.rng.random_bytes(limits.NONCE_SIZE)
    payloads: list[Payload] = [
        SaPayload(proposals=(chosen.answer(),)),
        KePayload(method=chosen.key_exchange, data=public),
        NoncePayload(data=nonce_r),
        *_nat_payloads(connection, spi_i, spi_r, local, remote),
        *_answered_traits(peer),
        # RFC 6023 3: from the responder alone, and as one of the IKE SA
        NotifyPayload(type=NotifyType.CHILDLESS_IKEV2_SUPPORTED, protocol=ProtocolId.IKE),
        *proof.hash_payloads(connection),
        *proof.certificate_requests(connection),
        *announce(connection),
        VendorIdPayload(data=VENDOR_ID),
    ]
    return Accepted(
        payloads=tuple(payloads),
        chosen=chosen,
        spi_r=spi_r,
        nonce_i=nonce_i,
        nonce_r=nonce_r,
        shared=shared,
        peer=peer,
        # The hashes in the request were made with SPIr = 0 (RFC 7296 2.23).
        nat=_detect_nat(connection, received, (spi_i, NO_SPI), local, remote),
    )


def _answered_traits(peer: PeerTraits) -> list[Payload]:
    """Only what both sides can do; of the two PPK notifies at most one (RFC 9867 3.1)."""
    answers = (
        (peer.fragmentation, NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        (peer.intermediate, NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),
        (peer.ppk_intermediate, NotifyType.USE_PPK_INT),
        (peer.ppk_auth, NotifyType.USE_PPK),
    )
    return [NotifyPayload(type=kind) for agreed, kind in answers if agreed]


# --- both ------------------------------------------------------------------------------------


def classical_reason(connection: Connection, chosen: Chosen) -> str:
    """Why this choice is too weak for us; empty where it is not."""
    if connection.allow_classical:
        return ""
    if any(name.startswith(PQ_PREFIXES) for name in chosen.key_exchanges):
        return ""
    return "no ML-KEM in the key exchange, and allow_classical is false"


def _peer_traits(
    connection: Connection, received: Received, mode: PpkMode | None = None
) -> PeerTraits:
    """``mode`` is given by a responder, which decides; an initiator takes what came back."""
    capable = connection.uses_ppk
    intermediate = received.has(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)
    ppk_intermediate = capable and intermediate and received.has(NotifyType.USE_PPK_INT)
    ppk_auth = capable and not ppk_intermediate and received.has(NotifyType.USE_PPK)
    if mode is PpkMode.OFF:
        ppk_auth = False  # RFC 8784 3: echoed only by who has a PPK for possible use
    return PeerTraits(
        fragmentation=received.has(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        intermediate=intermediate,
        ppk_intermediate=ppk_intermediate,
        ppk_auth=ppk_auth,
        signature_hashes=proof.announced_hashes(received) if connection.signatures else None,
        childless=received.has(NotifyType.CHILDLESS_IKEV2_SUPPORTED),
        qsgw=any(payload.data == VENDOR_ID for payload in received.all(VendorIdPayload)),
    )


def _nonce(received: Received, chosen: Chosen) -> bytes:
    if chosen.prf is None:
        raise RuntimeError("an IKE SA has a PRF")
    return received.nonce(Prf(chosen.prf))


def _nat_payloads(
    connection: Connection, spi_i: bytes, spi_r: bytes, local: Address, remote: Address
) -> list[Payload]:
    return [
        NotifyPayload(
            type=NotifyType.NAT_DETECTION_SOURCE_IP,
            data=source_hash(spi_i, spi_r, local, force=connection.force_encap),
        ),
        NotifyPayload(
            type=NotifyType.NAT_DETECTION_DESTINATION_IP,
            data=detection_hash(spi_i, spi_r, remote),
        ),
    ]


def _detect_nat(
    connection: Connection,
    received: Received,
    spis: tuple[bytes, bytes],
    local: Address,
    remote: Address,
) -> NatStatus:
    return detect(
        spi_i=spis[0],
        spi_r=spis[1],
        local=local,
        remote=remote,
        sources=[one.data for one in received.notifies(NotifyType.NAT_DETECTION_SOURCE_IP)],
        destinations=[
            one.data for one in received.notifies(NotifyType.NAT_DETECTION_DESTINATION_IP)
        ],
        force=connection.force_encap,
    )
