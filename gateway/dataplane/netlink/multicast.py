"""Kernel events from a socket of their own.

A reader that is too slow loses events: the kernel reports ENOBUFS, and from then on pyroute2's
socket is unusable. So it is closed, a new one is opened, and the event of ``lost`` says that
whoever keeps state has to read the kernel back.
"""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Final, Generic, TypeVar

from pyroute2.netlink.exceptions import NetlinkError

from gateway.dataplane.netlink.layout import NetlinkFamily
from gateway.dataplane.netlink.request_socket import open_netlink
from gateway.errors import DataplaneError, StartupError

RECEIVE_BUFFER: Final = 1 << 20  # octets; some thousand events
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h: beyond net.core.rmem_max, CAP_NET_ADMIN

Event = TypeVar("Event")


class MulticastSocket(ABC, Generic[Event]):
    """What the kernel tells to groups. Belongs to the event loop it was opened in."""

    family: ClassVar[NetlinkFamily]
    groups: ClassVar[tuple[int, ...]]
    classes: ClassVar[Mapping[int, Any]]  # message classes by message type

    def __init__(self, receive_buffer: int = RECEIVE_BUFFER) -> None:
        self._receive_buffer = receive_buffer
        self._socket: Any = None

    @abstractmethod
    def decode(self, message: Any) -> tuple[Event, ...]:
        """What a message means to us."""

    @abstractmethod
    def lost(self) -> Event:
        """Events were lost."""

    async def open(self) -> None:
        sock = await open_netlink(self.family)
        sock.register_policy(dict(self.classes))
        try:
            self._enlarge(sock)
            for group in self.groups:
                sock.add_membership(group)
        except OSError as error:
            sock.close()
            raise StartupError(
                f"no {self.family.name} events: {error.strerror} (CAP_NET_ADMIN?)"
            ) from error
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

    async def events(self) -> AsyncIterator[Event]:
        """Until ``close()``. One reader only."""
        if self._socket is None:
            raise DataplaneError(f"the {self.family.name} event socket is not open", errno.EBADF)
        while self._socket is not None:
            try:
                async with aclosing(self._socket.get()) as messages:
                    async for message in messages:
                        for event in self.decode(message):
                            yield event
            except (OSError, NetlinkError):
                # ENOBUFS; or ECONNRESET, which is how pyroute2 tells of our own close().
                if self._socket is None:
                    return
                self.close()
                await self.open()
                yield self.lost()
