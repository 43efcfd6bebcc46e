"""strongSwan in a host of the lab, in place of qsgwd: charon-systemd, steered by swanctl."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.peers import strongswan_files as files
from netns_lab.peers.facts import PeerSettings, SaFacts
from netns_lab.peers.fetch import Tree
from netns_lab.peers.root import PeerRoot
from netns_lab.process import Completed, Daemon
from netns_lab.readiness import wait_until

_DAEMON = "/usr/sbin/charon-systemd"
_SWANCTL = "/usr/sbin/swanctl"
_READY_SECONDS = 20.0
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
_ACT_SECONDS = 30


class StrongSwan:
    """One strongSwan on ``host``; ``close`` it before the lab goes."""

    def __init__(self, lab: Lab, host: str, tree: Tree, settings: PeerSettings) -> None:
        self.settings = settings
        self.version = tree.version
        self._lab = lab
        self._host = host
        self._root = PeerRoot(tree, f"{lab.namespace(host)}-strongswan")
        self._name = f"strongswan-{host}"

    @property
    def daemon(self) -> Daemon:
        return self._lab.daemons[self._name]

    @property
    def log(self) -> Path:
        return self.daemon.log

    async def prepare(self) -> None:
        """Its root, with the configuration in it."""
        await self._root.build()
        self._root.write("/etc/strongswan.conf", files.daemon_file(self.settings))
        if self.settings.pki is not None:
            self._write_certificates(self.settings.pki)
        self._write_connections()

    async def start(self) -> None:
        """Return when it has its connection and secrets."""
        self._root.remove("/run/charon.vici")
        command = self._root.command([_DAEMON])
        await self._lab.start(self._host, command, name=self._name, ready=None)
        await wait_until(self._answers, _READY_SECONDS, f"{self._name} answers")
        await self.load()

    async def close(self) -> None:
        """End it and take its root down."""
        if self._name in self._lab.daemons:
            await self.daemon.stop()
        await self._root.destroy()

    async def restart(self) -> None:
        """As an operator would: it says goodbye, and has forgotten everything."""
        await self.daemon.stop()
        await self.start()

    async def clear_kernel(self) -> None:
        """Take away what a crash left in its kernel."""
        for what in ("state", "policy"):
            (await self._lab.run(self._host, ["ip", "xfrm", what, "flush"])).check()

    async def load(self) -> None:
        """Connections and secrets, as the files have them now."""
        (await self.swanctl("--load-creds", "--noprompt")).check()
        (await self.swanctl("--load-conns")).check()

    async def give_ppks(self, ppks: Mapping[str, bytes]) -> None:
        """PPKs to know by their key_IDs, beside those it has."""
        for key_id, key in ppks.items():
            file = f"/etc/swanctl/conf.d/ppk-{key_id}.conf"
            self._root.write(file, files.ppk_file(key_id, key), mode=0o600)
        (await self.swanctl("--load-creds", "--noprompt")).check()

    async def configure(self, settings: PeerSettings) -> None:
        """Another configuration, without a restart."""
        self.settings = settings
        self._write_connections()
        (await self.swanctl("--load-conns")).check()

    async def sas(self) -> tuple[SaFacts, ...]:
        """Its IKE SAs, in any state."""
        if not self.daemon.alive:
            return ()
        return files.sas((await self.swanctl("--list-sas", "--pretty")).check().stdout)

    def same_ike(self, sa: SaFacts, ours: dict[str, Any]) -> bool:
        """The same SPIs and, word for word, the same algorithms."""
        spis = (sa.spi_i, sa.spi_r) == (ours["spi_i"], ours["spi_r"])
        return spis and sa.algorithms == ours["proposal"]

    async def initiate(self) -> Completed:
        """Set the tunnel up, child by child; what swanctl said last, failed or not."""
        for child in self.settings.children:
            words = ("--initiate", "--child", child.name, "--timeout", str(_ACT_SECONDS))
            done = await self.swanctl(*words)
            if done.code:
                break
        return done

    async def rekey_child(self) -> None:
        (await self.swanctl("--rekey", "--child", self.settings.children[0].name)).check()

    async def rekey_ike(self) -> None:
        (await self.swanctl("--rekey", "--ike", files.CONNECTION)).check()

    async def terminate(self) -> None:
        words = ("--terminate", "--ike", files.CONNECTION, "--timeout", str(_ACT_SECONDS))
        (await self.swanctl(*words)).check()

    async def swanctl(self, *words: str) -> Completed:
        command = self._root.command([_SWANCTL, *words])
        return await self._lab.run(self._host, command, timeout=_ACT_SECONDS + 10.0)

    async def _answers(self) -> bool:
        if not self.daemon.alive:
            raise LabError(f"{self._name} died\n{self.daemon.log_tail()}")
        return (await self.swanctl("--stats")).code == 0

    def _write_certificates(self, pki: Path) -> None:
        """One certificate in each file, which is all that swanctl reads of one."""
        own, *above = _PEM.findall((pki / "sun.pem").read_text())
        folder = "/etc/swanctl"
        self._root.write(f"{folder}/x509/{files.CERTIFICATE}", own)
        for number, certificate in enumerate(above):
            self._root.write(f"{folder}/x509/intermediate-{number}.pem", certificate)
        self._root.write(f"{folder}/x509ca/ca.pem", (pki / "ca.pem").read_text())
        for crl in pki.glob("*.crl.pem"):
            self._root.write(f"{folder}/x509crl/{crl.name}", crl.read_text())
        key = (pki / "sun.key").read_text()
        self._root.write(f"{folder}/private/sun.key", key, mode=0o600)

    def _write_connections(self) -> None:
        text = files.connections_file(self.settings)
        self._root.write("/etc/swanctl/swanctl.conf", text, mode=0o600)
