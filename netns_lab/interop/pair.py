"""Our gateway at moon and a foreign peer at sun, and how they prove that they understand
each other: both say the same, both kernels have it, the payload arrives, the wire is ESP.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from netns_lab import control, evidence, pcap
from netns_lab.errors import LabError
from netns_lab.interop import stray, wire
from netns_lab.interop.agreement import Agreement, KernelSa, child_trouble, kernel_sas, pairs
from netns_lab.interop.bridge import KeyBridge
from netns_lab.interop.findings import Findings, check_outage, counted
from netns_lab.interop.setup import SECOND, Setup, peer_settings, site_options
from netns_lab.nat import Nat
from netns_lab.peers.fetch import Tree
from netns_lab.peers.peer import Peer, make
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAY_PKI, GATEWAYS, OUTER, Gateway, gateway_file

Json = dict[str, Any]

UP_SECONDS = 30.0
BOB_SECOND = "fd02::10"  # through the second Child SA, which is for IPv6

TOO_EARLY = "XfrmAcquireError"
"""The kernel's counter of what came for an SA that has an SPI and no keys yet."""
BLOCKED = frozenset({"XfrmOutPolBlock"})
"""Counters of what a policy dropped, as it should."""
GONE = BLOCKED | {"XfrmInNoStates", "XfrmOutNoStates", TOO_EARLY}
"""And of what came for an SA that one end has lost."""


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
        self._allowed: frozenset[str] = GONE if setup.outage else frozenset()
        self._early = 0  # packets that came before their SA was ready
        self._proven: set[str] = set()  # SPIs through which packets went
        self._peer_sas: dict[str, KernelSa] = {}

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
        options = site_options(setup, we_initiate=we_initiate)
        async with Site.prepared(name, options, post_mortem=folder) as site:
            psk = (site.folder("moon") / "psk").read_text().strip()
            settings = peer_settings(setup, psk, site.folder(GATEWAY_PKI), we_initiate=we_initiate)
            peer = make(site.lab, "sun", tree, settings)
            async with AsyncExitStack() as stack:
                pair = cls(site, peer, setup, findings, we_initiate=we_initiate)
                await peer.prepare()
                stack.push_async_callback(peer.close)
                await pair._start(stack)
                yield pair
                await pair._check()

    async def _start(self, stack: AsyncExitStack) -> None:
        if self.setup.nat:
            await Nat(self.lab, behind="moon" if self.we_initiate else "sun").start()
        if self.setup.outage:
            await self.guard_peer()
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
        elif self._bridged:
            # Attempts before the peer had the keys have failed, and the next one may be long off.
            await self.keys_brought()
            await self.site.act("moon", "initiate")
        await self.shown(*protection, within=within)

    async def peer_initiates(self) -> str:
        """Have the peer begin; what it said."""
        await wait_until(self._keys_ready, UP_SECONDS, "QKD keys on both sides")
        if self._bridged:
            await self.peer_names(await self.bridge.fresh())
        done = await self.peer.initiate()
        return done.stdout + done.stderr

    async def rekey_child(self) -> None:
        """By our operator."""
        await self.site.act("moon", "rekey")

    async def rekey_second_child(self) -> None:
        """By our operator."""
        await control.act(self.site.control_socket("moon"), "rekey", SECOND)

    async def rekey_ike(self) -> None:
        """By our operator."""
        await self.site.act("moon", "rekey-ike")

    async def peer_names(self, key_id: str) -> None:
        """Have the peer name this PPK when it initiates."""
        await self.peer.configure(replace(self.peer.settings, ppk_id=key_id))

    async def keys_brought(self) -> None:
        """Wait until the peer has every key that we are to use next."""
        await wait_until(self.bridge.up_to_date, UP_SECONDS, "the peer has our next keys")

    async def shown(self, *protection: str, within: float = UP_SECONDS) -> None:
        await self.site.wait_protection(*protection, within=within, at=("moon",))

    async def guard_peer(self) -> None:
        """What a careful operator adds at sun: without an SA nothing leaves in the clear."""
        selector = ("src", "10.2.0.0/16", "dst", "10.1.0.0/16")
        command = ["ip", "xfrm", "policy", "update", *selector, "dir", "out", "action", "block"]
        (await self.lab.run("sun", [*command, "priority", "2000000000"])).check()

    async def clear_peer(self) -> None:
        """Take away what a crash left in the peer's kernel; it forwards nothing meanwhile."""
        await self._peer_forwards(False)
        await self.peer.clear_kernel()
        await self.guard_peer()
        await self._peer_forwards(True)

    async def _peer_forwards(self, on: bool) -> None:
        command = ["sh", "-c", f"echo {int(on)} > /proc/sys/net/ipv4/ip_forward"]
        (await self.lab.run("sun", command)).check()

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

    async def calm(self, setup: Setup) -> None:
        """Have our gateway read a configuration with the lifetimes of ``setup``."""
        options = site_options(setup, we_initiate=self.we_initiate)
        self.site.write_config("moon", gateway_file(options, "moon", self.lab.run_dir))
        await self.site.act("moon", "reload")

    # --- proving --------------------------------------------------------------------------

    async def prove(
        self,
        *,
        unlike: Agreement | None = None,
        unlike_ike: Agreement | None = None,
        by_create_child: bool = False,
    ) -> Agreement:
        """Both ends agree, so do their kernels, and alice reaches bob.

        ``unlike``: with one other Child SA than these, ``unlike_ike``: in another IKE SA.
        ``by_create_child``: the peer, too, names the key exchanges of the Child SA's own.
        """
        seen: list[str] = []

        async def agreed() -> Agreement | None:
            found, trouble = await self._agreement(by_create_child=by_create_child)
            kept = len(unlike.spis) - 2 if unlike else 0  # of several Child SAs one is another
            if found and unlike and len(found.spis & unlike.spis) != kept:
                found, trouble = None, "still the Child SA from before"
            if found and unlike_ike and found.ike["spi_i"] == unlike_ike.ike["spi_i"]:
                found, trouble = None, "still the IKE SA from before"
            seen[:] = [trouble]
            return found

        try:
            found = await wait_until(agreed, UP_SECONDS, "both ends agree", interval=0.2)
        except LabError as error:
            raise LabError(f"{error}; {seen[0]}") from error
        assert found is not None
        self.findings.negotiated = found.negotiated
        if not await evidence.reachable(self.lab):
            raise LabError("alice does not reach bob")
        if len(found.children) > 1 and not await evidence.reachable(self.lab, address=BOB_SECOND):
            raise LabError("alice does not reach bob through the second Child SA")
        self._proven |= found.spis
        return found

    async def _agreement(self, *, by_create_child: bool) -> tuple[Agreement | None, str]:
        """What both ends agree on now, or None and why they do not."""
        tunnels = (await self.site.snapshot("moon"))["tunnels"]
        ike = tunnels[0]["ike"]
        children = [child for tunnel in tunnels for child in tunnel["children"]]
        carrying = [child for child in children if child["carries_outbound"]]
        if not ike or len(carrying) != len(self.setup.children):
            states = [tunnel["protection"] for tunnel in tunnels]
            return None, f"we are {states} with {len(carrying)} Child SAs in use"
        theirs = [sa for sa in await self.peer.sas() if sa.established]
        if len(theirs) != 1:
            return None, f"the peer has {len(theirs)} IKE SAs"
        if not self.peer.same_ike(theirs[0], ike):
            return None, f"we say {ike['proposal']}, the peer {theirs[0].algorithms}"
        matched, trouble = pairs(carrying, theirs[0].children)
        kernels: dict[str, dict[str, KernelSa]] = {
            host: await self._kernel(host) for host in GATEWAYS
        }
        for ours, their in matched:
            trouble = trouble or child_trouble(ours, their, kernels, first=not by_create_child)
        if not await evidence.in_kernel(self.site, "moon", *carrying):
            trouble = trouble or "our outbound policies lead elsewhere"
        if trouble:
            return None, trouble
        self._peer_sas |= kernels["sun"]
        return Agreement(ike=ike, peer_ike=theirs[0], children=matched), ""

    async def _kernel(self, host: Gateway) -> dict[str, KernelSa]:
        return kernel_sas(
            (await self.lab.run(host, ["ip", "xfrm", "state", "list"])).check().stdout
        )

    async def only_one(self) -> Json:
        """Wait until there is one IKE SA and one pair of ESP SAs, everywhere; our status."""

        async def alone() -> bool:
            found, _ = await self._agreement(by_create_child=True)
            if found is None or len(await self.peer.sas()) != 1:
                return False
            held = [await evidence.esp_sas(self.site, host) for host in GATEWAYS]
            children = (await self.site.tunnel("moon"))["children"]
            return len(children) == 1 and all(spis == found.spis for spis in held)

        await wait_until(alone, UP_SECONDS, "one IKE SA and one pair of ESP SAs", interval=0.5)
        await self.prove(by_create_child=True)
        return await self.site.tunnel("moon")

    @asynccontextmanager
    async def traffic(self, *, peer_hastens: bool = False) -> AsyncIterator[None]:
        """Numbered packets both ways meanwhile; none may be lost.

        ``peer_hastens``: a responder may send through a new SA at once (RFC 7296 2.8), and we
        have its keys only when its answer has come. Those packets, and no others, may be lost.
        """
        early = await self._too_early()
        await evidence.start_traffic(self.lab)
        yield
        directions = await evidence.stop_traffic(self.lab)
        sent, missing = counted(directions, self.findings)
        early = await self._too_early() - early
        if peer_hastens and early:
            self.findings.details.append(f"{early} came before the answer that brings their keys")
            self._early += early
            missing -= min(missing, early)
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
        if grown := await self._errors() - before:
            raise LabError(f"XFRM errors after the outage: {dict(grown)}")

    async def _errors(self) -> Counter[str]:
        """What both kernels count as XFRM errors."""
        counters = [await evidence.xfrm_counters(self.site, host) for host in GATEWAYS]
        return sum(counters, Counter())

    async def _too_early(self) -> int:
        return (await evidence.xfrm_counters(self.site, "moon"))[TOO_EARLY]

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
        self._allowed |= BLOCKED
        if await evidence.reachable(self.lab, tries=2):
            raise LabError("alice reaches bob without a tunnel")

    def frames(self) -> list[pcap.Frame]:
        """The capture at isp so far."""
        return list(pcap.read(self._capture))

    async def _check(self) -> None:
        """Counters, wire, and what was written, when all is done."""
        errors = await self._errors()
        errors[TOO_EARLY] -= self._early
        wrong = {name: count for name, count in (+errors).items() if name not in self._allowed}
        if wrong:
            raise LabError(f"XFRM errors: {wrong}")
        if self.setup.outage and +errors:
            self.findings.details.append(f"XFRM counters: {dict(+errors)}")
        await self._write_statements()
        frames = await evidence.stop_capture(self.lab)
        wire.check_plaintext(frames)
        if self._proven:
            count = wire.check_decryption(
                self.site, frames, self._proven, self._peer_sas, esn=self.setup.esn
            )
            self.findings.details.append(f"{count} SAs decrypted at isp")
        keys = wire.check_traces(self.site, [self.lab.log_dir, self.lab.capture_dir])
        self.findings.details.append(f"none of {keys} keys in logs, status and capture")

    async def _write_statements(self) -> None:
        """What both ends say at last, among the logs, to be searched with them."""
        status = json.dumps(await self.site.snapshot("moon"), indent=2)
        (self.lab.log_dir / "status-moon.json").write_text(status)
        (self.lab.log_dir / "sas-sun.txt").write_text(repr(await self.peer.sas()))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
