"""Events of interfaces: those in which something we read has changed."""

from __future__ import annotations

from typing import Any

from gateway.dataplane.macsec_port import InterfaceChanged, InterfaceEventsLost, MacsecEvent
from gateway.dataplane.netlink.link_codec import Link, decode_link
from gateway.dataplane.netlink.link_messages import (
    LINK_CLASSES,
    ROUTE,
    RTNLGRP_LINK,
    RouteMessage,
)
from gateway.dataplane.netlink.multicast import RECEIVE_BUFFER, MulticastSocket


class LinkEvents(MulticastSocket[MacsecEvent]):
    """The kernel tells of much more, such as each change of a device we make ourselves."""

    family = ROUTE
    groups = (RTNLGRP_LINK,)
    classes = LINK_CLASSES

    def __init__(self, receive_buffer: int = RECEIVE_BUFFER) -> None:
        super().__init__(receive_buffer)
        self._known: dict[int, Link] = {}

    def decode(self, message: Any) -> tuple[MacsecEvent, ...]:
        if message["family"] != 0:  # a bridge's ports are told of once more
            return ()
        link = decode_link(message)
        before = self._known.pop(link.index, None)
        if message["header"]["type"] == RouteMessage.DELLINK:
            return (InterfaceChanged(link.name),)
        self._known[link.index] = link
        if before == link:
            return ()
        if before is not None and before.name != link.name:
            return InterfaceChanged(before.name), InterfaceChanged(link.name)
        return (InterfaceChanged(link.name),)

    def lost(self) -> MacsecEvent:
        self._known.clear()
        return InterfaceEventsLost()
