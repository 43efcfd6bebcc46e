"""Our gateway at moon and a foreign peer at sun, and how they prove that they understand
each other: both say the same, both kernels have it, the payload arrives, the wire is ESP.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from netns_lab import evidence, pcap, proof
from netns_lab.errors import LabError
from netns_lab.interop import stray
from netns_lab.interop.bridge import KeyBridge
from netns_lab.peers.facts import ChildFacts, PeerSettings, PpkUse, SaFacts
from netns_lab.peers.fetch import Tree
from netns_lab.peers.peer import Peer, make
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import OUTER, Gateway, SiteOptions, TunnelOptions

Json = dict[str, Any]

IKE = "aes256gcm16-prfsha512-x25519-ke1_mlkem768"
ESP = "aes256gcm16-x25519-ke1_mlkem768-esn"

UP_SECONDS = 30.0

_KEYED = re.compile(
    r"src (\S+) dst (\S+)\n\s+proto esp spi 0x([0-9a-f]+)[^@]*?aead \S+ 0x([0-9a-f]+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the two are configured. They agree unless told otherwise."""

    ike: str = IKE
    esp: str = ESP
    peer_ike: str | None = None
    peer_esp: str | None = None
    qkd: str = "off"  # our policy
    peer_ppk: PpkUse = "off"
    outer: Literal[4, 6] = 4
    tunnel: Mapping[str, Any] = field(default_factory=dict)  # more of TunnelOptions
    peer: Mapping[str, Any] = field(default_factory=dict)  # more of PeerSettings
    rough: bool = False  # packets for SAs that are gone are part of it


@dataclass(slots=True, kw_only=True)
class Findings:
    """What is to be told of a scenario, however it ends."""

    negotiated: str = ""
    details: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Agreement:
    """The same SAs, as each end tells of them."""

    ike: Json
    child: Json
    peer_ike: SaFacts
    peer_child: ChildFacts


class Pair:
    """Both ends of one scenario."""

    def __init__(
        self, site: Site, peer: Peer, setup: Setup, findings: Findings, *, we_initiate: bool
    ) -> None:
        self.site = site
        self.lab = site.lab
        self.peer = peer
        self.setup = setup
        self.we_initiate = we_initiate
        self.bridge = KeyBridge(site, peer.give_ppks)
        self.findings = findings
        self._early = 0  # packets that came before their SA was ready
        self._dropped = False  # by policy, as it should be, and counted by the kernel
        self._peer_keys: dict[str, str] = {}  # rows of an esp_sa table, by SPI

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        name: str,
        tree: Tree,
        setup: Setup,
        *,
        we_initiate: bool,
        folder: Path,
        findings: Findings,
    ) -> AsyncIterator[Pair]:
        """Everything started, nothing set up yet; the wire is checked when it is left."""
        options = _site_options(setup, we_initiate=we_initiate)
        async with Site.prepared(name, options, post_mortem=folder) as site:
            psk = (site.folder("moon") / "psk").read_text().strip()
            peer = make(site.lab, "sun", tree, peer_settings(setup, psk))
            async with AsyncExitStack() as stack:
                pair = cls(site, peer, setup, findings, we_initiate=we_initiate)
                await peer.prepare()
                stack.push_async_callback(peer.close)
                await pair._start(stack)
                yield pair
                await pair._check_wire()

    async def _start(self, stack: AsyncExitStack) -> None:
        if self.setup.qkd != "off":
            await self.site.start_link()
            await asyncio.gather(*(self.site.start_kme(name) for name in self.site.kmes))
        await asyncio.gather(self.peer.start(), evidence.start_capture(self.lab))
        if self._bridged and self.we_initiate:
            task = asyncio.create_task(self.bridge.follow())
            stack.push_async_callback(_cancelled, task)
        await self.site.start_gateway("moon")

    @property
    def _bridged(self) -> bool:
        """Both ends use QKD keys, so the peer needs them brought."""
        return self.setup.qkd != "off" and self.setup.peer_ppk != "off"

    # --- acting ---------------------------------------------------------------------------

    async def up(self, *protection: str, within: float = UP_SECONDS) -> None:
        """Set the tunnel up from whichever end is to do it, and wait for what we show."""
        if not self.we_initiate:
            await self.peer_initiates()
        await self.shown(*protection, within=within)

    async def peer_initiates(self) -> str:
        """Have the peer begin; what it said."""
        await wait_until(self._keys_ready, UP_SECONDS, "QKD keys on both sides")
        if self._bridged:
            await self.peer_names(await self.bridge.fresh())
        done = await self.peer.initiate()
        return done.stdout + done.stderr

    async def peer_names(self, key_id: str) -> None:
        """Have the peer name this PPK when it initiates."""
        await self.peer.configure(replace(self.peer.settings, ppk_id=key_id))

    async def keys_brought(self) -> None:
        """Wait until the peer has every key that we are to use next."""
        await wait_until(self.bridge.up_to_date, UP_SECONDS, "the peer has our next keys")

    async def shown(self, *protection: str, within: float = UP_SECONDS) -> None:
        await self.site.wait_protection(*protection, within=within, at=("moon",))

    async def stray_requests(self, host: Gateway, count: int) -> None:
        """Have ``host`` asked for so many IKE SAs that nobody goes on with."""
        command = [
            *(sys.executable, "-m", "netns_lab.interop.stray", "--count", str(count)),
            *("--to", OUTER[4][host], "--capture", str(self._capture)),
        ]
        (await self.lab.run("isp", command)).check()

    def cookies_asked(self) -> int:
        """Answers at isp that asked for a cookie, so far."""
        return stray.cookies_asked(pcap.read(self._capture))

    @property
    def _capture(self) -> Path:
        return self.lab.capture_dir / "isp.pcap"

    async def peer_notices(self, *, within: float = UP_SECONDS) -> None:
        """Wait until the peer has no IKE SA any more."""

        async def gone() -> bool:
            return not await self.peer.sas()

        await wait_until(gone, within, "the peer gives its IKE SA up", interval=0.5)

    async def _keys_ready(self) -> bool:
        if self.setup.qkd == "off":
            return True
        keys = (await self.site.tunnel("moon"))["keys"]
        return bool(keys["stored_at_kme"])

    # --- proving --------------------------------------------------------------------------

    async def prove(self, *, unlike: Agreement | None = None) -> Agreement:
        """Both ends agree, so do their kernels, and alice reaches bob.

        ``unlike``: with another Child SA than this one's.
        """
        seen: list[str] = []

        async def agreed() -> Agreement | None:
            found, trouble = await self._agreement()
            seen[:] = [trouble]
            if found and unlike and found.child["spi_in"] == unlike.child["spi_in"]:
                seen[:] = ["still the SA from before"]
                return None
            return found

        try:
            found = await wait_until(agreed, UP_SECONDS, "both ends agree", interval=0.2)
        except LabError as error:
            raise LabError(f"{error}; {seen[0]}") from error
        assert found is not None
        self.findings.negotiated = f"{found.ike['proposal']} | {found.peer_child.algorithms}"
        if not await evidence.reachable(self.lab):
            raise LabError("alice does not reach bob")
        await self._note_peer_keys()
        return found

    async def _agreement(self) -> tuple[Agreement | None, str]:
        """What both ends agree on now, or None and why they do not."""
        tunnel = await self.site.tunnel("moon")
        ike, children = tunnel["ike"], tunnel["children"]
        carrying = [child for child in children if child["carries_outbound"]]
        if not ike or len(carrying) != 1:
            return None, f"we are {tunnel['protection']} with {len(carrying)} Child SAs in use"
        theirs = [sa for sa in await self.peer.sas() if sa.established]
        if len(theirs) != 1:
            return None, f"the peer has {len(theirs)} IKE SAs"
        (child,), sa = carrying, theirs[0]
        mirrored = [
            each
            for each in sa.children
            if (each.spi_out, each.spi_in) == (child["spi_in"], child["spi_out"]) and each.installed
        ]
        if len(mirrored) != 1:
            return None, f"our {child['spi_in']}/{child['spi_out']} is not among {sa.children}"
        if not self.peer.same_ike(sa, ike):
            return None, f"we say {ike['proposal']}, the peer {sa.algorithms}"
        if not await evidence.in_kernel(self.site, "moon", child):
            return None, "not in our kernel"
        if not {child["spi_in"], child["spi_out"]} <= await evidence.esp_sas(self.site, "sun"):
            return None, "not in the peer's kernel"
        found = Agreement(ike=ike, child=child, peer_ike=sa, peer_child=mirrored[0])
        return found, ""

    @asynccontextmanager
    async def traffic(self, *, peer_hastens: bool = False) -> AsyncIterator[None]:
        """Numbered packets both ways meanwhile; none may be lost.

        ``peer_hastens``: a responder may send through a new SA at once (RFC 7296 2.8), and we
        have its keys only when its answer has come. Those packets, and no others, may be lost.
        """
        early = await self._too_early()
        await evidence.start_traffic(self.lab)
        yield
        directions = (await evidence.stop_traffic(self.lab)).values()
        sent = sum(direction.sent for direction in directions)
        missing = sum(direction.lost for direction in directions)
        early = await self._too_early() - early
        self.findings.details.append(f"{missing} of {sent} packets lost")
        if peer_hastens and early:
            self.findings.details.append(f"{early} came before the answer that brings their keys")
            self._early += early
            missing -= min(missing, early)
        if sent == 0 or missing:
            raise LabError(f"{missing} of {sent} packets lost")

    async def _too_early(self) -> int:
        """Packets that came for an SA of ours that has an SPI and no keys yet."""
        text = (await self.lab.run("moon", ["cat", "/proc/net/xfrm_stat"])).check().stdout
        return sum(int(line.split()[1]) for line in text.splitlines() if "AcquireError" in line)

    async def refused(self) -> str:
        """Wait until an attempt has failed and we tell why; nothing is up, nothing passes."""
        reason = await wait_until(self._failure, UP_SECONDS, "an attempt that is refused")
        if any(sa.established for sa in await self.peer.sas()):
            raise LabError("refused, and yet the peer has an IKE SA")
        await self.no_traffic()
        self.findings.details.append(f"refused: {reason}")
        return reason

    async def _failure(self) -> str:
        tunnel = await self.site.tunnel("moon")
        if tunnel["protection"] not in ("DOWN", "BLOCKED"):
            raise LabError(f"not refused: {tunnel['protection']}, {tunnel['reason']}")
        return str(tunnel["last_error"] or "")

    async def no_traffic(self) -> None:
        """The negative twin: nothing passes."""
        self._dropped = True
        if await evidence.reachable(self.lab, tries=2):
            raise LabError("alice reaches bob without a tunnel")

    async def _note_peer_keys(self) -> None:
        """Remember what the peer's kernel says its ESP keys are."""
        done = await self.lab.run("sun", ["ip", "xfrm", "state", "list"])
        for source, target, spi, key in _KEYED.findall(done.check().stdout):
            self._peer_keys[spi] = (
                f'"IPv{4 if "." in target else 6}","{source}","{target}","0x{spi}",'
                f'"{proof.ALGORITHM}","0x{key}","NULL",""\n'
            )

    async def _check_wire(self) -> None:
        frames = await evidence.stop_capture(self.lab)
        counts = proof.count_kinds(frames)
        if counts["plaintext"]:
            raise LabError(f"{counts['plaintext']} packets in plaintext at isp: {counts}")
        errors = await evidence.xfrm_errors(self.site) - self._early
        if errors and not (self.setup.rough or self._dropped):
            raise LabError(f"{errors} XFRM errors")
        if not self._peer_keys:
            return
        if not counts.get("esp"):
            raise LabError(f"no ESP at isp: {counts}")
        peer_log = self.site.folder("sun") / "esp_sa"
        peer_log.write_text("".join(self._peer_keys.values()))
        keys = proof.agreed_keys([self.site.esp_keys("moon"), peer_log])
        found = proof.decrypt(frames, keys, esn="esn" in (self.setup.peer_esp or self.setup.esp))
        if found.decrypted < len(keys):
            raise LabError(f"scapy decrypted {found.decrypted} of {len(keys)} SAs: {found.failed}")
        self.findings.details.append(f"{found.decrypted} SAs decrypted at isp")


def _site_options(setup: Setup, *, we_initiate: bool) -> SiteOptions:
    common = {"rekey_min": "30m", "qkd": setup.qkd, "ike": (setup.ike,), "esp": (setup.esp,)}
    tunnel = TunnelOptions(**common | dict(setup.tunnel))
    return SiteOptions(
        moon=tunnel,
        sun=tunnel,
        initiator="moon" if we_initiate else "sun",
        outer=setup.outer,
        key_rate=20.0,
        mqtt=False,
    )


def peer_settings(setup: Setup, psk: str) -> PeerSettings:
    """The peer's side of ``setup``."""
    outer = OUTER[setup.outer]
    return PeerSettings(
        local=outer["sun"],
        remote=outer["moon"],
        local_id="sun.example",
        remote_id="moon.example",
        psk=psk,
        ike=setup.peer_ike or setup.ike,
        esp=setup.peer_esp or setup.esp,
        ppk=setup.peer_ppk,
        **setup.peer,
    )


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
