"""strongSwan with many connections, set up one by one over its control socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.peers import strongswan_files as files
from netns_lab.peers.fetch import Tree
from netns_lab.peers.root import PeerRoot
from netns_lab.readiness import wait_until
from tests.bench import rate_site as site
from tests.bench.rate_site import Side, Terms
from tests.bench.vici_wire import Message, Vici

READY_SECONDS = 30.0

# The log as it is by default. unique: all tunnels have the same two identities.
_DAEMON = f"""\
charon-systemd {{
  load = {files.PLUGINS}
  install_routes = no
  filelog {{
    stderr {{
      default = 1
    }}
  }}
}}
swanctl {{
  load = random openssl pem pkcs1 pkcs8 x509 pubkey
}}
"""


class StrongSwan:
    maker = "strongSwan"

    def __init__(
        self, lab: Lab, side: Side, terms: Terms, tree: Tree, ppks: Mapping[int, tuple[str, str]]
    ) -> None:
        """``ppks``: key_ID and key in hexadecimal, for each tunnel."""
        self._lab = lab
        self._side = side
        self._terms = terms
        self._ppks = ppks
        self._root = PeerRoot(tree, f"{lab.namespace(side)}-rate")
        self._name = f"strongswan-{side}"
        self._vici: Vici | None = None

    @property
    def pid(self) -> int:
        return self._lab.daemons[self._name].pid

    async def start(self) -> None:
        await self._root.build()
        self._root.write("/etc/strongswan.conf", _DAEMON)
        self._root.write("/etc/swanctl/swanctl.conf", self._connections(), mode=0o600)
        command = self._root.command(["/usr/sbin/charon-systemd"])
        await self._lab.start(self._side, command, name=self._name, ready=None)
        self._vici = await wait_until(self._connected, READY_SECONDS, f"{self._name} answers")
        await self._swanctl("--load-all", "--noprompt")

    async def stop(self) -> None:
        if self._vici is not None:
            await self._vici.close()
        if self._name in self._lab.daemons:
            await self._lab.daemons[self._name].kill()  # its goodbyes would take a while
        await self._root.destroy()
        for what in ("state", "policy"):
            (await self._lab.run(self._side, ["ip", "xfrm", what, "flush"])).check()

    async def follow(self) -> AsyncIterator[int]:
        assert self._vici is not None
        return _ups(await self._vici.events("child-updown"))

    async def begin(self, number: int) -> None:
        assert self._vici is not None
        # A negative timeout: the answer does not wait for the outcome.
        await self._vici.command("initiate", child=site.name(number), timeout="-1")

    async def agreed(self) -> list[str]:
        found = files.sas(await self._swanctl("--list-sas", "--pretty"))
        return [
            sa.algorithms
            for sa in found
            if sa.established and any(child.installed for child in sa.children)
        ]

    async def _connected(self) -> Vici | None:
        if not self._lab.daemons[self._name].alive:
            raise LabError(f"{self._name} died\n{self._lab.daemons[self._name].log_tail()}")
        try:
            return await Vici.connect(self._root.path / "run" / "charon.vici")
        except OSError:
            return None

    async def _swanctl(self, *words: str) -> str:
        command = self._root.command(["/usr/sbin/swanctl", *words])
        return (await self._lab.run(self._side, command, timeout=60.0)).check().stdout

    def _connections(self) -> str:
        here, there = self._side, site.other(self._side)
        lines = ["connections {"]
        for number in range(site.COUNT):
            lines += self._connection(number)
        lines += ["}", "secrets {", "ike-psk {"]
        lines += [f"id-1 = {here}.example", f"id-2 = {there}.example"]
        lines += [f'secret = "{self._terms.psk}"', "}"]
        for number, (key_id, key) in self._ppks.items():
            lines += [f"ppk-{site.name(number)} {{", f"id = {key_id}", f"secret = 0x{key}", "}"]
        return "\n".join([*lines, "}"]) + "\n"

    def _connection(self, number: int) -> list[str]:
        here, there, name = self._side, site.other(self._side), site.name(number)
        ppk = []
        if self._terms.ppk:
            ppk = ["ppk_required = yes", f"ppk_id = {self._ppks[number][0]}"]
        return [
            f"{name} {{",
            "version = 2",
            f"local_addrs = {site.address(here, number)}",
            f"remote_addrs = {site.address(there, number)}",
            f"proposals = {site.IKE}",
            *ppk,
            "mobike = no",
            "unique = never",
            "rekey_time = 0",
            f"local {{\nauth = psk\nid = {here}.example\n}}",
            f"remote {{\nauth = psk\nid = {there}.example\n}}",
            f"children {{\n{name} {{",
            f"local_ts = {site.network(here, number)}",
            f"remote_ts = {site.network(there, number)}",
            f"esp_proposals = {site.ESP}",
            "rekey_time = 0",
            "}\n}\n}",
        ]


async def _ups(events: AsyncIterator[Message]) -> AsyncIterator[int]:
    async for event in events:
        if event.get("up") != "yes":
            raise LabError(f"strongSwan lost a Child SA: {event}")
        yield next(int(name[1:]) for name, value in event.items() if isinstance(value, dict))
