"""IKE_AUTH (RFC 7296 1.2): who we are, proof of it, and the first Child SA.

    initiator                                        responder
    SK{IDi, [CERT+], [CERTREQ], IDr, AUTH, SA, TSi, TSr,
       [N(INITIAL_CONTACT)],
       [N(SUPPORTED_AUTH_METHODS)],
       [N(PPK_IDENTITY), [N(NO_PPK_AUTH)]]}      -->
                                                 <-- SK{IDr, [CERT+], AUTH, SA, TSi, TSr,
                                                        [N(PPK_IDENTITY)]}
    SK{}                                         -->                  both SAs are in place here

What CERT, CERTREQ and AUTH say stands in ``proof``. The PPK notifies are those of RFC 8784,
used where the peer did not agree to RFC 9867. The INFORMATIONAL at the end is ours: it lets the
responder move its traffic to the new SA as soon as the initiator can take it.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.crypto.secret import Secret
from gateway.ike.attempt import ChildAttempt, ChildSecrets
from gateway.ike.auth import signed_octets
from gateway.ike.auth_hints import announce
from gateway.ike.child import ChildSa
from gateway.ike.config import PpkMode
from gateway.ike.errors import ProtocolError
from gateway.ike.events import IkeEstablished
from gateway.ike.flow import (
    CommandError,
    ExchangeError,
    Flow,
    Fulfilled,
    PpkMissingError,
    Respond,
    refuse,
    request,
)
from gateway.ike.flows import informational, ppk_choice, proof
from gateway.ike.keymat import IkeKeys, ppk_auth_keys
from gateway.ike.negotiation import (
    Traffic,
    accept_child,
    agree_mode,
    check_path,
    check_peer_spi,
    choose_tunnel,
    esp_offers,
    first_child_specs,
    proposal_payload,
    traffic_payloads,
)
from gateway.ike.payloads import (
    AuthPayload,
    IdPayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
)
from gateway.ike.ppk import HeldPpk, PpkVerdict, encode_ppk_id, key_id_of, responder_verdict
from gateway.ike.proposals import select
from gateway.ike.reasons import proposals_text, raise_on_error
from gateway.ike.received import Received
from gateway.ike.registry import (
    ADDITIONAL_KE_TYPES,
    ExchangeType,
    NotifyType,
    TransformType,
)
from gateway.ike.sa import IkeSa, PeerProof
from gateway.ike.states import IkeInput
from gateway.ike.steering import activate, bring_up, watch
from gateway.ike.transforms import Proposal
from gateway.ike.tunnel import Tunnel
from gateway.ike.wire import syntax_error
from gateway.model import PpkMethod, Role

# --- initiator -------------------------------------------------------------------------------


def initiate(sa: IkeSa, ppk: HeldPpk | None) -> Flow[None]:
    """``ppk``: for RFC 8784, where nothing was mixed in before."""
    if sa.tunnel is None:
        yield from _initiate_childless(sa, ppk)
        return
    attempt = ChildAttempt(sa, sa.tunnel, Role.INITIATOR)
    check_path(sa, attempt.tunnel.config)
    try:
        yield from attempt.reserve()
        received = yield from _authenticate(sa, ppk, attempt)
        try:
            child = yield from _install(received, attempt)
        except (ProtocolError, CommandError):  # the peer may have it, and the IKE SA may go on
            if sa.peering.waiting:
                yield from informational.delete_spis([attempt.spi_octets])
            raise
    finally:
        attempt.abandon()
    yield from bring_up(sa, child)
    yield Fulfilled()
    yield from informational.liveness()


def _initiate_childless(sa: IkeSa, ppk: HeldPpk | None) -> Flow[None]:
    """RFC 6023: an IKE SA for its own sake."""
    received = yield from _authenticate(sa, ppk, None)
    raise_on_error(received, sa.connection.ike_proposals)
    sa.peering.settle_sessions(sa.owner, sa.now)


def _authenticate(sa: IkeSa, ppk: HeldPpk | None, attempt: ChildAttempt | None) -> Flow[Received]:
    """Both sides have proved who they are; what the response says of a child is still to read."""
    mixed = None if ppk is None else ppk_auth_keys(sa.prf, sa.keys, ppk.key)
    if attempt is not None and _receives_early(sa, mixed):
        yield from attempt.install_early((mixed or sa.keys).sk_d)
    payloads = _request_payloads(sa, attempt, ppk, mixed)
    sa.happened(IkeInput.AUTH)
    reply = yield from request(ExchangeType.IKE_AUTH, payloads)
    received = reply.payloads
    if received.find(AuthPayload) is None:  # an error before or instead of AUTH
        config = None if attempt is None else attempt.tunnel.config
        raise_on_error(received, sa.connection.ike_proposals, config)
    yield from _verify_responder(sa, received, ppk, mixed)
    _established(sa)
    return received


def _receives_early(sa: IkeSa, mixed: IkeKeys | None) -> bool:
    """Whether our inbound SA may be in the kernel while the peer has yet to prove who it is.

    Only where a QKD key is in it, which nobody but the peer has: what else keys it, somebody in
    the middle knows until AUTH is checked, and could send packets into our networks. And only
    where the peer may need it: a qsgw responder waits for our word. If this one is a qsgw gateway
    and its Vendor ID is missing, somebody would have us believe otherwise.
    """
    keyed = sa.ppk_method is not None or mixed is not None
    return keyed and not sa.peer.qsgw and not sa.missing


def _request_payloads(
    sa: IkeSa, attempt: ChildAttempt | None, ppk: HeldPpk | None, mixed: IkeKeys | None
) -> list[Payload]:
    connection = sa.connection
    identity = IdPayload(initiator=True, identity=connection.local_id)
    keys = mixed or sa.keys
    payloads: list[Payload] = [
        identity,
        *proof.certificate_payloads(sa),
        *proof.certificate_requests(connection),
        *announce(connection),
        IdPayload(initiator=False, identity=connection.remote_id),
        proof.prove(sa, _octets(sa, Role.INITIATOR, keys.sk_pi, identity)),
    ]
    if attempt is not None:
        specs = first_child_specs(attempt.tunnel)
        payloads.append(proposal_payload(specs, attempt.spi_octets))
        payloads += traffic_payloads(Traffic.of(attempt.tunnel.config), Role.INITIATOR)
    if not any(other.established for other in sa.peering.sessions):  # RFC 7296 2.4
        payloads.append(NotifyPayload(type=NotifyType.INITIAL_CONTACT))
    if ppk is not None:
        payloads.append(NotifyPayload(type=NotifyType.PPK_IDENTITY, data=encode_ppk_id(ppk.key_id)))
        # RFC 8784 3: present iff the PPK is optional for us
        if sa.policy.mode is not PpkMode.REQUIRE:
            plain = proof.prove(sa, _octets(sa, Role.INITIATOR, sa.keys.sk_pi, identity))
            payloads.append(NotifyPayload(type=NotifyType.NO_PPK_AUTH, data=plain.data))
    return payloads


def _verify_responder(
    sa: IkeSa, received: Received, ppk: HeldPpk | None, mixed: IkeKeys | None
) -> Flow[None]:
    identity = _identity(received, initiator=False)
    if not identity.identity.matches(sa.connection.remote_id):
        raise refuse(
            NotifyType.AUTHENTICATION_FAILED,
            f"peer says it is {identity.identity}, we expect {sa.connection.remote_id}",
        )
    sa.remote_id = identity.identity
    used = received.has(NotifyType.PPK_IDENTITY)
    if used and mixed is None:
        raise syntax_error("PPK_IDENTITY in answer to none")
    auth = received.need(AuthPayload)
    expected = yield from proof.learn_key(sa, received, identity)
    keys = mixed if mixed is not None and used else sa.keys
    octets = _octets(sa, Role.RESPONDER, keys.sk_pr, identity)
    if not proof.check(sa, expected, octets, auth):
        raise proof.failed(
            f"authentication of the peer failed: {proof.wrong_proof(expected)}"
            + (", or another QKD key under the same key_ID" if used else ""),
        )
    if ppk is not None and mixed is not None and used:
        _adopt(sa, mixed, ppk)
    if sa.ppk_method is None:
        ppk_choice.without(sa, sa.policy, ppk, NotifyType.AUTHENTICATION_FAILED)


def _install(received: Received, attempt: ChildAttempt) -> Flow[ChildSa]:
    sa, tunnel = attempt.sa, attempt.tunnel
    specs = first_child_specs(tunnel)
    _check_child_error(sa, received)
    raise_on_error(received, specs, tunnel.config)
    chosen, traffic = accept_child(attempt, received, specs)
    # RFC 7296 2.17: the first child is keyed with the nonces of IKE_SA_INIT
    secrets = ChildSecrets(nonces=sa.nonce_i + sa.nonce_r)
    return (yield from attempt.install(chosen, traffic, secrets))


def _check_child_error(sa: IkeSa, received: Received) -> None:
    error = received.error()
    refused = error is not None and error.type == NotifyType.NO_PROPOSAL_CHOSEN
    if refused and sa.ppk_method is None and (sa.peer.ppk_intermediate or sa.peer.ppk_auth):
        raise ExchangeError(
            "peer insists on a QKD key for this tunnel, or takes none of our ESP proposals "
            "(NO_PROPOSAL_CHOSEN)",
            notify=NotifyType.NO_PROPOSAL_CHOSEN.name,
            from_peer=True,
            ppk_missing=True,
        )


# --- responder -------------------------------------------------------------------------------


def respond(sa: IkeSa, received: Received) -> Flow[None]:
    """The first Child SA may fail without harm to the IKE SA (RFC 7296 1.2)."""
    if sa.intermediates != sa.intermediates_due:
        raise syntax_error("IKE_AUTH came before the last IKE_INTERMEDIATE")
    sa.happened(IkeInput.AUTH)
    identity = _identity(received, initiator=True)
    _check_identities(sa, received, identity)
    auth_keys = yield from _verify_initiator(sa, received, identity)
    sa.initial_contact = received.has(NotifyType.INITIAL_CONTACT)
    proof.heed(sa, received)
    ours = IdPayload(initiator=False, identity=sa.connection.local_id)
    payloads: list[Payload] = [
        ours,
        *proof.certificate_payloads(sa),
        proof.prove(sa, _octets(sa, Role.RESPONDER, auth_keys.sk_pr, ours)),
    ]
    if sa.ppk_method is PpkMethod.AUTH:  # RFC 8784 3: says that the PPK is in use
        payloads.append(NotifyPayload(type=NotifyType.PPK_IDENTITY))
    childless = received.find(SaPayload) is None and not received.all(TsPayload)  # RFC 6023 3
    more, child = ([], None) if childless else (yield from _respond_child(sa, received))
    _established(sa)
    if childless:
        sa.peering.settle_sessions(sa.owner, sa.now)
    at_once = child is not None and child.tunnel.stand_in(child) is None
    if child is not None and not at_once:
        sa.waiting_child = child
        watch(sa, child)
    yield Respond(payloads=[*payloads, *more])
    if child is not None and at_once:
        yield from activate(sa, child)


def _check_identities(sa: IkeSa, received: Received, identity: IdPayload) -> None:
    connection = sa.connection
    if not identity.identity.matches(connection.remote_id):
        raise refuse(
            NotifyType.AUTHENTICATION_FAILED,
            f"peer says it is {identity.identity}, we expect {connection.remote_id}",
        )
    sa.remote_id = identity.identity
    wanted = [one for one in received.all(IdPayload) if not one.initiator]
    if wanted and not wanted[0].identity.matches(connection.local_id):
        raise refuse(
            NotifyType.AUTHENTICATION_FAILED,
            f"peer wants to speak to {wanted[0].identity}, we are {connection.local_id}",
        )


def _verify_initiator(sa: IkeSa, received: Received, identity: IdPayload) -> Flow[IkeKeys]:
    """Check the initiator's AUTH. Returns the keys our own AUTH is made with.

    ProtocolError(AUTHENTICATION_FAILED) where it is wrong, or policy wants a PPK in vain.
    """
    auth = received.need(AuthPayload)
    expected = yield from proof.learn_key(sa, received, identity)
    plain_octets = _octets(sa, Role.INITIATOR, sa.keys.sk_pi, identity)
    if sa.ppk_method is PpkMethod.INTERMEDIATE:
        _need_good(sa, expected, plain_octets, auth)
        return sa.keys
    reason = "peer cannot use QKD keys, or offers none"
    if sa.peer.ppk_auth:
        reason = yield from _fetch_named(sa, received)
    # RFC 8784 3: it has a meaning only where USE_PPK was agreed
    fallback = received.notify(NotifyType.NO_PPK_AUTH) if sa.peer.ppk_auth else None
    verdict = responder_verdict(
        use_ppk=sa.peer.ppk_auth,
        no_ppk_auth=fallback is not None,
        have_ppk=sa.ppk is not None,
        mode=sa.policy.mode,
    )
    plain = auth if fallback is None else AuthPayload(method=auth.method, data=fallback.data)
    if verdict is PpkVerdict.USE and sa.ppk is not None:
        mixed = ppk_auth_keys(sa.prf, sa.keys, sa.ppk.key)
        octets = _octets(sa, Role.INITIATOR, mixed.sk_pi, identity)
        if not proof.check(sa, expected, octets, auth):
            # Where NO_PPK_AUTH is good, only the PPK can be what differs.
            if fallback is not None:
                _need_good(sa, expected, plain_octets, plain)
                raise proof.failed(
                    f"authentication failed: {_key_text(sa)} differs from the peer's"
                )
            why = proof.wrong_proof(expected)
            raise proof.failed(f"authentication failed: {why}, or {_key_text(sa)} differs")
        _adopt(sa, mixed, sa.ppk)
        return mixed
    if fallback is not None or not sa.peer.ppk_auth:
        _need_good(sa, expected, plain_octets, plain)
    if verdict is PpkVerdict.ABORT:
        raise PpkMissingError(NotifyType.AUTHENTICATION_FAILED, f"{reason}; a QKD key is required")
    if sa.connection.uses_ppk and not sa.peer.ppk_intermediate:
        sa.ppk_not_used(sa.policy, None, reason)
    return sa.keys


def _fetch_named(sa: IkeSa, received: Received) -> Flow[str]:
    """The PPK the initiator named, into ``sa.ppk``; or why there is none."""
    named = received.notify(NotifyType.PPK_IDENTITY)
    if named is None:  # RFC 8784 3
        raise refuse(NotifyType.AUTHENTICATION_FAILED, "USE_PPK was agreed and no PPK is named")
    key_id = key_id_of(named.data)
    if sa.policy.mode is PpkMode.OFF:
        return "QKD keys are switched off here"
    if key_id is None:
        return "peer named no key_ID in the form of a UUID"
    held = yield from ppk_choice.fetch(sa, sa.policy, key_id)
    if isinstance(held, str):
        return held
    sa.ppk = held
    return ""


def _key_text(sa: IkeSa) -> str:
    return "QKD key" if sa.ppk is None else f"QKD key {sa.ppk.key_id}"


def _need_good(sa: IkeSa, expected: PeerProof, octets: bytes, auth: AuthPayload) -> None:
    if not proof.check(sa, expected, octets, auth):
        raise proof.failed(f"authentication failed: {proof.wrong_proof(expected)}")


def _respond_child(sa: IkeSa, received: Received) -> Flow[tuple[list[Payload], ChildSa | None]]:
    """The payloads for the first child, or the notify that says why there is none."""
    attempt = None
    offered = _without_key_exchange(esp_offers(received))
    try:
        tunnel, traffic = choose_tunnel(sa, received)
        traffic = agree_mode(sa, tunnel.config, traffic, received)
        sa.asked_for = sa.tunnel = tunnel
        _check_ppk(sa, tunnel)
        attempt = ChildAttempt(sa, tunnel, Role.RESPONDER)
        specs = first_child_specs(tunnel)
        chosen = select(offered, specs)
        if chosen is None:
            ours = proposals_text(specs)
            raise refuse(NotifyType.NO_PROPOSAL_CHOSEN, f"no ESP proposal in common, ours: {ours}")
        check_peer_spi(sa, chosen)
        yield from attempt.reserve()
        secrets = ChildSecrets(nonces=sa.nonce_i + sa.nonce_r)
        child = yield from attempt.install(chosen, traffic, secrets)
    except ProtocolError as error:
        if error.notify is NotifyType.INVALID_SYNTAX:
            raise
        missing = isinstance(error, PpkMissingError)
        sa.policy.failed("respond", error.reason, notify=error.notify.name, ppk_missing=missing)
        return [NotifyPayload(type=error.notify, data=error.data)], None
    except CommandError as error:
        sa.policy.failed("respond", error.reason)
        return [NotifyPayload(type=NotifyType.TEMPORARY_FAILURE)], None
    finally:
        if attempt is not None:
            attempt.abandon()
    answer = SaPayload(proposals=(chosen.answer(attempt.spi_octets),))
    return [answer, *traffic_payloads(traffic, Role.RESPONDER)], child


def _check_ppk(sa: IkeSa, tunnel: Tunnel) -> None:
    """What this tunnel wants, now that it is known which one it is: only its child fails."""
    if tunnel.mode is PpkMode.REQUIRE and sa.ppk_method is None:
        raise PpkMissingError(
            NotifyType.NO_PROPOSAL_CHOSEN, "no QKD key in the IKE SA, and policy requires one"
        )


def _without_key_exchange(offered: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
    """RFC 7296 1.2: a key exchange in the SA payload of IKE_AUTH does not count."""
    left_out = {TransformType.KE, *ADDITIONAL_KE_TYPES}
    return tuple(
        replace(one, transforms=tuple(each for each in one.transforms if each.type not in left_out))
        for one in offered
    )


# --- both ------------------------------------------------------------------------------------


def _identity(received: Received, *, initiator: bool) -> IdPayload:
    found = [one for one in received.all(IdPayload) if one.initiator is initiator]
    if len(found) != 1:
        raise syntax_error(f"not one ID{'i' if initiator else 'r'} payload")
    return found[0]


def _octets(sa: IkeSa, role: Role, sk_p: Secret, identity: IdPayload) -> bytes:
    first = role is Role.INITIATOR
    return signed_octets(
        prf=sa.prf,
        message=sa.init_request if first else sa.init_response,
        nonce=sa.nonce_r if first else sa.nonce_i,
        sk_p=sk_p,
        identity=identity.body(),
        # RFC 9242 3.3.2: the Message ID of the first IKE_AUTH request
        int_auth=sa.int_auth.octets(1 + sa.intermediates),
    )


def _adopt(sa: IkeSa, mixed: IkeKeys, ppk: HeldPpk) -> None:
    """RFC 8784 3: SK_d, SK_pi and SK_pr change, what protects messages does not."""
    plain = sa.keys
    sa.keys_now = mixed
    for secret in (plain.sk_d, plain.sk_pi, plain.sk_pr):
        secret.wipe()
    sa.ppk_mixed(ppk, PpkMethod.AUTH)


def _established(sa: IkeSa) -> None:
    sa.happened(IkeInput.AUTHENTICATED)
    sa.established_at = sa.origin.established_at = sa.now
    sa.origin.lowest_nonce = min(sa.nonce_i, sa.nonce_r)
    sa.announced = True
    sa.peering.watch.proved(sa.role, sa.heard)
    sa.peering.established(sa.owner, sa.now)
    if sa.ppk is not None:
        sa.ppk.settle(used=True, reason="mixed into an IKE SA")
    sa.emit(
        IkeEstablished(
            connection=sa.peering.name,
            role=sa.role,
            spi_i=sa.spi_i,
            spi_r=sa.spi_r,
            proposal=sa.label,
            key_exchanges=sa.key_exchanges,
            ppk_method=sa.ppk_method,
            key_id=sa.key_id,
            peer_is_qsgw=sa.peer.qsgw,
            local_proof=sa.local_proof,
            remote_proof=sa.remote_proof,
            remote_id=sa.connection.remote_id,
            remote_certificates=sa.remote_certificates,
            nat=sa.nat.present,
            fragmentation=sa.peer.fragmentation,
            local=sa.local,
            remote=sa.remote,
        )
    )
