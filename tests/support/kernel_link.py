"""Two gateways in two network namespaces on one link, for tests of the kernel's IPsec.

A socket stays in the namespace it was made in, so one process can hold both ends: ``inside``
changes the namespace of the calling thread while sockets are opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from gateway.crypto.secret import Secret
from gateway.dataplane.netlink.xfrm import XfrmDataPlane
from gateway.dataplane.reconcile import reqid_for
from gateway.model import Direction, IpAddress, IpNetwork, PolicySpec, SaSpec, UdpEncap
from tests.support.policies import tunnel_policies

CLONE_NEWNET = 0x4000_0000
ETH_P_ALL = 3
ETH_HLEN = 14
NEIGHBOURS = (0, 58)  # hop-by-hop (MLD) and ICMPv6
MARKER = b"must never be seen on the wire"
TUNNEL = "kernel-test"
REQID = reqid_for(TUNNEL)
TIMEOUT = 5.0  # seconds, for what must arrive
SILENCE = 0.3  # seconds, for what must not

_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets made in this block belong to ``namespace``."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(there)
        os.close(here)


@dataclass
class End:
    """One gateway: its namespace, its addresses by IP version, its data plane."""

    namespace: str
    outer: dict[int, IpAddress]
    inner: dict[int, IpAddress]
    plane: XfrmDataPlane = field(default_factory=XfrmDataPlane)

    def net(self, version: int) -> IpNetwork:
        return ip_network(self.inner[version])

    def ip(self, *arguments: str) -> str:
        """iproute2 in this namespace: the witness that is not our own code."""
        return run("ip", "-n", self.namespace, *arguments)

    def udp(self, address: IpAddress, port: int = 0) -> socket.socket:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with inside(self.namespace):
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((str(address), port))
        return sock

    def sysctl(self, name: str, value: str) -> None:
        run("ip", "netns", "exec", self.namespace, "sh", "-c", f"echo {value} > /proc/sys/{name}")

    def policies(
        self,
        peer: End,
        *,
        outer: int = 4,
        inner: int = 4,
        spi: int | None = None,
    ) -> tuple[PolicySpec, ...]:
        return tunnel_policies(
            TUNNEL,
            [self.net(inner)],
            [peer.net(inner)],
            local_addr=self.outer[outer],
            remote_addr=peer.outer[outer],
            reqid=REQID,
            spi=spi,
        )

    async def set_policies(self, policies: tuple[PolicySpec, ...]) -> None:
        for policy in policies:
            await self.plane.set_policy(policy)


def make_ends() -> tuple[End, End]:
    """Namespaces a and b with a veth between them; inner addresses on the loopbacks."""
    tag = f"qsgwt{os.getpid()}"
    ends = tuple(
        End(
            namespace=f"{tag}{name}",
            outer={4: ip_address(f"10.99.0.{host}"), 6: ip_address(f"fd99::{host}")},
            inner={4: ip_address(f"10.{host}.0.1"), 6: ip_address(f"fd9{host}::1")},
        )
        for host, name in ((1, "a"), (2, "b"))
    )
    for end in ends:
        run("ip", "netns", "add", end.namespace)
    try:
        _connect(ends[0], ends[1])
    except BaseException:
        remove_ends((ends[0], ends[1]))
        raise
    return ends[0], ends[1]


def _connect(*ends: End) -> None:
    link = ["link", "add", "outer", "type", "veth", "peer", "name", "outer"]
    ends[0].ip(*link, "netns", ends[1].namespace)
    for end, peer in (ends, ends[::-1]):
        end.ip("link", "set", "lo", "up")
        end.ip("link", "set", "outer", "up")
        for version, bits in ((4, 24), (6, 64)):
            nodad = ["nodad"] if version == 6 else []
            end.ip("addr", "add", f"{end.outer[version]}/{bits}", "dev", "outer", *nodad)
            end.ip("addr", "add", str(end.inner[version]), "dev", "lo", *nodad)
            route = ["via", str(peer.outer[version]), "src", str(end.inner[version])]
            end.ip("route", "add", str(peer.inner[version]), *route)


def remove_ends(ends: tuple[End, End]) -> None:
    for end in ends:
        run("ip", "netns", "del", end.namespace)


@dataclass(frozen=True)
class ChildSa:
    """Both SAs from a's and from b's side."""

    a_in: SaSpec
    a_out: SaSpec
    b_in: SaSpec
    b_out: SaSpec


async def make_child(
    a: End, b: End, *, version: int = 4, encap: UdpEncap | None = None, esn: bool = True
) -> ChildSa:
    """Reserve SPIs at both ends, as an exchange would, and draw keys. Installs nothing."""
    to_a = (b.outer[version], a.outer[version])
    to_b = (a.outer[version], b.outer[version])
    spi_a = await a.plane.allocate_spi(*to_a, REQID)
    spi_b = await b.plane.allocate_spi(*to_b, REQID)
    key_a, key_b = os.urandom(36), os.urandom(36)

    def sa(direction: Direction, spi: int, path: tuple[IpAddress, IpAddress], key: bytes) -> SaSpec:
        return SaSpec(
            tunnel=TUNNEL,
            direction=direction,
            spi=spi,
            source=path[0],
            destination=path[1],
            reqid=REQID,
            key=Secret(key),
            esn=esn,
            encap=encap,
        )

    return ChildSa(
        a_in=sa(Direction.INBOUND, spi_a, to_a, key_a),
        b_out=sa(Direction.OUTBOUND, spi_a, to_a, key_a),
        b_in=sa(Direction.INBOUND, spi_b, to_b, key_b),
        a_out=sa(Direction.OUTBOUND, spi_b, to_b, key_b),
    )


async def install_child(a: End, b: End, child: ChildSa) -> None:
    await a.plane.install_sa(child.a_in)
    await b.plane.install_sa(child.b_in)
    await a.plane.install_sa(child.a_out)
    await b.plane.install_sa(child.b_out)


async def protect(a: End, b: End, child: ChildSa, *, outer: int = 4, inner: int = 4) -> None:
    """Policies at both ends, pinned to this child."""
    await a.set_policies(a.policies(b, outer=outer, inner=inner, spi=child.a_out.spi))
    await b.set_policies(b.policies(a, outer=outer, inner=inner, spi=child.b_out.spi))


# --- traffic ---------------------------------------------------------------------------------


async def receive(sock: socket.socket, within: float = TIMEOUT) -> bytes | None:
    """One datagram, or None after ``within`` seconds."""
    try:
        async with asyncio.timeout(within):
            return await asyncio.get_running_loop().sock_recv(sock, 2048)
    except TimeoutError:
        return None


async def passes(source: End, target: End, *, inner: int = 4, within: float = TIMEOUT) -> bool:
    """Whether one packet from the source's network gets to the target's."""
    with source.udp(source.inner[inner]) as sender, target.udp(target.inner[inner]) as sink:
        # A refusal by policy may show as an error of the send call.
        with contextlib.suppress(OSError):
            sender.sendto(MARKER, sink.getsockname()[:2])
        return await receive(sink, within) == MARKER


class Wire:
    """What either end puts on the link.

    Only what goes out is looked at: what came in as ESP shows up once more on the receiver's
    interface, decrypted, although it never was on the wire like that.
    """

    def __init__(self, *ends: End) -> None:
        self._socks = []
        for end in ends:
            with inside(end.namespace):
                kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
                sock = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
                sock.bind(("outer", ETH_P_ALL))
            self._socks.append(sock)

    def frames(self) -> list[bytes]:
        """IP packets since the last call, one end's after the other's; no neighbour discovery."""
        packets = []
        for sock in self._socks:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, address = sock.recvfrom(65536)
                    if address[2] == socket.PACKET_OUTGOING:
                        packets.append(frame[ETH_HLEN:])
        return [packet for packet in packets if protocol(packet) not in (None, *NEIGHBOURS)]

    def close(self) -> None:
        for sock in self._socks:
            sock.close()


def protocol(packet: bytes) -> int | None:
    """The IP protocol number: 50 ESP, 17 UDP; None for what is not IP."""
    match packet[0] >> 4 if packet else 0:
        case 4:
            return packet[9]
        case 6:
            return packet[6]
        case _:
            return None
