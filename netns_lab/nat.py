"""A NAT at isp, in front of a gateway: the kernel's masquerading, with mappings that change."""

from __future__ import annotations

from netns_lab.lab import Lab
from netns_lab.site_files import Gateway, peer

UDP_TIMEOUT = 25  # seconds until an idle mapping is forgotten; RFC 4787 4.3 asks for 120

_CHAIN = "POSTROUTING"


class Nat:
    """``ports`` is the range that the UDP flows of who is ``behind`` come out of at present."""

    def __init__(self, lab: Lab, *, behind: Gateway = "moon") -> None:
        self._lab = lab
        self._outside = peer(behind)  # isp's interface there is called so
        self.ports = range(20000, 20100)

    async def start(self) -> None:
        """From now on what leaves isp for the other gateway comes from isp's address."""
        await self._rule("-A")
        # Other protocols too: ESP outside UDP would get through, and be seen by the capture.
        other = [_CHAIN, "-o", self._outside, "!", "-p", "udp", "-j", "MASQUERADE"]
        await self._run("iptables-legacy", "-t", "nat", "-A", *other)
        for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
            path = f"/proc/sys/net/netfilter/{name}"
            await self._run("sh", "-c", f"echo {UDP_TIMEOUT} > {path}")

    async def flush(self) -> None:
        """Forget every mapping, as a reboot would; new ones get other ports."""
        self.ports = range(self.ports.stop, self.ports.stop + 100)
        await self._rule("-R", "1")
        await self._run("conntrack", "-F")

    async def _rule(self, verb: str, *number: str) -> None:
        ports = f"{self.ports.start}-{self.ports.stop - 1}"
        match = ("-o", self._outside, "-p", "udp", "-j", "MASQUERADE", "--to-ports", ports)
        await self._run("iptables-legacy", "-t", "nat", verb, _CHAIN, *number, *match)

    async def _run(self, *command: str) -> None:
        (await self._lab.run("isp", command)).check()
