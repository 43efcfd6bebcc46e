"""Events of the kernel's IPsec."""

from __future__ import annotations

from typing import Any

from gateway.dataplane.netlink.multicast import MulticastSocket
from gateway.dataplane.netlink.xfrm_codec import unpack_address
from gateway.dataplane.netlink.xfrm_messages import EVENT_CLASSES, XFRM, XfrmGroup, XfrmMessage
from gateway.dataplane.port import EventsLost, KernelEvent, PeerMoved, SaExpired, TrafficWaiting
from gateway.dataplane.reconcile import is_our_reqid
from gateway.model import SaId


class EventSocket(MulticastSocket[KernelEvent]):
    """EXPIRE, ACQUIRE and MAPPING of our SAs."""

    family = XFRM
    groups = tuple(XfrmGroup)
    classes = EVENT_CLASSES

    def decode(self, message: Any) -> tuple[KernelEvent, ...]:
        event = decode_event(message)
        return () if event is None else (event,)

    def lost(self) -> KernelEvent:
        return EventsLost()


def decode_event(message: Any) -> KernelEvent | None:
    """What a message means to us; None for SAs that are not ours."""
    match message["header"]["type"]:
        case XfrmMessage.EXPIRE:
            return _expired(message)
        case XfrmMessage.ACQUIRE:
            return _waiting(message)
        case XfrmMessage.MAPPING:
            return _moved(message)
        case _:
            return None


def _expired(message: Any) -> SaExpired | None:
    # Without SPI it is the trace that an ACQUIRE left, not an SA.
    if not is_our_reqid(message["reqid"]) or not message["spi"]:
        return None
    destination = unpack_address(message["daddr"], message["family"])
    return SaExpired(
        sa_id=SaId(destination, message["spi"]),
        reqid=message["reqid"],
        hard=bool(message["hard"]),
    )


def _waiting(message: Any) -> TrafficWaiting | None:
    template = message.get_attr("XFRMA_TMPL")
    if template is None or not is_our_reqid(template["reqid"]):
        return None
    family = message["sel_family"]
    return TrafficWaiting(
        reqid=template["reqid"],
        source=unpack_address(message["sel_saddr"], family),
        destination=unpack_address(message["sel_daddr"], family),
    )


def _moved(message: Any) -> PeerMoved | None:
    if not is_our_reqid(message["reqid"]):
        return None
    family = message["family"]
    return PeerMoved(
        sa_id=SaId(unpack_address(message["daddr"], family), message["spi"]),
        reqid=message["reqid"],
        address=unpack_address(message["new_saddr"], family),
        port=message["new_sport"],
    )
