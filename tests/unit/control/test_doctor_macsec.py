"""What ``qsgw doctor`` finds about MACsec links, and what it advises."""

import errno
import os
import socket
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from gateway.config.schema import MacsecConfig
from gateway.control import doctor, doctor_macsec
from gateway.control.doctor_macsec import examine_links
from gateway.control.finding import Finding, State
from gateway.dataplane.macsec_port import IpInterface
from gateway.dataplane.netlink.link_codec import Link
from gateway.dataplane.netlink.probe import ProbeResult
from gateway.errors import StartupError
from gateway.mka.registry import CipherSuite
from gateway.model import PortSecurity

METRO = MacsecConfig(
    name="metro",
    interface="eth1",
    device="macsec-metro",
    addresses=(),
    mtu=None,
    connection="sun",
    link="metro",
    cak_size=32,
    static=None,
    priority=16,
    suite=CipherSuite.GCM_AES_256,
    accept=frozenset({CipherSuite.GCM_AES_256}),
    encrypt=True,
    security=PortSecurity.MUST_SECURE,
    delay_protect=False,
    replay_window=64,
    sak_lifetime=None,
)
ETH1 = Link(
    index=3,
    name="eth1",
    mac=bytes.fromhex("020000001201"),
    mtu=1500,
    up=True,
    running=True,
    kind="",
    below=None,
)
DEVICE = replace(ETH1, index=4, name="macsec-metro", kind="macsec", below=3)


class Machine:
    """Interfaces and a kernel that are only pretended."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {"eth1": ETH1}
        self.own: tuple[IpInterface, ...] = ()
        self.probed = [
            ProbeResult("MACsec", True, "module and capability are there"),
            ProbeResult("MACsec GCM-AES-256", True, "device and SA accepted"),
            ProbeResult("MACsec GCM-AES-XPN-256", False, "not supported"),
        ]
        self.refused = ""
        self.requests = self
        self.closed = 0

    async def open(self) -> None:
        if self.refused:
            raise StartupError(self.refused)

    def close(self) -> None:
        self.closed += 1

    async def find(self, name: str) -> Link | None:
        return self.links.get(name)

    async def addresses(self, link: Link) -> tuple[IpInterface, ...]:
        assert link.name == "eth1"
        return self.own

    async def probe(self) -> list[ProbeResult]:
        return self.probed


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(doctor_macsec, "Links", lambda: machine)
    monkeypatch.setattr(doctor_macsec, "probe_macsec", machine.probe)
    return machine


async def found(machine: Machine, **changes: Any) -> list[Finding]:
    """Of the link; the kernel's are looked at by themselves."""
    findings = await examine_links({"metro": replace(METRO, **changes)})
    assert machine.closed == 1
    return [one for one in findings if one.check == "MACsec metro"]


async def test_all_is_well(machine: Machine) -> None:
    (finding,) = await found(machine)
    assert finding.state is State.OK
    assert finding.text == "eth1 02:00:00:00:12:01, mtu 1500: 1468 for macsec-metro"


async def test_all_is_well_with_the_daemon_running(machine: Machine) -> None:
    machine.links["macsec-metro"] = DEVICE
    machine.own = (ip_interface("fe80::ff:fe00:1201/64"),)
    assert [one.state for one in await found(machine, mtu=1400)] == [State.OK]


async def test_no_such_interface(machine: Machine) -> None:
    (finding,) = await found(machine, interface="eth9")
    assert (finding.state, finding.text) == (State.FAILED, "there is no interface eth9")
    assert "[macsec.metro]" in finding.advice


async def test_no_ethernet(machine: Machine) -> None:
    machine.links["eth1"] = replace(ETH1, mac=b"")
    (finding,) = await found(machine)
    assert (finding.state, finding.text) == (State.FAILED, "eth1 is no Ethernet interface")


@pytest.mark.parametrize(
    ("security", "advice"),
    [
        (PortSecurity.MUST_SECURE, "nothing passes there"),
        (PortSecurity.SHOULD_SECURE, "traffic there is not protected"),
    ],
)
async def test_addresses_of_the_parent(
    machine: Machine, security: PortSecurity, advice: str
) -> None:
    machine.own = (ip_interface("10.9.3.1/30"), ip_interface("fe80::1/64"))
    first, second = await found(machine, security=security)
    assert (first.state, second.state) == (State.WARNING, State.OK)
    assert first.text == "eth1 has addresses of its own: 10.9.3.1/30"
    assert first.advice.startswith(advice)


@pytest.mark.parametrize(("up", "text"), [(True, "without a carrier"), (False, "down")])
async def test_an_interface_that_does_not_run(machine: Machine, up: bool, text: str) -> None:
    machine.links["eth1"] = replace(ETH1, up=up, running=False)
    first, second = await found(machine)
    assert (first.state, first.text) == (State.WARNING, f"eth1 is {text}")
    assert second.state is State.OK


async def test_another_device_of_that_name(machine: Machine) -> None:
    machine.links["macsec-metro"] = replace(DEVICE, kind="dummy")
    first, _ = await found(machine)
    assert (first.state, first.text) == (State.FAILED, "macsec-metro is there and no MACsec device")


@pytest.mark.parametrize(("mtu", "state"), [(1468, State.OK), (1469, State.FAILED)])
async def test_mtu(machine: Machine, mtu: int, state: State) -> None:
    (finding,) = await found(machine, mtu=mtu)
    assert finding.state is state
    if state is State.FAILED:
        assert finding.advice == "ip link set eth1 mtu 1501, or mtu = 1468"


async def test_suites_of_the_kernel(machine: Machine) -> None:
    """One that nobody uses does not matter."""

    async def kernel(**changes: Any) -> list[tuple[str, State]]:
        findings = await examine_links({"metro": replace(METRO, **changes)})
        return [(one.check, one.state) for one in findings if one.check.startswith("kernel: ")]

    assert await kernel() == [
        ("kernel: MACsec", State.OK),
        ("kernel: MACsec GCM-AES-256", State.OK),
    ]
    both = frozenset({CipherSuite.GCM_AES_256, CipherSuite.GCM_AES_XPN_256})
    assert (await kernel(accept=both))[-1] == ("kernel: MACsec GCM-AES-XPN-256", State.FAILED)


@pytest.mark.parametrize(
    ("number", "state"),
    [(None, State.OK), (errno.EPERM, State.WARNING), (errno.EAFNOSUPPORT, State.FAILED)],
)
async def test_packet_sockets(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int | None, state: State
) -> None:
    class Socket:
        def __init__(self, family: int, _: int) -> None:
            assert family == socket.AF_PACKET
            if number is not None:
                raise OSError(number, os.strerror(number))

        def close(self) -> None: ...

    monkeypatch.setattr(doctor_macsec.socket, "socket", Socket)
    first, *_ = await examine_links({"metro": METRO})
    assert (first.check, first.state) == ("packet sockets", state)
    assert ("CAP_NET_RAW" in first.advice) is (number is not None)


async def test_no_netlink(machine: Machine) -> None:
    machine.refused = "no routing netlink"
    findings = await examine_links({"metro": METRO})
    assert (findings[-1].check, findings[-1].text) == ("interfaces", "no routing netlink")


CONFIG = """
[gateway]
name = "moon"
listen = ["127.0.0.1"]
sae_id = "moon"
control_socket = "control.sock"
"""
LINK = """
[macsec.metro]
interface = "eth1"
cak = "credential:metro.cak"
ckn = "6d"
allow_classical = true
"""


@pytest.mark.parametrize(("text", "asked"), [(CONFIG, False), (CONFIG + LINK, True)])
def test_only_where_there_are_links(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, asked: bool
) -> None:
    monkeypatch.setattr(doctor, "_kernel", list)
    file = tmp_path / "qsgw.toml"
    file.write_text(text)
    findings = doctor.examine(config_file=str(file), control_socket=doctor.DEFAULT_SOCKET)
    assert any("MACsec" in one.check for one in findings) is asked
    assert machine.closed == asked
