"""Builds a topology out of network namespaces and veth pairs, and disturbs its links.

Everything goes through iproute2 in batches: it is the independent hand in this project, and
one process per batch matters where system calls are slow (user-mode Linux).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from netns_lab.errors import LabError
from netns_lab.readiness import wait_until
from netns_lab.topology import Host, Link, Topology

_SYSCTLS = (
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    # Addresses are ours alone: no waiting for duplicate address detection.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    # An unplugged cable must not cost a host its addresses.
    ("ipv6/conf/all/keep_addr_on_down", "1"),
)
_UP_SECONDS = 10.0
_FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """What a link does to packets, in each direction. The default is a perfect link."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    duplicate_percent: float = 0.0
    reorder_percent: float = 0.0  # needs a delay: the rest waits, these overtake

    def netem(self) -> list[str]:
        """Arguments of ``tc qdisc ... netem``; empty for a perfect link."""
        words: list[str] = []
        if self.delay_ms:
            words += ["delay", f"{self.delay_ms}ms"]
            if self.jitter_ms:
                words.append(f"{self.jitter_ms}ms")
        for word, percent in (
            ("loss", self.loss_percent),
            ("duplicate", self.duplicate_percent),
            ("reorder", self.reorder_percent),
        ):
            if percent:
                words += [word, f"{percent}%"]
        return words


PERFECT = Impairment()
CUT = Impairment(loss_percent=100.0)


class Network:
    """A topology as it stands in the kernel. ``run`` sets its namespaces apart from others'."""

    def __init__(self, topology: Topology, run: str) -> None:
        self.topology = topology
        self.run = run

    def namespace(self, host: str) -> str:
        return f"{self.run}-{self.topology.host(host).name}"

    async def build(self) -> None:
        """Return when every interface carries packets, IPv6's neighbour discovery included."""
        hosts = self.topology.hosts
        lines = [f"netns add {self.namespace(host.name)}" for host in hosts]
        lines += [self._veth(link) for link in self.topology.links]
        await self._batch([], lines)
        await asyncio.gather(*(self._configure(host) for host in hosts))
        await wait_until(self._all_up, _UP_SECONDS, "every interface is up")

    async def destroy(self) -> None:
        """Delete the namespaces and with them every interface, SA and policy."""
        names = [self.namespace(host.name) for host in self.topology.hosts]
        await self._batch(["-force"], [f"netns del {name}" for name in names])

    async def impair(self, first: str, second: str, impairment: Impairment) -> None:
        """Give the link between two hosts these properties, both ways, until the next call."""
        link = self.topology.link(first, second)
        words = impairment.netem()
        for end in link.ends:
            device = ["dev", link.interface(end.host), "root"]
            change = ["replace", *device, "netem", *words] if words else ["del", *device]
            await _command(
                ["tc", "-n", self.namespace(end.host), "qdisc", *change],
                # Deleting where there is nothing to delete: perfect already.
                tolerate="" if words else "Cannot delete qdisc with handle of zero",
            )

    async def unplug(self, first: str, second: str) -> None:
        """Pull the cable: both ends lose their carrier and the routes over it."""
        link = self.topology.link(first, second)
        for end in link.ends:
            words = [f"link set dev {link.interface(end.host)} down"]
            await self._batch(["-n", self.namespace(end.host)], words)

    async def plug(self, first: str, second: str) -> None:
        """Put the cable back, and the routes that went with it; return when it works."""
        link = self.topology.link(first, second)
        for end in link.ends:
            host = self.topology.host(end.host)
            lines = configuration(self.topology, host)
            if link.raw:
                lines.append(f"link set dev {link.interface(end.host)} up")
            await self._batch(["-n", self.namespace(end.host)], lines)
        await wait_until(self._all_up, _UP_SECONDS, "every interface is up")

    def _veth(self, link: Link) -> str:
        first, second = (end.host for end in link.ends)
        return (
            f"link add name {link.interface(first)} netns {self.namespace(first)} "
            f"type veth peer name {link.interface(second)} netns {self.namespace(second)}"
        )

    async def _configure(self, host: Host) -> None:
        values = [*_SYSCTLS, *((name, "1") for name in _FORWARDING if host.forwards)]
        lines = [f"echo {value} > /proc/sys/net/{name}" for name, value in values]
        script = "\n".join([*lines, "exec ip -batch -"])
        await _command(
            ["ip", "netns", "exec", self.namespace(host.name), "sh", "-ec", script],
            "\n".join(configuration(self.topology, host)) + "\n",
        )

    async def _all_up(self) -> bool:
        namespaces = [self.namespace(host.name) for host in self.topology.hosts]
        script = 'for name; do ip -n "$name" address show up type veth || exit; done'
        return usable(await _command(["sh", "-c", script, "sh", *namespaces]))

    async def _batch(self, options: list[str], lines: list[str]) -> None:
        await _command(["ip", *options, "-batch", "-"], "\n".join(lines) + "\n")


def usable(addresses: str) -> bool:
    """Does ``ip address`` show interfaces that are up and addresses that are valid?

    The kernel tells IPv6 of a new carrier, and makes its addresses valid, a little after
    iproute2 has set them up.
    """
    interfaces = [line for line in addresses.splitlines() if " mtu " in line]
    return all(" state UP " in line for line in interfaces) and "tentative" not in addresses


def configuration(topology: Topology, host: Host) -> list[str]:
    """iproute2 batch that gives ``host`` its addresses and routes. May be applied again.

    Interfaces of raw links stay down: up, they would speak (IPv6) before anyone forbids it.
    """
    lines = ["link set dev lo up"]
    for link in topology.links:
        for end in link.ends:
            if end.host == host.name and not link.raw:
                device = link.interface(host.name)
                lines += [
                    f"address replace {address} dev {device}"
                    + (" nodad" if address.version == 6 else "")
                    for address in end.addresses
                ]
                lines.append(f"link set dev {device} up")
    lines += [f"route replace default via {gateway}" for gateway in host.gateways]
    return lines


async def _command(command: list[str], text: str = "", *, tolerate: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(text.encode())
    said = output.decode(errors="replace").strip()
    if process.returncode != 0 and not (tolerate and tolerate in said):
        raise LabError(f"{' '.join(command)}: {said or f'exit code {process.returncode}'}")
    return said
