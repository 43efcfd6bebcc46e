"""Kernel events from a socket of their own.

A reader that is too slow loses events: the kernel reports ENOBUFS, and from then on pyroute2's
socket is unusable. So it is closed, a new one is opened, and EventsLost says that whoever keeps
state has to read the kernel back.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from gateway.dataplane.netlink.request_socket import open_netlink
from gateway.dataplane.netlink.xfrm_codec import unpack_address
from gateway.dataplane.netlink.xfrm_messages import EVENT_CLASSES, XfrmGroup, XfrmMessage
from gateway.dataplane.port import EventsLost, KernelEvent, PeerMoved, SaExpired, TrafficWaiting
from gateway.dataplane.reconcile import is_our_reqid
from gateway.errors import DataplaneError, StartupError
from gateway.model import SaId

RECEIVE_BUFFER: Final = 1 << 20  # octets; some thousand events
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h: beyond net.core.rmem_max, CAP_NET_ADMIN


class EventSocket:
    """EXPIRE, ACQUIRE and MAPPING of our SAs. Belongs to the event loop it was opened in."""

    def __init__(self, receive_buffer: int = RECEIVE_BUFFER) -> None:
        self._receive_buffer = receive_buffer
        self._socket: Any = None

    async def open(self) -> None:
        sock = await open_netlink()
        sock.register_policy(EVENT_CLASSES)
        try:
            self._enlarge(sock)
            for group in XfrmGroup:
                sock.add_membership(group)
        except OSError as error:
            sock.close()
            raise StartupError(f"no XFRM events: {error.strerror} (CAP_NET_ADMIN?)") from error
        self._socket = sock

    def _enlarge(self, sock: Any) -> None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, self._receive_buffer)
        except PermissionError:  # in a user namespace only up to net.core.rmem_max
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def events(self) -> AsyncIterator[KernelEvent]:
        """Until ``close()``. One reader only."""
        if self._socket is None:
            raise DataplaneError("the XFRM event socket is not open", errno.EBADF)
        while self._socket is not None:
            try:
                async with aclosing(self._socket.get()) as messages:
                    async for message in messages:
                        event = decode_event(message)
                        if event is not None:
                            yield event
            except (OSError, NetlinkError):
                # ENOBUFS; or ECONNRESET, which is how pyroute2 tells of our own close().
                if self._socket is None:
                    return
                self.close()
                await self.open()
                yield EventsLost()


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
