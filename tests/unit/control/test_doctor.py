"""What ``qsgw doctor`` finds, and what it advises."""

import asyncio
import socket
from importlib.metadata import PackageNotFoundError
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway.control import doctor
from gateway.control.doctor import examine
from gateway.control.finding import Finding, State
from gateway.dataplane.netlink import probe
from gateway.dataplane.netlink.probe import ProbeResult
from kms_client.errors import KmeUnreachableError

CONFIG = """
[gateway]
name = "moon"
listen = ["127.0.0.1"]
sae_id = "moon"
control_socket = "control.sock"

[kme.primary]
url = "https://127.0.0.1:1"
ca = "ca.pem"
certificate = "moon.pem"
key = "moon.key"

[tunnel.sun]
local = "127.0.0.1"
remote = "127.0.0.2"
local_id = "moon.example"
remote_id = "sun.example"
psk = "credential:sun.psk"
local_subnets = ["10.1.0.0/24"]
remote_subnets = ["10.2.0.0/24"]
kmes = ["primary"]
peer_sae = "sun"
"""


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    async def good() -> list[ProbeResult]:
        return [ProbeResult("ESP", True, "works")]

    monkeypatch.setattr(probe, "probe", good)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "qsgw.toml"
    path.write_text(CONFIG)
    return path


def found(file: Path | str, check: str) -> list[Finding]:
    findings = examine(config_file=str(file), control_socket=doctor.DEFAULT_SOCKET)
    return [finding for finding in findings if finding.check == check]


def test_a_missing_package_ends_the_examination(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "pyroute2":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "version", version)
    findings = examine(config_file=str(file), control_socket=doctor.DEFAULT_SOCKET)
    assert findings[0].text == "missing: pyroute2"
    assert [finding.check for finding in findings] == ["Python packages", "capabilities"]


def test_a_kernel_that_cannot(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bad() -> list[ProbeResult]:
        return [ProbeResult("ESP", False, "algorithm not found")]

    monkeypatch.setattr(probe, "probe", bad)
    (finding,) = found(file, "kernel: ESP")
    assert (finding.state, finding.text) == (State.FAILED, "algorithm not found")
    assert "modprobe" in finding.advice


def test_no_configuration_says_how_to_name_one() -> None:
    (finding,) = found("/nowhere/qsgw.toml", "configuration")
    assert finding.state is State.FAILED
    assert "--config FILE" in finding.advice


def test_credentials_of_the_service_are_only_a_warning(file: Path) -> None:
    states = [finding.state for finding in found(file, "configuration")]
    assert State.FAILED not in states
    assert states[-1] is State.OK


def test_the_configured_socket_is_asked(file: Path) -> None:
    (finding,) = found(file, "daemon")
    assert finding.state is State.WARNING
    assert str(file.parent / "control.sock") in finding.text


def test_a_kme_that_cannot_be_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = found(file, "KME primary")
    assert finding.state is State.FAILED
    assert "ca.pem: file is missing" in finding.text

    class Client:
        def __init__(self, **_: Any) -> None:
            pass

        async def status(self, peer_sae: str) -> None:
            assert peer_sae == "sun"
            raise KmeUnreachableError("primary", "cannot connect")

        async def close(self) -> None:
            pass

    monkeypatch.setattr("kms_client.connect.KmeClient", Client)
    (finding,) = found(file, "KME primary")
    assert finding.text == "cannot connect"
    assert "PQC_ONLY" in finding.advice


def test_ports() -> None:
    address = ip_address("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        taken = doctor._port(address, port, running=False)
        assert taken.state is State.FAILED
        assert "ss -ulpn" in taken.advice
        assert doctor._port(address, port, running=True).text == "in use by qsgwd"
    assert doctor._port(address, port, running=False).state is State.OK
    elsewhere = doctor._port(ip_address("192.0.2.1"), port, running=False)
    assert "on no interface here" in elsewhere.advice


async def test_a_running_daemon_is_found(path: Path) -> None:
    finding = await asyncio.to_thread(doctor._daemon, str(path))
    assert (finding.state, finding.text) == (State.OK, "qsgwd 0.1.0 answers")
