"""The IKE sockets: UDP 500 and 4500 on each local address, with ESP-in-UDP on 4500."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_address

from gateway.dataplane.netlink.sockets import enable_udp_encap, exempt_ike_socket
from gateway.errors import StartupError
from gateway.ike.outbox import KEEPALIVE
from gateway.model import IpAddress

log = logging.getLogger("qsgw.udp")

IKE_PORT = 500  # RFC 7296 2
NATT_PORT = 4500  # RFC 3948 2.2
NON_ESP_MARKER = b"\0\0\0\0"  # RFC 3948 2.2: precedes IKE on 4500, never part of the message

Peer = tuple[IpAddress, int]
OnDatagram = Callable[[bytes, Peer, Peer], None]  # data, local, remote


class _IkeProtocol(asyncio.DatagramProtocol):
    def __init__(self, local: Peer, on_datagram: OnDatagram) -> None:
        self._local = local
        self._on_datagram = on_datagram

    def datagram_received(
        self, data: bytes, addr: tuple[str, int] | tuple[str, int, int, int]
    ) -> None:
        if self._local[1] == NATT_PORT:
            if not data.startswith(NON_ESP_MARKER):
                return  # a NAT keepalive, or ESP for an SA the kernel no longer has
            data = data[len(NON_ESP_MARKER) :]
        self._on_datagram(data, self._local, (ip_address(addr[0].partition("%")[0]), addr[1]))

    def error_received(self, exc: Exception) -> None:
        # An ICMP error is not authenticated and must not change anything (RFC 7296 2.4).
        log.debug("ICMP error on %s port %d: %s", self._local[0], self._local[1], exc)


class IkeSockets:
    """All UDP sockets of the daemon, by (local address, port)."""

    def __init__(self, addresses: Sequence[IpAddress], on_datagram: OnDatagram) -> None:
        self._addresses = tuple(addresses)
        self._on_datagram = on_datagram
        self._bound: dict[Peer, socket.socket] = {}  # not received from yet
        self._transports: dict[Peer, asyncio.DatagramTransport] = {}
        self._unsendable: set[Peer] = set()

    def bind(self) -> None:
        """Take every port, without receiving yet. Raises StartupError in the operator's words."""
        for address in self._addresses:
            for port in (IKE_PORT, NATT_PORT):
                self._bound[address, port] = _bound_socket(address, port)

    async def open(self) -> None:
        """Receive on every socket, bound here if not before. Raises StartupError."""
        loop = asyncio.get_running_loop()
        if not self._bound:
            self.bind()
        while self._bound:
            local, sock = self._bound.popitem()
            transport, _ = await loop.create_datagram_endpoint(
                lambda local=local: _IkeProtocol(local, self._on_datagram),  # type: ignore[misc]
                sock=sock,
            )
            self._transports[local] = transport

    def send(self, data: bytes, local: Peer, remote: Peer) -> None:
        """Send an IKE message or keepalive. A send that fails is logged once, never raised."""
        transport = self._transports.get(local)
        if transport is None:
            if local not in self._unsendable:
                self._unsendable.add(local)
                log.error("no socket for %s port %d: restart to change [gateway] listen", *local)
            return
        marked = local[1] == NATT_PORT and data != KEEPALIVE
        payload = NON_ESP_MARKER + data if marked else data
        try:
            transport.sendto(payload, (str(remote[0]), remote[1]))
        except OSError as error:
            if remote not in self._unsendable:
                self._unsendable.add(remote)
                log.warning("cannot send to %s port %d: %s", remote[0], remote[1], error.strerror)
        else:
            self._unsendable.discard(remote)

    def close(self) -> None:
        for sock in self._bound.values():
            sock.close()
        for transport in self._transports.values():
            transport.close()
        self._bound.clear()
        self._transports.clear()


def _bound_socket(address: IpAddress, port: int) -> socket.socket:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(address), port))
        # IKE must get through even where a tunnel's policies cover the gateways themselves.
        exempt_ike_socket(sock)
        if port == NATT_PORT:
            enable_udp_encap(sock)
    except OSError as error:
        sock.close()
        raise StartupError(_explain(address, port, error)) from error
    return sock


def _explain(address: IpAddress, port: int, error: OSError) -> str:
    where = f"UDP {address} port {port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is in use: is another IKE daemon running?"
        case errno.EADDRNOTAVAIL:
            return f"{where}: no interface of this host has that address ([gateway] listen)"
        case errno.EACCES:
            return f"{where}: not permitted; the daemon needs CAP_NET_BIND_SERVICE"
        case errno.EPERM:
            return f"{where}: not permitted; the daemon needs CAP_NET_ADMIN"
        case _:
            return f"{where}: {error.strerror or error}"
