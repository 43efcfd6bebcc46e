"""wpa_supplicant in a host of the lab, in place of qsgwd: MKA with the kernel's MACsec."""

from __future__ import annotations

from pathlib import Path

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.peers import wpa_supplicant_files as files
from netns_lab.peers.fetch import Tree
from netns_lab.peers.mka import MkaFacts, MkaSettings
from netns_lab.peers.root import PeerRoot
from netns_lab.process import Completed, Daemon
from netns_lab.readiness import wait_until

_DAEMON = "/usr/sbin/wpa_supplicant"
_CLI = "/usr/sbin/wpa_cli"
_CONFIG = "/etc/wpa_supplicant.conf"
_DEVICE = "macsec0"  # the kernel's first name for one that is made without
_READY_SECONDS = 20.0

# The device has neither address nor routes by itself, and loses routes each time it goes down.
# A process group of its own, so that nothing is left of it.
_NETWORK = """\
trap 'trap - TERM; kill 0' TERM
ip -oneline monitor link | while read -r line; do
    case "$line" in *" $1@"*) ip -force -batch "$2" 2>/dev/null ;; esac
done &
wait
"""


class WpaSupplicant:
    """One wpa_supplicant on ``host``; ``close`` it before the lab goes."""

    def __init__(self, lab: Lab, host: str, tree: Tree, settings: MkaSettings) -> None:
        self.settings = settings
        self.version = tree.version
        self._lab = lab
        self._host = host
        self._root = PeerRoot(tree, f"{lab.namespace(host)}-wpa")
        self._name = f"wpa_supplicant-{host}"
        self._network = f"network-{host}"

    @property
    def device(self) -> str:
        return _DEVICE

    @property
    def daemon(self) -> Daemon:
        return self._lab.daemons[self._name]

    @property
    def log(self) -> Path:
        return self.daemon.log

    async def prepare(self) -> None:
        """Its root, with the configuration in it, and the parent interface up.

        An operator who wants nothing on the link in the clear takes IPv6 from it first.
        """
        await self._root.build()
        self._root.write(_CONFIG, files.configuration(self.settings), mode=0o600)
        parent = self.settings.interface
        script = f"echo 1 > /proc/sys/net/ipv6/conf/{parent}/disable_ipv6; ip link set {parent} up"
        (await self._lab.run(self._host, ["sh", "-ec", script])).check()

    async def start(self) -> None:
        """Return when it answers and has its device."""
        if self._network not in self._lab.daemons:
            await self._configure_network()
        (self._root.path / "run").mkdir(exist_ok=True)
        words = ["-D", "macsec_linux", "-i", self.settings.interface, "-c", _CONFIG, "-dt"]
        command = self._root.command([_DAEMON, *words])
        await self._lab.start(self._host, command, name=self._name, ready=None)
        await wait_until(self._answers, _READY_SECONDS, f"{self._name} answers")
        await wait_until(self._has_device, _READY_SECONDS, f"{self._name} has its device")

    async def stop(self) -> None:
        """As an operator would; it takes its device along."""
        await self.daemon.stop()

    async def close(self) -> None:
        """End it and take its root down."""
        for name in (self._name, self._network):
            if name in self._lab.daemons:
                await self._lab.daemons[name].stop()
        await self._root.destroy()

    async def clear_kernel(self) -> None:
        """Take away what a crash left: it uses a device that is there, but no channel in it."""
        (await self._lab.run(self._host, ["ip", "link", "delete", _DEVICE])).check()

    async def facts(self) -> MkaFacts:
        return files.facts((await self._cli("status")).check().stdout)

    def key_id(self, kernel: str) -> str:
        return files.key_id(kernel)

    async def _cli(self, *words: str) -> Completed:
        options = ["-p", files.CONTROL, "-i", self.settings.interface]
        return await self._lab.run(self._host, self._root.command([_CLI, *options, *words]))

    async def _answers(self) -> bool:
        if not self.daemon.alive:
            raise LabError(f"{self._name} died\n{self.daemon.log_tail()}")
        return (await self._cli("status")).code == 0

    async def _has_device(self) -> bool:
        return (await self._lab.run(self._host, ["ip", "link", "show", _DEVICE])).code == 0

    async def _configure_network(self) -> None:
        """Addresses and routes whenever the device comes up, as its operator's network manager."""
        lines = [f"address replace {self.settings.address} dev {_DEVICE}"]
        lines += [
            f"route replace {network} via {via} dev {_DEVICE}"
            for network, via in self.settings.routes
        ]
        batch = self._lab.run_dir / f"{self._network}.batch"
        batch.write_text("\n".join(lines) + "\n")
        command = ["setsid", "sh", "-c", _NETWORK, "sh", _DEVICE, str(batch)]
        await self._lab.start(self._host, command, name=self._network, ready=None)
