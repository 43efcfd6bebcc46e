"""``qsgw doctor``: is this machine fit to run the gateway? Asks the system, not the daemon.

One finding per line, each with what to do about it. Nothing is changed; the kernel probe
removes what it adds.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.control.client import ControlClient
from gateway.control.finding import Finding, State
from gateway.control.protocol import DEFAULT_SOCKET
from gateway.errors import ControlError
from kms_client.errors import KmeError

if TYPE_CHECKING:  # what needs other packages is imported once those are known to be there
    from gateway.config.schema import GatewayConfig, KmeConfig
    from gateway.model import IpAddress

# as in pyproject.toml
PACKAGES = (
    "aiohttp",
    "aiomqtt",
    "cryptography",
    "msgspec",
    "prometheus-client",
    "pyopenssl",
    "pyroute2",
)
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_BIND_SERVICE": 10}  # <linux/capability.h>
IKE_PORTS = (500, 4500)  # RFC 7296 2


def examine(*, config_file: str, control_socket: str) -> list[Finding]:
    """All findings, in the order a problem would be tracked down."""
    findings = [*_packages(), *_capabilities()]
    if any(finding.state is State.FAILED for finding in findings):
        return findings
    findings += _kernel()
    config, config_findings = _configuration(config_file)
    findings += config_findings
    if config is not None and control_socket == DEFAULT_SOCKET:
        control_socket = str(config.gateway.control_socket)
    if config is not None and config.macsec:
        from gateway.control.doctor_macsec import examine_links  # noqa: PLC0415  heavy

        findings += asyncio.run(examine_links(config.macsec))
    daemon = _daemon(control_socket)
    findings.append(daemon)
    if config is not None:
        running = daemon.state is State.OK
        for address in config.gateway.listen:
            findings += [_port(address, port, running=running) for port in IKE_PORTS]
        findings += asyncio.run(_kmes(config))
    return findings


def _packages() -> Iterator[Finding]:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding(
            check="Python packages",
            state=State.FAILED,
            text=f"missing: {', '.join(missing)}",
            advice="install qsgw with its dependencies",
        )
    else:
        yield Finding(check="Python packages", state=State.OK, text=", ".join(found))


def _capabilities() -> Iterator[Finding]:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    mask = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff")), 0
    )
    missing = [name for name, bit in CAPABILITIES.items() if not mask >> bit & 1]
    if missing:
        yield Finding(
            check="capabilities",
            state=State.WARNING,
            text=f"this user lacks {' and '.join(missing)}",
            advice="the service has them by qsgwd.service; to run qsgwd by hand be root",
        )
    else:
        yield Finding(check="capabilities", state=State.OK, text=", ".join(CAPABILITIES))


def _kernel() -> Iterator[Finding]:
    from gateway.dataplane.netlink.probe import probe  # noqa: PLC0415  after _packages()

    for feature, works, detail in asyncio.run(probe()):
        yield Finding(
            check=f"kernel: {feature}",
            state=State.OK if works else State.FAILED,
            text=detail,
            advice="" if works else "be root, and load esp4, esp6 and gcm (modprobe)",
        )


def _configuration(file: str) -> tuple[GatewayConfig | None, list[Finding]]:
    from gateway.config.load import inspect_config  # noqa: PLC0415  after _packages()

    config, problems = inspect_config(Path(file), outside_service=True)
    findings = [
        Finding(
            check="configuration",
            state=State.FAILED,
            text=f"{file}: {problem}",
            advice="qsgw doctor --config FILE looks elsewhere" if not problem.table else "",
        )
        for problem in problems.errors
    ]
    findings += [
        Finding(check="configuration", state=State.WARNING, text=f"{file}: {problem}")
        for problem in problems.warnings
    ]
    if config is not None:
        findings.append(Finding(check="configuration", state=State.OK, text=f"{file} is good"))
    return config, findings


def _daemon(path: str) -> Finding:
    try:
        with ControlClient(path) as client:
            snapshot = client.snapshot()
    except ControlError as error:
        return Finding(
            check="daemon",
            state=State.WARNING,
            text=str(error),
            advice="systemctl start qsgwd; journalctl -u qsgwd says why it does not",
        )
    return Finding(check="daemon", state=State.OK, text=f"qsgwd {snapshot['version']} answers")


def _port(address: IpAddress, port: int, *, running: bool) -> Finding:
    check = f"UDP {address} port {port}"
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and running:
                return Finding(check=check, state=State.OK, text="in use by qsgwd")
            advice = {
                errno.EADDRINUSE: "stop the other IKE daemon: ss -ulpn shows it",
                errno.EADDRNOTAVAIL: "this address is on no interface here: correct listen",
                errno.EACCES: "needs CAP_NET_BIND_SERVICE: be root",
            }.get(error.errno or 0, "")
            state = State.WARNING if error.errno == errno.EACCES else State.FAILED
            return Finding(check=check, state=state, text=error.strerror or "?", advice=advice)
    return Finding(check=check, state=State.OK, text="free")


async def _kmes(config: GatewayConfig) -> list[Finding]:
    """One ``status`` call to each KME; it consumes no key."""
    return [await _kme(kme, _peer_of(config, kme.name)) for kme in config.kmes.values()]


def _peer_of(config: GatewayConfig, kme: str) -> str | None:
    return next((t.peer_sae for t in config.tunnels.values() if kme in t.kmes), None)


async def _kme(kme: KmeConfig, peer_sae: str | None) -> Finding:
    from kms_client.connect import make_client  # noqa: PLC0415  after _packages()
    from kms_client.profiles import find_profile  # noqa: PLC0415  as above

    check = f"KME {kme.name}"
    if not peer_sae:
        return Finding(check=check, state=State.WARNING, text="not tried: no tunnel uses it")
    client = make_client(
        name=kme.name,
        url=kme.url,
        credentials=kme.credentials,
        protocol=kme.protocol,
        profile=find_profile(kme.profile),
        timeout=kme.timeout,
        peers=dict(kme.peers),
    )
    try:
        status = await client.status(peer_sae)
    except KmeError as error:
        return Finding(
            check=check,
            state=State.FAILED,
            text=error.what,
            advice="tunnels that prefer QKD fall back to PQC_ONLY, those that require it block",
        )
    finally:
        await client.close()
    return Finding(
        check=check,
        state=State.OK,
        text=f"{kme.url} {_stock(status.stored_key_count)} shared with {peer_sae}",
    )


def _stock(count: int | None) -> str:
    return "gives keys" if count is None else f"holds {count} keys"
