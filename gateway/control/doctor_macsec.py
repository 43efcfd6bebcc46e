"""Is this machine fit for its MACsec links? The kernel, and the interfaces as they are now."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Interface

from gateway.config.schema import MacsecConfig
from gateway.control.finding import Finding, State
from gateway.dataplane.macsec_port import MACSEC_OVERHEAD, IpInterface
from gateway.dataplane.netlink.link_codec import MACSEC_KIND, Link
from gateway.dataplane.netlink.links import Links
from gateway.dataplane.netlink.macsec_probe import probe_macsec
from gateway.errors import DataplaneError, StartupError
from gateway.model import PortSecurity

MAC_SIZE = 6  # octets of an Ethernet address
SUITES = "MACsec GCM-"  # so begin the names of suites in what the probe finds


async def examine_links(configured: Mapping[str, MacsecConfig]) -> list[Finding]:
    """Nothing is changed: the kernel is tried in a network namespace of its own."""
    findings = [_packet_socket(), *await _kernel(configured)]
    links = Links()
    try:
        await links.requests.open()
        for config in configured.values():
            findings += await _link(links, config)
    except (DataplaneError, StartupError) as error:
        findings.append(Finding(check="interfaces", state=State.FAILED, text=str(error)))
    finally:
        links.requests.close()
    return findings


def _packet_socket() -> Finding:
    """EAPOL comes and goes through one."""
    check = "packet sockets"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError as error:
        return Finding(
            check=check,
            state=State.WARNING if error.errno == errno.EPERM else State.FAILED,
            text=error.strerror or "?",
            advice="the service has CAP_NET_RAW by qsgwd.service; to run qsgwd by hand be root",
        )
    return Finding(check=check, state=State.OK, text="for EAPOL")


async def _kernel(configured: Mapping[str, MacsecConfig]) -> list[Finding]:
    """Suites that no link uses are left out."""
    used = {
        f"MACsec {suite.name.replace('_', '-')}"
        for config in configured.values()
        for suite in config.accept
    }
    return [
        Finding(
            check=f"kernel: {feature}",
            state=State.OK if works else State.FAILED,
            text=detail,
            advice=""
            if works
            else "be root, and load macsec, gcm, sch_ingress, cls_matchall and act_gact (modprobe)",
        )
        for feature, works, detail in await probe_macsec()
        if feature in used or not feature.startswith(SUITES)
    ]


async def _link(links: Links, config: MacsecConfig) -> list[Finding]:
    parent = await links.find(config.interface)
    device = await links.find(config.device)
    addresses = () if parent is None else await links.addresses(parent)
    return list(_findings(config, parent, device, addresses))


def _findings(
    config: MacsecConfig,
    parent: Link | None,
    device: Link | None,
    addresses: tuple[IpInterface, ...],
) -> Iterator[Finding]:
    check = f"MACsec {config.name}"
    if parent is None:
        yield Finding(
            check=check,
            state=State.FAILED,
            text=f"there is no interface {config.interface}",
            advice=f"correct interface in [{config.table}]; ip link shows what there is",
        )
        return
    if len(parent.mac) != MAC_SIZE:
        yield Finding(
            check=check,
            state=State.FAILED,
            text=f"{config.interface} is no Ethernet interface",
            advice="MACsec needs a port, bond or VLAN",
        )
        return
    own = [str(one) for one in addresses if not _always_there(one)]
    if own:
        must = config.security is PortSecurity.MUST_SECURE
        yield Finding(
            check=check,
            state=State.WARNING,
            text=f"{config.interface} has addresses of its own: {', '.join(own)}",
            advice=f"{'nothing passes there' if must else 'traffic there is not protected'}; "
            f"give them to {config.device} (addresses)",
        )
    if not parent.running:
        yield Finding(
            check=check,
            state=State.WARNING,
            text=f"{config.interface} is {'without a carrier' if parent.up else 'down'}",
            advice="look at cable and peer" if parent.up else "the daemon will bring it up",
        )
    if device is not None and device.kind != MACSEC_KIND:
        yield Finding(
            check=check,
            state=State.FAILED,
            text=f"{config.device} is there and no MACsec device",
            advice=f"give [{config.table}] another device",
        )
    yield _mtu(config, parent)


def _always_there(address: IpInterface) -> bool:
    """Every interface that is up has a link-local IPv6 address."""
    return isinstance(address, IPv6Interface) and address.ip.is_link_local


def _mtu(config: MacsecConfig, parent: Link) -> Finding:
    check, largest = f"MACsec {config.name}", parent.mtu - MACSEC_OVERHEAD
    if config.mtu is not None and config.mtu > largest:
        needed = config.mtu + MACSEC_OVERHEAD
        return Finding(
            check=check,
            state=State.FAILED,
            text=f"mtu {config.mtu} does not fit: {config.interface} has {parent.mtu}, and "
            f"MACsec takes {MACSEC_OVERHEAD}",
            advice=f"ip link set {config.interface} mtu {needed}, or mtu = {largest}",
        )
    return Finding(
        check=check,
        state=State.OK,
        text=f"{config.interface} {parent.mac.hex(':')}, mtu {parent.mtu}: "
        f"{config.mtu or largest} for {config.device}",
    )
