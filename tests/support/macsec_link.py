"""Two stations in two network namespaces on one Ethernet link, for tests of the kernel's MACsec."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any

import pytest

from gateway.dataplane.macsec_port import SecySpec
from gateway.dataplane.netlink.macsec import MacsecNetlink
from gateway.errors import StartupError
from gateway.mka.identifiers import Sci
from gateway.mka.registry import CipherSuite
from tests.support.kernel_link import SILENCE, TIMEOUT, inside, receive, run
from tests.support.macsec_contract import receive_sa, transmit_sa

ETH_P_ALL = 0x0003
ETHERTYPE_TEST = 0x88B5  # IEEE 802: local experimental
PARENT, DEVICE = "eth1", "macsec-test"
BROADCAST = b"\xff" * 6
MARKER = b"must never be seen on the link"


class NamespacePlane(MacsecNetlink):
    """Opens its sockets in a namespace, each time it is opened."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace

    async def open(self) -> None:
        with inside(self._namespace):
            await super().open()


@dataclass
class Station:
    namespace: str
    mac: bytes
    address: str
    plane: NamespacePlane

    @property
    def sci(self) -> Sci:
        return Sci(self.mac)

    @property
    def spec(self) -> SecySpec:
        return SecySpec(
            link="test",
            parent=PARENT,
            device=DEVICE,
            suite=CipherSuite.GCM_AES_256,
            encrypt=True,
            replay_window=0,
            filtered=True,
            addresses=(ip_interface(self.address),),
        )

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.namespace, *arguments)

    def tc(self, *arguments: str) -> str:
        return run("tc", "-n", self.namespace, *arguments)

    def inside(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.namespace, *command)

    def link(self, name: str) -> dict[str, Any]:
        """As iproute2 shows it."""
        (shown,) = json.loads(self.ip("-d", "-json", "link", "show", "dev", name))
        return dict(shown)

    def macsec(self) -> dict[str, Any]:
        (shown,) = json.loads(self.ip("-d", "-s", "-json", "macsec", "show", DEVICE))
        return dict(shown)

    def filters(self, direction: str) -> list[dict[str, Any]]:
        """Without the lines of priorities alone."""
        shown = json.loads(self.tc("-s", "-json", "filter", "show", "dev", PARENT, direction))
        return [entry for entry in shown if "options" in entry]

    def dropped(self, direction: str) -> int:
        """Frames that the last of the filters took."""
        text = self.tc("-s", "filter", "show", "dev", PARENT, direction)
        found = re.search(r"action drop.*?dropped (\d+)", text, re.DOTALL)
        assert found, text
        return int(found.group(1))

    def raw(self, name: str, ethertype: int = ETHERTYPE_TEST) -> socket.socket:
        with inside(self.namespace):
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            sock = socket.socket(socket.AF_PACKET, kind, socket.htons(ethertype))
            try:
                sock.bind((name, ethertype))
            except OSError:
                sock.close()
                raise
        return sock

    def send(self, name: str, frame: bytes) -> None:
        # The socket's protocol is the frame's to the filter.
        with self.raw(name, ethertype(frame)) as sock, contextlib.suppress(OSError):
            sock.send(frame)

    def frame(self, ethertype: int = ETHERTYPE_TEST, *, to: bytes = BROADCAST) -> bytes:
        return to + self.mac + ethertype.to_bytes(2) + MARKER.ljust(50, b".")


def make_stations() -> tuple[Station, Station]:
    tag = f"qsgwm{os.getpid()}"
    a, b = (
        Station(
            namespace=f"{tag}{name}",
            mac=bytes([2, 0, 0, 0, 0x51, host]),
            address=f"10.9.3.{host}/30",
            plane=NamespacePlane(f"{tag}{name}"),
        )
        for host, name in ((1, "a"), (2, "b"))
    )
    for station in (a, b):
        run("ip", "netns", "add", station.namespace)
    try:
        make_link(a, b)
    except BaseException:
        remove_stations((a, b))
        raise
    return a, b


def make_link(a: Station, b: Station) -> None:
    """Both ends of it down."""
    a.ip("link", "add", PARENT, "address", a.mac.hex(":"), "type", "veth",
         "peer", "name", PARENT, "address", b.mac.hex(":"), "netns", b.namespace)  # fmt: skip


def lend_stations() -> Iterator[tuple[Station, Station]]:
    """For a fixture of a module; skips where there are no namespaces."""
    try:
        stations = make_stations()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces: {getattr(error, 'stderr', '') or error}")
    yield stations
    remove_stations(stations)


@contextlib.asynccontextmanager
async def joined_anew(stations: tuple[Station, Station]) -> AsyncIterator[None]:
    """Both planes open, a new link, both ends of it down."""
    a, b = stations
    with contextlib.suppress(subprocess.CalledProcessError):
        a.ip("link", "del", PARENT)
    make_link(a, b)
    for station in stations:
        station.plane = NamespacePlane(station.namespace)  # one remembers its SAKs
        try:
            await station.plane.open()
        except StartupError as error:
            pytest.skip(str(error))
    yield
    for station in stations:
        await station.plane.close()


def remove_stations(stations: tuple[Station, Station]) -> None:
    for station in stations:
        run("ip", "netns", "del", station.namespace)


async def frame_passes(a: Station, b: Station, *, source: str, sink: str) -> bool:
    """Whether a broadcast frame given to ``source`` at a comes out of ``sink`` at b."""
    try:
        listener = b.raw(sink)
    except OSError:
        return False
    with listener:
        a.send(source, a.frame())
        while (taken := await receive(listener, SILENCE)) is not None:
            if MARKER in taken and taken[6:12] == a.mac:
                return True
    return False


async def ping(a: Station, b: Station, *options: str) -> tuple[int, int]:
    """Packets sent and answered."""
    target = b.address.partition("/")[0]
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", a.namespace, "ping", "-n", "-q", *options, target),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(10 * TIMEOUT):
        output, _ = await process.communicate()
    found = re.search(r"(\d+) packets transmitted, (\d+) (?:packets )?received", output.decode())
    assert found, output
    return int(found.group(1)), int(found.group(2))


def frames(sock: socket.socket) -> list[bytes]:
    """All that came in on a raw socket since it was opened or last read."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, address = sock.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING:
                found.append(frame)
    return found


def ethertype(frame: bytes) -> int:
    return int.from_bytes(frame[12:14])


# --- keys, as MKA would install them ---------------------------------------------------------


async def both_ways(
    a: Station, b: Station, *, number: int = 1, an: int = 0, suite=CipherSuite.GCM_AES_256
) -> None:
    """One SAK between them, as MKA would install it; not in use yet."""
    for station, peer, ssci in ((a, b, 1), (b, a, 2)):
        sa = transmit_sa(number, an=an, suite=suite)
        sa = replace(sa, ssci=ssci if suite.xpn else None)
        state = await station.plane.read(DEVICE)
        await peer.plane.install_receive_sa(DEVICE, receive_sa(sa, state.sci))
        await station.plane.install_transmit_sa(DEVICE, sa)


async def use(a: Station, b: Station, an: int) -> None:
    for station in (a, b):
        await station.plane.transmit_with(DEVICE, an)


async def up(a: Station, b: Station, **changes) -> None:
    for station in (a, b):
        await station.plane.set_up(replace(station.spec, **changes))
