"""IKE_INTERMEDIATE (RFC 9242): additional key exchanges (RFC 9370) and the PPK (RFC 9867).

    initiator                                    responder
    SK{KEi(1)}                               -->
                                             <-- SK{KEr(1)}
    ...
    SK{KEi(n), N(PPK_IDENTITY_KEY)}          -->                  the last one; without
                                             <-- SK{KEr(n),       additional key exchanges
                                                    N(PPK_IDENTITY)}      it has no KE

Every exchange runs under the keys of the one before. Both messages of each enter AUTH.
"""

from __future__ import annotations

from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike.flow import ExchangeError, Flow, Respond, request
from gateway.ike.flows import ppk_choice
from gateway.ike.keymat import IkeKeys, additional_keys, ppk_intermediate_keys
from gateway.ike.payloads import KePayload, Payload
from gateway.ike.ppk import HeldPpk, confirmation
from gateway.ike.reasons import raise_on_error
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, KeMethod, NotifyType, ke_name
from gateway.ike.sa import IkeSa
from gateway.ike.wire import syntax_error
from gateway.model import PpkMethod

# --- initiator -------------------------------------------------------------------------------


def initiate(sa: IkeSa, ppk: HeldPpk | None) -> Flow[None]:
    """All of them. ``ppk`` is used if the peer agreed to RFC 9867."""
    for index in range(sa.intermediates_due):
        last = index + 1 == sa.intermediates_due
        offered = ppk if last and sa.peer.ppk_intermediate else None
        yield from _initiate_one(sa, _method(sa, index), offered)


def _initiate_one(sa: IkeSa, method: KeMethod | None, ppk: HeldPpk | None) -> Flow[None]:
    payloads: list[Payload] = []
    kex = None
    if method is not None:
        kex = sa.env.kex.initiate(method)
        payloads.append(KePayload(method=method, data=kex.public))
    if ppk is not None:
        payloads.append(ppk_choice.offer(ppk, _confirm(sa)))
    reply = yield from request(ExchangeType.IKE_INTERMEDIATE, payloads)
    _check_error(sa, reply.payloads, ppk)
    shared = None
    if kex is not None and method is not None:
        shared = kex.finish(_ke(reply.payloads, method).data)
    taken = ppk if ppk is not None and ppk_choice.accepted(reply.payloads, ppk) else None
    keys = _next_keys(sa, shared, taken)
    sa.intermediates += 1
    if keys is not None:
        sa.rotate(keys)
    # Only now, under the keys the responder has by now, can we tell it that we give up.
    if ppk is not None and taken is None:
        ppk_choice.without(sa, sa.policy, ppk, NotifyType.AUTHENTICATION_FAILED)


def _check_error(sa: IkeSa, received: Received, ppk: HeldPpk | None) -> None:
    error = received.error()
    if (
        error is not None
        and error.type == NotifyType.AUTHENTICATION_FAILED
        and sa.peer.ppk_intermediate
    ):  # nobody is authenticated yet: this can only be about the PPK (RFC 9867 3.1)
        what = "has not got the one we named" if ppk is not None else "we offered none"
        reason = f"peer insists on a QKD key, and {what}"
        if ppk is not None:
            ppk.settle(used=False, reason=reason, refused=True)
        raise ExchangeError(
            reason,
            notify=NotifyType.AUTHENTICATION_FAILED.name,
            from_peer=True,
            ppk_missing=True,
        )
    raise_on_error(received, sa.connection.ike_proposals)


# --- responder -------------------------------------------------------------------------------


def respond(sa: IkeSa, received: Received) -> Flow[None]:
    """One of them."""
    index = sa.intermediates
    if index >= sa.intermediates_due:
        raise syntax_error("one IKE_INTERMEDIATE too many")
    payloads: list[Payload] = []
    shared = None
    method = _method(sa, index)
    if method is not None:
        try:
            public, shared = sa.env.kex.respond(method, _ke(received, method).data)
        except CryptoError as error:  # RFC 6989 2.5
            raise syntax_error(str(error)) from error
        payloads.append(KePayload(method=method, data=public))
    ppk = None
    if index + 1 == sa.intermediates_due and sa.peer.ppk_intermediate:
        ppk = yield from ppk_choice.choose(
            sa, sa.policy, received, _confirm(sa), NotifyType.AUTHENTICATION_FAILED
        )
        if ppk is not None:
            payloads.append(ppk_choice.answer(ppk))
    keys = _next_keys(sa, shared, ppk)
    sa.intermediates += 1
    yield Respond(payloads=payloads, keys=keys)


# --- both ------------------------------------------------------------------------------------


def _method(sa: IkeSa, index: int) -> KeMethod | None:
    """The additional key exchange of the ``index``-th exchange, if it has one."""
    additional = sa.chosen.additional
    return additional[index][1] if index < len(additional) else None


def _ke(received: Received, method: KeMethod) -> KePayload:
    ke = received.need(KePayload)
    if ke.method != method:  # RFC 9370 2.2.2
        raise syntax_error(f"KE payload is for {ke_name(ke.method)}, not {ke_name(method)}")
    return ke


def _confirm(sa: IkeSa) -> ppk_choice.Confirm:
    nonces = sa.nonce_i + sa.nonce_r
    return lambda ppk: confirmation(sa.prf, ppk, nonces, sa.spi_i, sa.spi_r)


def _next_keys(sa: IkeSa, shared: Secret | None, ppk: HeldPpk | None) -> IkeKeys | None:
    """First the key exchange, then the PPK, "the last action before IKE_AUTH" (RFC 9867 3.1.1)."""
    keys = None
    if shared is not None:
        keys = additional_keys(sa.key_inputs, sa.keys, shared)
        shared.wipe()
    if ppk is not None:
        before = keys or sa.keys
        mixed = ppk_intermediate_keys(sa.key_inputs, before, ppk.key)
        if keys is not None:
            keys.wipe()
        keys = mixed
        sa.ppk_mixed(ppk, PpkMethod.INTERMEDIATE)
    return keys
