"""IKE sockets: the non-ESP marker, and start-up errors in the operator's words."""

from __future__ import annotations

import asyncio
import errno
import socket
from ipaddress import ip_address

import pytest

from gateway.daemon import udp
from gateway.errors import StartupError

LOOPBACK = ip_address("127.0.0.1")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.EADDRINUSE, "another IKE daemon"),
        (errno.EADDRNOTAVAIL, "no interface of this host"),
        (errno.EACCES, "CAP_NET_BIND_SERVICE"),
        (errno.EPERM, "CAP_NET_ADMIN"),
    ],
)
def test_each_reason_a_socket_cannot_be_had_is_named(monkeypatch, code: int, says: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(udp, "exempt_ike_socket", refuse)
    with pytest.raises(StartupError, match=says):
        udp._bound_socket(LOOPBACK, 0)


@pytest.fixture
async def sockets(monkeypatch):
    """Our sockets on free loopback ports, without kernel IPsec."""
    ports = iter(_free_ports(2))
    monkeypatch.setattr(udp, "exempt_ike_socket", lambda _: None)
    monkeypatch.setattr(udp, "enable_udp_encap", lambda _: None)
    monkeypatch.setattr(udp, "IKE_PORT", next(ports))
    monkeypatch.setattr(udp, "NATT_PORT", next(ports))
    received: asyncio.Queue = asyncio.Queue()
    opened = udp.IkeSockets([LOOPBACK], lambda *datagram: received.put_nowait(datagram))
    await opened.open()
    yield opened, received
    opened.close()


def _free_ports(count: int) -> list[int]:
    held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for sock in held:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


async def test_the_marker_is_added_and_taken_off_on_the_natt_port_only(sockets) -> None:
    opened, received = sockets
    ike, natt = (LOOPBACK, udp.IKE_PORT), (LOOPBACK, udp.NATT_PORT)
    opened.send(b"plain", natt, ike)
    assert await received.get() == (b"\0\0\0\0plain", ike, natt)
    opened.send(b"plain", natt, natt)
    assert await received.get() == (b"plain", natt, natt)
    opened.send(b"plain", ike, ike)
    assert await received.get() == (b"plain", ike, ike)


async def test_keepalives_and_stray_esp_are_not_ike(sockets) -> None:
    opened, received = sockets
    natt = (LOOPBACK, udp.NATT_PORT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"\xff", (str(LOOPBACK), udp.NATT_PORT))
        stranger.sendto(b"\xc0\0\0\x01esp", (str(LOOPBACK), udp.NATT_PORT))
    opened.send(b"last", natt, natt)
    assert (await received.get())[0] == b"last"


async def test_ports_are_taken_before_anything_is_received(sockets, monkeypatch) -> None:
    opened, _ = sockets
    second = udp.IkeSockets([LOOPBACK], lambda *_: None)
    with pytest.raises(StartupError, match="in use"):
        second.bind()
    opened.close()
    second.close()
    await asyncio.sleep(0)  # transports close in the next turn of the loop
    second.bind()
    await second.open()
    second.close()
