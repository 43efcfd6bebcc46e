"""IKE_FOLLOWUP_KE (RFC 9370 2.2.4): the additional key exchanges of a CREATE_CHILD_SA.

initiator                                        responder
SK{KEi(1), N(ADDITIONAL_KEY_EXCHANGE)(link)} -->
                                             <-- SK{KEr(1),
                                                    [N(ADDITIONAL_KEY_EXCHANGE)(link')]}
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.errors import CryptoError
from gateway.ike.collision import OwnRekey
from gateway.ike.flow import CommandError, Flow, Respond, refuse, request
from gateway.ike.flows.key_exchange import Opened, keep
from gateway.ike.payloads import KePayload, NotifyPayload, Payload
from gateway.ike.proposals import ProposalSpec
from gateway.ike.reasons import raise_on_error
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, NotifyType, ke_name
from gateway.ike.sa import IkeSa
from gateway.ike.wire import syntax_error

# --- initiator -------------------------------------------------------------------------------


def initiate(sa: IkeSa, own: OwnRekey, opened: Opened, specs: Sequence[ProposalSpec]) -> Flow[None]:
    """All of them, into ``own.secrets``. ``specs``: what was proposed."""
    link = opened.link
    additional = opened.chosen.additional
    for number, (_, method) in enumerate(additional, 1):
        kex = sa.env.kex.initiate(method)
        reply = yield from request(
            ExchangeType.IKE_FOLLOWUP_KE,
            [
                KePayload(method=method, data=kex.public),
                NotifyPayload(type=NotifyType.ADDITIONAL_KEY_EXCHANGE, data=link),
            ],
        )
        received = reply.payloads
        raise_on_error(received, specs)
        ke = received.need(KePayload)
        if ke.method != method:
            raise syntax_error(f"KE payload is for {ke_name(ke.method)}, not {ke_name(method)}")
        own.secrets.append(kex.finish(ke.data))
        onward = received.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
        if number < len(additional):
            if onward is None or not onward.data:
                raise syntax_error("link to the next key exchange is missing")
            link = onward.data


# --- responder -------------------------------------------------------------------------------


def respond(sa: IkeSa, received: Received) -> Flow[object]:
    notify = received.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    pending = None if notify is None else sa.pending.pop(notify.data, None)
    if notify is None or pending is None:
        raise refuse(NotifyType.STATE_NOT_FOUND, "peer continues an exchange we do not know")
    sa.asked_for = pending.tunnel
    sa.env.deadlines.cancel(("followup", notify.data))
    try:
        method = pending.next_method
        ke = received.need(KePayload)
        if method is None or ke.method != method:
            raise syntax_error(f"KE payload for {ke_name(ke.method)} is not the one due")
        try:
            public, shared = sa.env.kex.respond(method, ke.data)
        except CryptoError as error:  # RFC 6989 2.5
            raise syntax_error(str(error)) from error
        pending.shared.append(shared)
        payloads: list[Payload] = [KePayload(method=method, data=public)]
        if pending.next_method is not None:
            payloads.append(keep(sa, pending))
            yield Respond(payloads=payloads)
            return None
        return (yield from pending.complete(payloads))
    except CommandError as error:
        raise refuse(NotifyType.TEMPORARY_FAILURE, error.reason) from error
    finally:
        if pending not in sa.pending.values():
            pending.abandon("the SA did not come up")
