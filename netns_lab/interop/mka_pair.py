"""Our gateway at moon and a foreign MKA daemon at sun, on one layer-2 link, and how they prove
that they understand each other: both kernels have the same SAs, both ends say so, the payload
arrives, the link carries EAPOL and MACsec and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netns_lab import evidence, macsec_proof, metro
from netns_lab.errors import LabError
from netns_lab.interop import mka_agreement
from netns_lab.interop.findings import Findings, check_outage, counted
from netns_lab.interop.mka_agreement import Sighting
from netns_lab.macsec_evidence import KernelSecy, kernel_secy
from netns_lab.peers.fetch import Tree
from netns_lab.peers.mka import MkaPeer, MkaSettings
from netns_lab.peers.wpa_supplicant import WpaSupplicant
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions
from netns_lab.toml import Table

Json = dict[str, Any]

UP_SECONDS = 40.0
SERVES, FOLLOWS = 16, 32  # key server priorities: the lower one is key server
PN_LATE = 0xC000_0010  # 802.1X 9.8: a new SAK from 0xC0000000 on


@dataclass(frozen=True, slots=True, kw_only=True)
class MkaSetup:
    """The link, and what is other at one end."""

    cak_bits: int = 128
    suite: str = "gcm-aes-128"  # what we distribute; we take this one only
    encryption: bool = True  # else integrity only
    ours: Table = field(default_factory=dict)  # more keys of [macsec.metro]
    same_cak: bool = True
    same_ckn: bool = True


class MkaPair:
    """Both ends of one scenario."""

    def __init__(
        self, site: Site, peer: MkaPeer, setup: MkaSetup, findings: Findings, *, we_serve: bool
    ) -> None:
        self.site = site
        self.lab = site.lab
        self.peer = peer
        self.setup = setup
        self.findings = findings
        self.we_serve = we_serve
        self._errors_then: Counter[str] = Counter()  # counters that have been accounted for
        self._caks: tuple[str, ...] = ()
        self._refused = False

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        name: str,
        tree: Tree,
        setup: MkaSetup,
        *,
        we_serve: bool,
        folder: Path,
        findings: Findings,
    ) -> AsyncIterator[MkaPair]:
        """Everything started; the wire is checked when it is left."""
        ckn, cak = secrets.token_hex(16), secrets.token_hex(setup.cak_bits // 8)
        options = site_options(setup, ckn, we_serve=we_serve)
        async with Site.prepared(name, options, post_mortem=folder) as site:
            settings = peer_settings(setup, cak, ckn, we_serve=we_serve)
            peer = WpaSupplicant(site.lab, "sun", tree, settings)
            async with AsyncExitStack() as stack:
                pair = cls(site, peer, setup, findings, we_serve=we_serve)
                pair._write_cak(cak)
                await peer.prepare()
                stack.push_async_callback(peer.close)
                await evidence.start_link_capture(pair.lab)
                await asyncio.gather(peer.start(), site.start_gateway("moon"))
                yield pair
                await pair._check()

    def _write_cak(self, cak: str) -> None:
        file = self.site.folder("moon") / "cak"
        file.touch(mode=0o600)
        file.write_text(cak + "\n")
        self._caks = (cak, self.peer.settings.cak)

    # --- acting ---------------------------------------------------------------------------

    async def late_packet_numbers(self, *, ours: bool) -> None:
        """Put the packet number of the transmit SA where there should be another SAK."""
        host, device = ("moon", metro.DEVICE) if ours else ("sun", self.peer.device)
        secy = await self._secy(host, device)
        words = ["tx", "sa", str(secy.sending), "pn", str(PN_LATE), "on"]
        (await self.lab.run(host, ["ip", "macsec", "set", device, *words])).check()

    async def restart_ours(self, *, kill: bool) -> None:
        gateway = self.site.gateway("moon")
        await (gateway.kill() if kill else gateway.stop())
        await self.site.start_gateway("moon")

    async def nobody_live(self) -> None:
        """Wait until each end has given the other up, and every SA with it."""

        async def gone() -> bool:
            view, facts = await self.site.macsec("moon"), await self.peer.facts()
            return view["protection"] == "DOWN" and not facts.live_peers

        await wait_until(gone, UP_SECONDS, "both ends give each other up", interval=0.5)
        await self._no_sas()

    # --- proving --------------------------------------------------------------------------

    async def prove(self, *, unlike: Sighting | None = None) -> Sighting:
        """Both ends and both kernels have one SAK, and alice reaches bob.

        ``unlike``: another one than this.
        """
        seen: list[str] = []

        async def agreed() -> Sighting | None:
            now = await self._look()
            trouble = mka_agreement.trouble(now, we_serve=self.we_serve)
            if not trouble and unlike is not None and now.ki == unlike.ki:
                trouble = "still the SAK from before"
            seen[:] = [trouble]
            return None if trouble else now

        try:
            found = await wait_until(agreed, UP_SECONDS, "both ends agree", interval=0.2)
        except LabError as error:
            raise LabError(f"{error}; {seen[0]}") from error
        assert found is not None
        told = json.loads((await self.site.qsgw("moon", "--json", "macsec")).check().stdout)
        if found.ki not in json.dumps(told):
            raise LabError(f"qsgw macsec does not tell of {found.ki}")
        for host in ("alice", "bob"):
            if not await evidence.reachable(self.lab, host):
                raise LabError(f"{host} does not reach the other site")
        if unlike is None:  # what came before the first SAK was there at both ends
            self._errors_then = await self._errors()
        cipher = "encrypted" if found.ours.encrypts else "integrity only"
        self.findings.negotiated = f"CAK {self.setup.cak_bits} bits | {found.ours.suite}, {cipher}"
        return found

    async def unfit(self) -> str:
        """Where the ends agree on a SAK that the peer does not get into its kernel: why not."""

        async def agreed() -> Sighting | None:
            now = await self._look()
            return now if now.ki and now.facts.secured else None

        found = await wait_until(agreed, UP_SECONDS, "both ends have a SAK")
        assert found is not None
        ours, theirs = found.ours.suite, found.theirs.suite
        if ours == theirs or found.theirs.transmit:
            return ""
        return f"it takes the SAK for {ours}, its device stays {theirs} and has no SA"

    async def _look(self) -> Sighting:
        return Sighting(
            view=await self.site.macsec("moon"),
            ours=await self._secy("moon", metro.DEVICE),
            theirs=mka_agreement.as_on_the_wire(
                await self._secy("sun", self.peer.device), self.peer.key_id
            ),
            facts=await self.peer.facts(),
        )

    async def _secy(self, host: str, device: str) -> KernelSecy:
        command = ["ip", "-json", "-s", "macsec", "show", device]
        return kernel_secy((await self.lab.run(host, command)).check().stdout)

    async def _errors(self) -> Counter[str]:
        """Of both devices, those there are: one that was made anew begins at 0."""
        found: Counter[str] = Counter()
        for host, device in (("moon", metro.DEVICE), ("sun", self.peer.device)):
            secy = await self._secy(host, device)
            found.update({f"{host} {name}": count for name, count in secy.errors.items()})
        return found

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Numbered packets both ways meanwhile; none may be lost, or miscounted."""
        await evidence.start_traffic(self.lab)
        yield
        directions = await evidence.stop_traffic(self.lab)
        sent, missing = counted(directions, self.findings)
        if not all(direction.sent for direction in directions.values()) or missing:
            raise LabError(f"{missing} of {sent} packets lost")

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Numbered packets both ways meanwhile; none may be lost, once it is over."""
        await evidence.start_traffic(self.lab)
        yield
        over = time.monotonic()  # the clock of both ends' notes
        before = await self._errors()
        if not await evidence.reachable(self.lab, tries=10):
            raise LabError("alice does not reach bob after the outage")
        directions = await evidence.stop_traffic(self.lab)
        counted(directions, self.findings)
        check_outage(directions, over, self.findings)
        if +(grown := before - self._errors_then):
            self.findings.details.append(f"MACsec counters: {dict(+grown)}")
        self._errors_then = before

    async def refused(self, *words: str) -> str:
        """Wait until we tell why there is no SAK, in these words; there is none, nothing passes."""
        self._refused = True

        async def told() -> str:
            alarms = (await self.site.snapshot("moon"))["alarms"]
            texts = [str(one["text"]) for one in alarms if one["id"] == "macsec-peer-refused"]
            return next((text for text in texts if all(word in text for word in words)), "")

        reason = await wait_until(told, UP_SECONDS, f"we tell why: {' '.join(words)}")
        view = await self.site.macsec("moon")
        if (view["port"], view["protection"]) != ("blocked", "DOWN") or view["saks"]:
            raise LabError(f"refused, and yet {view['protection']}, port {view['port']}")
        await self._no_sas()
        for host in ("alice", "bob"):
            if await evidence.reachable(self.lab, host, tries=2):
                raise LabError(f"refused, and yet {host} reaches the other site")
        self.findings.details.append(f"refused: {reason}")
        return reason

    async def _no_sas(self) -> None:
        for host, device in (("moon", metro.DEVICE), ("sun", self.peer.device)):
            secy = await self._secy(host, device)
            if secy.transmit or secy.receive:
                raise LabError(f"{host} should have no SA, and has {secy}")

    # --- when all is done -----------------------------------------------------------------

    async def _check(self) -> None:
        """Counters, the link, and what was written."""
        if not self._refused and (grown := await self._errors() - self._errors_then):
            raise LabError(f"MACsec errors: {dict(grown)}")
        await self._write_statements()
        frames = await evidence.stop_capture(self.lab, "link")
        wanted = {"0x888e"} if self._refused else {"0x888e", "0x88e5"}
        kinds = macsec_proof.ethertypes(frames)
        shown = self.setup.encryption and macsec_proof.in_the_clear(frames)
        if set(kinds) != wanted or shown:
            raise LabError(f"on the link, by Ethertype: {kinds}")
        log = self.site.key_log("moon")
        if not self._refused:
            found = macsec_proof.decrypt(frames, macsec_proof.load_saks(log / "macsec_sak"))
            if not found.proven:
                raise LabError(f"scapy opened {found.decrypted} of {found.runs}: {found.failed}")
            self.findings.details.append(f"{found.saks} SAKs decrypted on the link")
        keys = [bytes.fromhex(cak) for cak in dict.fromkeys(self._caks)]
        search = evidence.search_for_keys(
            self.site,
            [self.lab.log_dir, self.lab.capture_dir],
            [*keys, *macsec_proof.secrets_in([log])],
        )
        if search.findings:
            places = {f"{found.file.name} ({found.form})" for found in search.findings}
            raise LabError(f"key bytes in {', '.join(sorted(places))}")
        self.findings.details.append(f"none of {search.keys} keys in logs, status and capture")

    async def _write_statements(self) -> None:
        """What both ends say at last, among the logs, to be searched with them."""
        status = json.dumps(await self.site.snapshot("moon"), indent=2)
        (self.lab.log_dir / "status-moon.json").write_text(status)
        (self.lab.log_dir / "status-sun.txt").write_text(repr(await self.peer.facts()))


def site_options(setup: MkaSetup, ckn: str, *, we_serve: bool) -> SiteOptions:
    """Our side: a CAK agreed by hand, in a file."""
    table: Mapping[str, Any] = {
        "cak": "cak",
        "ckn": ckn,
        "allow_classical": True,
        "priority": SERVES if we_serve else FOLLOWS,
        "suite": setup.suite,
        "encryption": setup.encryption,
        **setup.ours,
    }
    return SiteOptions(macsec=metro.MacsecOptions(both=table), mqtt=False)


def peer_settings(setup: MkaSetup, cak: str, ckn: str, *, we_serve: bool) -> MkaSettings:
    """The peer's side; another CAK or CKN where the two are not to find each other."""
    return MkaSettings(
        interface="moon",
        address=f"{metro.ADDRESSES['sun']}/30",
        routes=((metro.SITES["moon"][0], metro.ADDRESSES["moon"]),),
        cak=cak if setup.same_cak else secrets.token_hex(len(cak) // 2),
        ckn=ckn if setup.same_ckn else secrets.token_hex(len(ckn) // 2),
        priority=FOLLOWS if we_serve else SERVES,
        encryption=setup.encryption,
    )
