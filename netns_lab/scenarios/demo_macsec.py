"""The MACsec demonstration: two sites on one layer-2 link, its CAKs from QKD, ML-KEM and ECDH.

    python -m netns_lab.scenarios.demo_macsec      (``qsgw-lab demo-macsec`` from outside)

CAKs and SAKs are replaced all the time while alice and bob talk; the quantum link is cut, healed,
suspected, cleared. Exit code 0 only if everything held. What it measured is in
``build/demo-macsec/report.json``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from netns_lab import evidence, macsec_evidence, macsec_proof, pcap, proof, traffic
from netns_lab.errors import LabError
from netns_lab.job import KERNEL
from netns_lab.macsec_report import CAK_ROLLOVERS_MIN, SAK_ROLLOVERS_MIN, MacsecReport, Rollover
from netns_lab.macsec_watch import MacsecWatch
from netns_lab.metro import MacsecOptions
from netns_lab.readiness import wait_until
from netns_lab.scenarios import trial
from netns_lab.scenarios.trial import Trial, totals
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

# A new CAK every 9 s, and a new SAK 6 s after it: a Life Time is the least that the standard
# leaves between two SAKs of one CAK. Stores are small, so that they are used up soon after the cut.
_CONNECTION = TunnelOptions(
    pool_target=2, key_reserve=0, rekey_min="9s", rekey_max="9s", restore_dwell="3s"
)
OPTIONS = SiteOptions(
    moon=_CONNECTION,
    sun=_CONNECTION,
    macsec=MacsecOptions(both={"sak_lifetime": "6s"}),
    key_rate=3.0,
    key_store=1,
)

PHASE_SECONDS = 120.0
ALL_SECONDS = 15 * 60.0
PROGRESS = 10  # SAK rollovers
SUSPICION = "QBER 8.1 % on block 42"


class DemoMacsec(Trial[MacsecReport]):
    opening = "alice - moon === sun - bob, a layer-2 link; isp between the gateways for IKE: up"

    def __init__(self, site: Site, out: Path, started: float) -> None:
        super().__init__(site, out, started)
        self.watch = MacsecWatch(site)
        self.marks: list[tuple[float, str]] = []
        self.protection: list[str] = []

    # --- the steps ------------------------------------------------------------------------

    async def play(self) -> MacsecReport:
        async with AsyncExitStack() as stack:
            with self.timed("start"):
                await self.start(stack)
            await self.expect("HYBRID", "start", since=self.started)
            ike = await self.agreed_ike()
            begin = time.monotonic()
            with self.timed("traffic"):
                phases = await self.play_under_traffic()
                directions = await self.stop_traffic()
            self.save_timeline(begin, time.monotonic(), directions)
            errors = await self.kernel_errors()
            used, reused = await self.key_accounts()
            await self.save_status("end")
            self.check_sequences()
        blocked = await self.dropped_when_down()
        with self.timed("analysis"):
            wire = await self.analyse_captures()
        caks = self.watch.cak_rollovers()
        report = MacsecReport(
            **phases,
            **totals(directions),
            **wire,
            kernel=os.environ.get(KERNEL, "host"),
            protection=tuple(self.protection),
            rollovers=self.rollovers(),
            cak_rollovers=len(caks),
            cak_rollovers_hybrid=len(self.watch.cak_rollovers("HYBRID")),
            sak_rollovers=self.watch.sak_rollovers(),
            saks_in_both_kernels=len(self.watch.in_kernels),
            qkd_keys_used=used,
            qkd_keys_reused=reused,
            kernel_errors=errors,
            blocked_when_down=blocked,
            ike=ike,
            timings=self.timings,
        )
        logs = [self.site.key_log(gateway) for gateway in GATEWAYS]
        return self.search_for_keys(report, macsec_proof.secrets_in(logs))

    async def start(self, stack: AsyncExitStack) -> None:
        await self.start_key_side()
        await evidence.start_capture(self.lab)
        await evidence.start_link_capture(self.lab)
        self.say("capturing what arrives at isp, and all that passes the link")
        for gateway in ("sun", "moon"):
            await self.site.start_gateway(gateway)
            await stack.enter_async_context(self.watch.gateway(gateway))
            self.say(f"{gateway}: qsgwd is ready")
        await stack.enter_async_context(self.watch.kernels())

    async def play_under_traffic(self) -> dict[str, Any]:
        """Rollovers, fallback, suspicion and return; what the report says of it."""
        await evidence.start_traffic(self.lab)
        self.say("alice and bob: 50 UDP packets a second each way, numbered")
        async with self.progress():
            await self.cak_rollovers(6, "HYBRID")
            fallback = await self.act("cut", "quantum link cut", "PQC_ONLY")
            await self.cak_rollovers(4, "PQC_ONLY")
            restore = await self.act("heal", "healed", "HYBRID")
            await self.cak_rollovers(6, "HYBRID")
            suspicion = await self.suspect()
            await self.cak_rollovers(4, "PQC_ONLY")
            clear = await self.act("clear", "cleared", "HYBRID")
            await self.enough_rollovers()
        return {
            "fallback_seconds": fallback,
            "restore_seconds": restore,
            "suspicion_seconds": suspicion,
            "clear_seconds": clear,
            "suite": (await self.site.macsec("moon"))["saks"][0]["suite"],
            "mqtt_matches": await self.mqtt_matches(self.shows, PHASE_SECONDS),
        }

    @asynccontextmanager
    async def progress(self) -> AsyncIterator[None]:
        """A line per ``PROGRESS`` SAK rollovers."""

        async def tell() -> None:
            told = 0
            while True:
                saks = self.watch.sak_rollovers()
                if saks >= told + PROGRESS:
                    told = saks
                    caks, kernels = len(self.watch.cak_rollovers()), len(self.watch.in_kernels)
                    self.say(
                        f"{saks} SAK rollovers, {caks} of them with a new CAK; "
                        f"{kernels} SAKs found in both kernels"
                    )
                await asyncio.sleep(0.5)

        task = asyncio.create_task(tell())
        try:
            yield
        finally:
            task.cancel()

    async def expect(self, protection: str, name: str, *, since: float) -> float:
        """Wait until both gateways send so and the kernels bear it out; seconds since."""

        def sent() -> bool:
            self.lab.check_alive()
            return len(self.watch.in_use(protection, since=since)) == len(GATEWAYS)

        await wait_until(sent, PHASE_SECONDS, f"{protection} at both gateways")
        took = max(use.at for use in self.watch.in_use(protection, since=since).values()) - since
        views = await macsec_evidence.wait_agreed(self.site, protection)
        self.protection.append(protection)
        await self.save_status(f"{len(self.protection)}-{name}")
        view = views["moon"]
        sak = macsec_evidence.sending(view) or {}
        self.say(
            f"{protection} at both ends: SAK {sak['ki']} with AN {sak['an']} in both kernels"
            + "".join(_made_of(cak) for cak in view["caks"] if cak["ckn"] == sak["ckn"])
        )
        return round(took, 2)

    async def act(self, verb: str, mark: str, protection: str) -> float:
        """Do something to the quantum link; seconds until the protection that follows."""
        at = time.monotonic()
        await self.site.link(verb)
        self.marks.append((at, mark))
        self.say(f"quantum link: {verb}")
        seconds = await self.expect(protection, verb, since=at)
        self.say(f"{protection} {seconds:.1f} s later")
        return seconds

    async def suspect(self) -> float:
        """Seconds from the first gateway's alarm until both send without QKD, by their clocks."""
        at, wall = time.monotonic(), time.time()
        await self.site.link("suspect", SUSPICION)
        self.marks.append((at, "suspected"))
        self.say(f"quantum link under suspicion: {SUSPICION}")
        await self.expect("PQC_ONLY", "suspect", since=at)
        alarms = [told for told, _, name in self.watch.alarms if name == "qkd-suspect"]
        alarm = min((told for told in alarms if told >= wall - 0.01), default=None)
        if alarm is None:
            raise LabError(f"no alarm for the suspicion: {self.watch.alarms}")
        uses = self.watch.in_use("PQC_ONLY", since=at).values()
        seconds = max(use.told for use in uses) - alarm
        self.say(f"both ends left QKD {seconds:.2f} s after the first alarm")
        return round(seconds, 3)

    async def cak_rollovers(self, count: int, protection: str) -> None:
        """Wait for ``count`` more CAKs of this protection in use at both ends."""
        begin = time.monotonic()

        def done() -> bool:
            self.lab.check_alive()
            return len(self.watch.cak_rollovers(protection, since=begin)) >= count

        await wait_until(done, PHASE_SECONDS, f"{count} {protection} CAK rollovers")
        self.say(f"{count} {protection} CAK rollovers in {time.monotonic() - begin:.1f} s")

    async def enough_rollovers(self) -> None:
        def done() -> bool:
            self.lab.check_alive()
            return (
                len(self.watch.cak_rollovers()) >= CAK_ROLLOVERS_MIN
                and self.watch.sak_rollovers() >= SAK_ROLLOVERS_MIN
                and len(self.watch.in_kernels) >= SAK_ROLLOVERS_MIN
            )

        await wait_until(done, ALL_SECONDS, f"{SAK_ROLLOVERS_MIN} SAK rollovers", interval=0.5)

    # --- what the gateways tell -----------------------------------------------------------

    def check_sequences(self) -> None:
        """What was checked in the kernels is all that the gateways ever sent with."""
        for gateway in GATEWAYS:
            shown = self.watch.sequence(gateway)
            if shown != self.protection:
                raise LabError(f"{gateway} sent with {shown}, checked was {self.protection}")

    def shows(self, status: trial.Json) -> bool:
        """Is a snapshot of moon one with a SAK that both ends have used?"""
        link = status["macsec"][0]
        sak = macsec_evidence.sending(link)
        known = {use.ki for use in self.watch.agreed()}
        return (
            link["protection"] == self.protection[-1]
            and sak is not None
            and macsec_evidence.ki_octets(sak["ki"]) in known
        )

    async def kernel_errors(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for gateway in GATEWAYS:
            secy = await macsec_evidence.kernel(self.site, gateway)
            found |= {f"{gateway} {name}": count for name, count in secy.errors.items()}
        return found

    async def key_accounts(self) -> tuple[int, int]:
        """QKD keys that went into CAKs, and those that came up twice anywhere."""
        used = [key_id for key_id in self.watch.key_ids.values() if key_id is not None]
        reused = len(used) - len(set(used))
        for gateway in GATEWAYS:
            reused += (await self.site.tunnel(gateway))["keys"]["reused"]
        return len(set(used)), reused

    async def dropped_when_down(self) -> bool:
        """With the connection terminated nothing passes; what leaks would be in the captures."""
        await self.site.act("moon", "terminate")
        await macsec_evidence.wait_shown(self.site, "DOWN")
        passed = [await evidence.reachable(self.lab, host) for host in evidence.ENDS]
        verdict = "still reach" if any(passed) else "cannot reach"
        self.say(f"connection terminated: alice and bob {verdict} each other")
        return not any(passed)

    # --- what it all proves ---------------------------------------------------------------

    async def analyse_captures(self) -> dict[str, Any]:
        """What the report says of the link and of isp."""
        at_isp = proof.count_kinds(await evidence.stop_capture(self.lab))
        frames: list[pcap.Frame] = await evidence.stop_capture(self.lab, "link")
        for name in ("isp", "link"):
            shutil.copy(self.lab.capture_dir / f"{name}.pcap", self.out)
        types = macsec_proof.ethertypes(frames)
        tables = [self.site.key_log(gateway) / "macsec_sak" for gateway in GATEWAYS]
        decryption = macsec_proof.decrypt(frames, macsec_proof.agreed(tables))
        if decryption.failed:
            self.say("scapy: " + "; ".join(decryption.failed))
        self.say(
            f"link: {types}; scapy opened frames of {decryption.saks} SAKs, "
            f"{decryption.decrypted} of {decryption.runs} by direction, "
            f"{decryption.numbered} of them numbered packets"
        )
        return {
            "plaintext_packets_seen": at_isp["plaintext"] + macsec_proof.in_the_clear(frames),
            "packets_at_isp": at_isp,
            "link_ethertypes": types,
            "saks_decrypted_by_scapy": decryption.saks,
            "frames_decrypted_by_scapy": decryption.decrypted,
            "decrypted_by_scapy": decryption.proven,
        }

    def rollovers(self) -> tuple[Rollover, ...]:
        return tuple(
            Rollover(
                at=round(use.at - self.started, 2),
                ki=use.ki,
                an=use.an,
                ckn=use.ckn,
                protection=use.protection,
                key_id=self.watch.key_ids.get(use.ckn),
            )
            for use in self.watch.agreed()
        )

    def save_timeline(
        self, begin: float, end: float, directions: dict[str, traffic.Direction]
    ) -> None:
        watch = self.watch
        trial.timeline(
            watch,
            self.started,
            (begin, end),
            directions,
            self.marks,
            rekeys=[(use.at, use.protection) for use in watch.cak_rollovers()],
            saks=[use.at for use in watch.agreed()],
        ).save(self.out / "timeline.json")


def _made_of(cak: dict[str, Any]) -> str:
    mixed = [*cak["key_exchanges"], *([f"QKD key {cak['key_id']}"] if cak["key_id"] else [])]
    return f", CAK of {' + '.join(mixed)}"


def main() -> int:
    return trial.main("demo-macsec", OPTIONS, DemoMacsec)


if __name__ == "__main__":
    sys.exit(main())
