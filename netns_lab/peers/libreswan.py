"""libreswan in a host of the lab, in place of qsgwd: pluto, told what to do by whack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.peers import libreswan_files as files
from netns_lab.peers.facts import PeerSettings, SaFacts
from netns_lab.peers.fetch import Tree
from netns_lab.peers.root import PeerRoot
from netns_lab.process import Completed, Daemon
from netns_lab.readiness import wait_until

_PLUTO = "/usr/libexec/ipsec/pluto"
_WHACK = "/usr/libexec/ipsec/whack"
_ADDCONN = "/usr/libexec/ipsec/addconn"
_READY_SECONDS = 20.0
_ACT_SECONDS = 40.0


class Libreswan:
    """One libreswan on ``host``; ``close`` it before the lab goes."""

    def __init__(self, lab: Lab, host: str, tree: Tree, settings: PeerSettings) -> None:
        self.settings = settings
        self.version = tree.version
        self._lab = lab
        self._host = host
        self._root = PeerRoot(tree, f"{lab.namespace(host)}-libreswan")
        self._name = f"libreswan-{host}"
        self._ppks: dict[str, bytes] = {}

    @property
    def daemon(self) -> Daemon:
        return self._lab.daemons[self._name]

    @property
    def log(self) -> Path:
        return self.daemon.log

    async def prepare(self) -> None:
        """Its root, with the configuration and an empty certificate store in it."""
        await self._root.build()
        for name in ("/etc/hosts", "/etc/resolv.conf"):
            self._root.write(name, "")
        self._write_files()
        (self._root.path / files.NSS.lstrip("/")).mkdir(parents=True, exist_ok=True)
        command = ["/usr/bin/certutil", "-N", "-d", f"sql:{files.NSS}", "--empty-password"]
        (await self._lab.run(self._host, self._root.command(command))).check()

    async def start(self) -> None:
        """Return when it has its connection and secrets."""
        (self._root.path / "run/pluto").mkdir(exist_ok=True)
        command = [_PLUTO, "--nofork", "--stderrlog", "--config", "/etc/ipsec.conf"]
        await self._lab.start(self._host, self._root.command(command), name=self._name, ready=None)
        await wait_until(self._answers, _READY_SECONDS, f"{self._name} answers")

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

    async def configure(self, settings: PeerSettings) -> None:
        """Another configuration, without a restart."""
        self.settings = settings
        self._write_files()
        await self._add()

    async def give_ppks(self, ppks: Mapping[str, bytes]) -> None:
        """PPKs to know by their key_IDs, beside those it has."""
        self._ppks.update(ppks)
        self._write_files()
        (await self.whack("--rereadsecrets")).check()

    async def sas(self) -> tuple[SaFacts, ...]:
        """Its IKE SAs, in any state."""
        if not self.daemon.alive:
            return ()
        return files.sas((await self.whack("--status")).check().stdout, self.log.read_text())

    def same_ike(self, sa: SaFacts, ours: dict[str, Any]) -> bool:
        """The same algorithms; libreswan does not tell an IKE SA's SPIs."""
        return sa.algorithms == str(ours["proposal"])

    async def initiate(self) -> Completed:
        """Set the tunnel up; what whack said, failed or not."""
        return await self.whack("--initiate", "--name", files.CONNECTION)

    async def rekey_child(self) -> None:
        (await self.whack("--rekey-child", "--name", files.CONNECTION)).check()

    async def rekey_ike(self) -> None:
        (await self.whack("--rekey-ike", "--name", files.CONNECTION)).check()

    async def terminate(self) -> None:
        (await self.whack("--terminate", "--name", files.CONNECTION)).check()

    async def whack(self, *words: str) -> Completed:
        command = self._root.command([_WHACK, *words])
        return await self._lab.run(self._host, command, timeout=_ACT_SECONDS)

    async def _answers(self) -> bool:
        """pluto reads its configuration by itself once it runs."""
        if not self.daemon.alive:
            raise LabError(f"{self._name} died\n{self.daemon.log_tail()}")
        return f'"{files.CONNECTION}": added' in self.log.read_text()

    async def _add(self) -> None:
        command = self._root.command([_ADDCONN, "--config", "/etc/ipsec.conf", files.CONNECTION])
        (await self._lab.run(self._host, command)).check()

    def _write_files(self) -> None:
        self._root.write("/etc/ipsec.conf", files.ipsec_conf(self.settings))
        secrets = files.ipsec_secrets(self.settings, self._ppks)
        self._root.write("/etc/ipsec.secrets", secrets, mode=0o600)
