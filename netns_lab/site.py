"""Two gateways, their KMEs and the QKD link between those, running in a lab.

async with Site.up("cut", SiteOptions(key_rate=2.0)) as site:
    await site.wait_protection("HYBRID")
    await site.link("cut")
    await site.wait_protection("PQC_ONLY", within=30)
    print(await site.tunnel("moon"))
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from netns_lab import control, metro, site_files
from netns_lab.errors import LabError
from netns_lab.lab import RUNS, Lab
from netns_lab.process import START_SECONDS, Completed, Daemon
from netns_lab.qkd_link import QkdLink
from netns_lab.readiness import Listening, wait_until
from netns_lab.site_files import GATEWAYS, MQTT_PORT, Gateway, Kme, SiteOptions
from netns_lab.topology import METRO, SITE_TO_SITE

Json = dict[str, Any]

PROTECTION_SECONDS = 30.0
_SECRETS_AND_SOCKETS = shutil.ignore_patterns("keys", "*.psk", "*.sock", "*.light")


class Site:
    """Files are written at once and may be changed before ``start()``."""

    def __init__(self, lab: Lab, options: SiteOptions) -> None:
        self.lab = lab
        self.options = options
        self.kmes = {kme.name: kme for kme in site_files.kmes(options)}
        self.devices = {
            link: QkdLink(lab, link, fed, self.kmes.values(), self.folder(link))
            for link, fed in options.devices.items()
        }
        lab.collectors.append(self._collect)

    @classmethod
    @asynccontextmanager
    async def up(cls, name: str, options: SiteOptions | None = None) -> AsyncIterator[Site]:
        """Everything running; stopped and taken down at the end. As ``Lab.up`` on failure."""
        async with cls.prepared(name, options) as site:
            await site.start()
            yield site

    @classmethod
    @asynccontextmanager
    async def prepared(
        cls, name: str, options: SiteOptions | None = None, *, post_mortem: Path | None = None
    ) -> AsyncIterator[Site]:
        """Network and files, nothing started: for scenarios with an order of their own."""
        options = options or SiteOptions()
        topology = SITE_TO_SITE if options.macsec is None else METRO
        async with Lab.up(name, topology=topology, post_mortem=post_mortem) as lab:
            site = cls(lab, options)
            await site.write_files()
            if options.macsec is not None:
                await site._block_detours()
            yield site

    # --- files ---

    def folder(self, name: str) -> Path:
        """Folder of a gateway, KME or link: configuration, sockets, secrets."""
        return self.lab.run_dir / name

    def config(self, gateway: Gateway) -> Path:
        return self.folder(gateway) / "qsgw.toml"

    def control_socket(self, gateway: Gateway) -> Path:
        return self.folder(gateway) / "control.sock"

    def key_log(self, gateway: Gateway) -> Path:
        """A Wireshark configuration folder with the keys of its IKE and ESP SAs."""
        return self.folder(gateway) / "wireshark"

    def esp_keys(self, gateway: Gateway) -> Path:
        """Keys of its ESP SAs in Wireshark's esp_sa format, as the gateway claims them."""
        return self.key_log(gateway) / "esp_sa"

    def recorded_keys(self) -> tuple[Path, ...]:
        """Files with every key the links made: what no artifact may contain."""
        return tuple(self.folder(link) / "keys" for link in site_files.links(self.options))

    async def write_files(self) -> None:
        await self._write_pki()
        if self.options.certificates is not None:
            await self._write_gateway_pki(self.options.certificates)
        run_dir = self.lab.run_dir
        psk = secrets.token_hex(32)
        for gateway in GATEWAYS:
            folder = self.folder(gateway)
            folder.mkdir()
            self.write_config(gateway, site_files.gateway_file(self.options, gateway, run_dir))
            same = self.options.same_psk or gateway == self.options.initiator
            _write_secret(folder / "psk", psk if same else secrets.token_hex(32))
            (folder / "mosquitto.conf").write_text(site_files.mosquitto_file())
        for kme in self.kmes.values():
            self.folder(kme.name).mkdir()
            text = site_files.kme_file(self.options, kme, run_dir)
            (self.folder(kme.name) / "kme.toml").write_text(text)
        for link in site_files.links(self.options):
            self.folder(link).mkdir()
            if link in self.devices:
                await self.devices[link].write_files()
                continue
            text = site_files.link_file(self.options, link, run_dir)
            (self.folder(link) / "link.toml").write_text(text)

    def write_config(self, gateway: Gateway, text: str) -> None:
        self.config(gateway).write_text(text)

    async def _write_pki(self) -> None:
        """Certificates for every name we use, made once per lab kernel."""
        shared = RUNS / "pki"
        if not shared.is_dir():
            fresh = RUNS / "pki.new"
            command = ["qsgw-kme", "pki", "--out", str(fresh), "--sae", *GATEWAYS]
            for kme in site_files.ALL_KMES:
                command += ["--kme", f"{kme.name}:{kme.address}"]
            (await self.lab.run("kme-moon", command)).check()
            fresh.rename(shared)
        shutil.copytree(shared, self.folder("pki"))

    async def _write_gateway_pki(self, algorithm: str) -> None:
        await self.pki("init", "--algorithm", algorithm, "--intermediate")
        for gateway in GATEWAYS:
            await self.pki("issue", gateway, "--san", f"DNS:{gateway}.example")

    async def pki(self, action: str, *words: str) -> None:
        """``qsgw pki`` in the folder both gateways take their certificates from."""
        folder = str(self.folder(site_files.GATEWAY_PKI))
        command = ["qsgw", "pki", action, *words, "--out", folder]
        (await self.lab.run("moon", command)).check()

    # --- processes ---

    async def start(self) -> None:
        """Links, KMEs and brokers, then sun, then moon: the initiator finds a responder."""
        for link in site_files.links(self.options):
            await self.start_link(link)
        jobs = [self.start_kme(name) for name in self.kmes]
        if self.options.mqtt:
            jobs += [self.start_broker(gateway) for gateway in GATEWAYS]
        await _all(jobs)
        responder = site_files.peer(self.options.initiator)
        await self.start_gateway(responder)
        await self.start_gateway(self.options.initiator)

    async def start_link(self, link: str = "link") -> Daemon:
        if link in self.devices:
            return await self.devices[link].start()
        folder = self.folder(link)
        return await self.lab.start(
            "kme-moon",
            [
                *("qsgw-kme", "link", "--config", str(folder / "link.toml")),
                *("--record-keys", str(folder / "keys")),
            ],
            name=link,
            environment={"QSGW_LAB": "1"},
        )

    async def start_kme(self, name: str) -> Daemon:
        kme = self.kme(name)
        config = self.folder(name) / "kme.toml"
        return await self.lab.start(
            kme.host, ["qsgw-kme", "serve", "--config", str(config)], name=name
        )

    async def start_broker(self, gateway: Gateway) -> Daemon:
        return await self.lab.start(
            gateway,
            ["mosquitto", "-c", str(self.folder(gateway) / "mosquitto.conf")],
            name=f"mosquitto-{gateway}",
            ready=Listening(MQTT_PORT),
        )

    async def start_gateway(self, gateway: Gateway) -> Daemon:
        daemon = await self.lab.start(
            gateway,
            [
                *("qsgwd", "--config", str(self.config(gateway))),
                *("--insecure-key-log", str(self.key_log(gateway))),
            ],
            name=f"qsgwd-{gateway}",
        )
        if self.options.macsec is not None:
            await self._route_over_macsec(gateway)
        return daemon

    async def _block_detours(self) -> None:
        """What is for the other site goes through the MACsec device or nowhere."""
        for gateway in GATEWAYS:
            lines = metro.blackholes(site_files.peer(gateway))
            await self.lab.run(gateway, ["ip", "-batch", "-"], text="\n".join(lines) + "\n")

    async def _route_over_macsec(self, gateway: Gateway) -> None:
        """Once the gateway has made its device."""
        words = metro.route(site_files.peer(gateway))

        async def routed() -> bool:
            return (await self.lab.run(gateway, ["ip", *words])).code == 0

        await wait_until(routed, START_SECONDS, f"{metro.DEVICE} with an address on {gateway}")

    def gateway(self, gateway: Gateway) -> Daemon:
        """The running daemon: ``await site.gateway("sun").kill()``."""
        return self.lab.daemons[f"qsgwd-{gateway}"]

    def kme(self, name: str) -> Kme:
        if name not in self.kmes:
            raise LabError(f"no KME {name!r} here; there are {', '.join(self.kmes)}")
        return self.kmes[name]

    # --- asking and acting ---

    async def snapshot(self, gateway: Gateway) -> Json:
        """The gateway's status, as ``qsgw --json status`` shows it."""
        return await control.snapshot(self.control_socket(gateway))

    async def tunnel(self, gateway: Gateway, *, twin: bool = False) -> Json:
        """The gateway's view of the tunnel to the other gateway, or of that of the twin KMEs."""
        name = site_files.tunnel_name(gateway, twin=twin)
        tunnels: list[Json] = (await self.snapshot(gateway))["tunnels"]
        for tunnel in tunnels:
            if tunnel["name"] == name:
                return tunnel
        raise LabError(f"{gateway} has no tunnel {name}")

    async def macsec(self, gateway: Gateway) -> Json:
        """The gateway's view of its MACsec link."""
        links: list[Json] = (await self.snapshot(gateway))["macsec"]
        for link in links:
            if link["name"] == metro.NAME:
                return link
        raise LabError(f"{gateway} has no MACsec link {metro.NAME}")

    async def act(self, gateway: Gateway, verb: str) -> str:
        """``initiate``, ``terminate`` or ``rekey`` the tunnel, or ``reload`` the gateway."""
        tunnel = None if verb == "reload" else site_files.peer(gateway)
        return await control.act(self.control_socket(gateway), verb, tunnel)

    async def qsgw(self, gateway: Gateway, *words: str) -> Completed:
        """The operator's command, on the gateway's host."""
        command = ["qsgw", "--socket", str(self.control_socket(gateway)), *words]
        return await self.lab.run(gateway, command)

    async def link(self, *words: str, link: str = "link") -> Any:
        """``cut``, ``heal``, ``rate N``, ``suspect [--since S] [TEXT]``, ``clear``, ``status``.

        Of a link that devices feed: ``status`` is Alice's, the rest is for the channel.
        """
        if link in self.devices:
            fed = self.devices[link]
            return await (fed.status() if words == ("status",) else fed.channel(*words))
        return await control.key_side(self.folder(link) / "control.sock", *words)

    async def kmectl(self, name: str, *words: str) -> Any:
        """``status`` or ``fault NAME on|off``."""
        return await control.key_side(self.folder(self.kme(name).name) / "control.sock", *words)

    async def wait_protection(
        self,
        *wanted: str,
        within: float = PROTECTION_SECONDS,
        at: tuple[Gateway, ...] = GATEWAYS,
        twin: bool = False,
    ) -> None:
        """Return when the tunnel's protection is one of ``wanted`` at every gateway of ``at``."""
        seen: dict[Gateway, str] = {}

        async def reached() -> bool:
            for gateway in at:
                try:
                    tunnel = await self.tunnel(gateway, twin=twin)
                    seen[gateway] = f"{tunnel['protection']} ({tunnel['reason']})"
                except control.ControlError as error:
                    seen[gateway] = str(error)
            return all(seen[gateway].split(" ")[0] in wanted for gateway in at)

        try:
            await wait_until(reached, within, " or ".join(wanted), interval=0.1)
        except LabError as error:
            raise LabError(f"{error}; {seen}") from error

    # --- post-mortem ---

    async def _collect(self, folder: Path) -> None:
        for gateway in GATEWAYS:
            target = folder / gateway
            target.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                shutil.copy(self.config(gateway), target)
            await _save(target / "status.json", self.snapshot(gateway))
        for kme in self.kmes:
            await _save(folder / f"{kme}.json", self.kmectl(kme, "status"))
        for link in site_files.links(self.options):
            await _save(folder / f"{link}.json", self.link("status", link=link))
            if link in self.devices:
                shutil.copytree(
                    self.folder(link),
                    folder / link,
                    ignore=_SECRETS_AND_SOCKETS,
                    dirs_exist_ok=True,
                )


async def _save(path: Path, question: Awaitable[Any]) -> None:
    """Write the answer to ``path``, or why there is none."""
    try:
        path.write_text(json.dumps(await question, indent=2) + "\n")
    except LabError as error:
        path.write_text(f"{error}\n")


async def _all(jobs: Iterable[Coroutine[Any, Any, Daemon]]) -> None:
    """Run ``jobs`` side by side; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n")
