"""INFORMATIONAL (RFC 7296 1.4): deletes, liveness, and word that something went wrong.

SK{}                          <-->  SK{}                        are you alive? / yes
SK{D(ESP, my inbound SPI)}    <-->  SK{D(ESP, my inbound SPI)}
SK{D(IKE)}                    <-->  SK{}
SK{N(AUTHENTICATION_FAILED)}  <-->  SK{}
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ike.child import ChildSa
from gateway.ike.flow import CommandError, Flow, Respond, request
from gateway.ike.limits import ESP_SPI_SIZE
from gateway.ike.payloads import DeletePayload, NotifyPayload
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, NotifyType, ProtocolId, notify_name
from gateway.ike.sa import IkeSa
from gateway.ike.states import ChildInput, ChildState, IkeState
from gateway.ike.steering import activate
from gateway.model import Ended

_FATAL = (NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX)

# --- initiator -------------------------------------------------------------------------------


def liveness() -> Flow[None]:
    """Any answer will do; none at all ends the IKE SA."""
    yield from request(ExchangeType.INFORMATIONAL, [])


def delete_ike() -> Flow[None]:
    yield from request(ExchangeType.INFORMATIONAL, [DeletePayload(protocol=ProtocolId.IKE)])


def hand_over(sa: IkeSa, *, reason: str) -> Flow[None]:
    """Delete an IKE SA beside which another one stands: that one carries on."""
    children = list(sa.children)
    yield from _spare_traffic(sa, children)
    for child in children:
        carried_on = child.tunnel.active not in (None, child)
        _forget(sa, child, reason=reason, rekeyed=carried_on)
    yield from delete_ike()


def report_failure(notify: NotifyType) -> Flow[None]:
    """RFC 7296 2.21.2: tell the peer that IKE_AUTH failed on our side."""
    yield from request(ExchangeType.INFORMATIONAL, [NotifyPayload(type=notify)])


def delete_spis(spis: Sequence[bytes]) -> Flow[None]:
    """Delete children at the peer that are not, or no longer, in our kernel."""
    yield from request(
        ExchangeType.INFORMATIONAL, [DeletePayload(protocol=ProtocolId.ESP, spis=tuple(spis))]
    )


def delete_child(sa: IkeSa, child: ChildSa, *, reason: str, rekeyed: bool) -> Flow[None]:
    """Delete a child both ways; it stays usable inbound until the linger is over."""
    if child.usable:
        child.happened(ChildInput.DELETE)
    elif child.state is not ChildState.DELETING:  # the peer was quicker
        return
    # Whatever the answer says, the child is done with (RFC 7296 1.4.1).
    yield from delete_spis([child.spi_in.to_bytes(ESP_SPI_SIZE, "big")])
    _forget(sa, child, reason=reason, rekeyed=rekeyed)


# --- responder -------------------------------------------------------------------------------


def respond(sa: IkeSa, received: Received) -> Flow[str]:
    """Returns why the IKE SA ends, or "" where it goes on."""
    deletes = received.all(DeletePayload)
    if deletes_ike(received):
        if sa.state is IkeState.REKEYED:  # RFC 7296 2.8: another one has its children
            yield Respond(payloads=[])
            return "rekeyed"
        yield from _spare_traffic(sa, list(sa.children))
        yield Respond(payloads=[])
        return "peer deleted the IKE SA"
    error = received.error()
    # RFC 7296 2.21.3: these two end an IKE SA that is up; one that is not yet, any error
    if error is not None and (sa.established_at is None or error.type in _FATAL):
        reason = f"peer reports {notify_name(error.type)}"
        sa.owner.disinherit(reason)
        yield Respond(payloads=[])
        return reason
    spis = {
        int.from_bytes(spi, "big")
        for delete in deletes
        if delete.protocol == ProtocolId.ESP
        for spi in delete.spis
    }
    named = [child for child in sa.line_children() if child.spi_out in spis]
    if sa.owner.busy:  # one of them may be in a response that is still to come
        sa.deleted_early.extend(spis - {child.spi_out for child in named})
    yield from _spare_traffic(sa, named)
    # RFC 7296 1.4.1: name our half, but not of a child we are deleting ourselves
    ours = tuple(
        child.spi_in.to_bytes(ESP_SPI_SIZE, "big")
        for child in named
        if child.state is not ChildState.DELETING
    )
    yield Respond(payloads=[DeletePayload(protocol=ProtocolId.ESP, spis=ours)] if ours else [])
    for child in named:
        moved = child.tunnel.active not in (None, child)
        reason = "rekeyed" if moved else "deleted by the peer"
        _forget(sa, child, reason=reason, rekeyed=moved, ended=Ended.BY_PEER)
    return ""


def deletes_ike(received: Received) -> bool:
    """Whether this is the end of the IKE SA it came in."""
    return any(delete.protocol == ProtocolId.IKE for delete in received.all(DeletePayload))


def _spare_traffic(sa: IkeSa, leaving: list[ChildSa]) -> Flow[None]:
    """Where our traffic leaves through a child that goes, move it first (RFC 7296 2.8)."""
    for child in leaving:
        if child.carries_outbound:
            other = child.tunnel.stand_in(*leaving)
            if other is not None:
                try:
                    yield from activate(sa, other)
                except CommandError as error:  # then it stays where it is and is dropped
                    child.tunnel.failed("respond", error.reason)


def _forget(
    sa: IkeSa, child: ChildSa, *, reason: str, rekeyed: bool, ended: Ended = Ended.HERE
) -> None:
    child.owner.release(child)
    child.tunnel.retire(child, reason=reason, rekeyed=rekeyed, now=sa.now, ended=ended)
