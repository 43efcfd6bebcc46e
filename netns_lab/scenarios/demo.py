"""The demonstration: one hybrid tunnel, its quantum link cut and healed, nothing lost.

    python -m netns_lab.scenarios.demo        (inside the lab; ``qsgw-lab demo`` from outside)

Exit code 0 only if everything held. What it measured is in ``build/demo/report.json``. With
``--keep-keys`` the key log of moon stays in ``build/demo/wireshark``, to open the capture with.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from netns_lab import evidence, proof, traffic
from netns_lab.errors import LabError
from netns_lab.job import KERNEL
from netns_lab.readiness import wait_until
from netns_lab.report import REKEYS_MIN, Rekey, Report
from netns_lab.scenarios import trial
from netns_lab.scenarios.trial import Trial, totals
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions
from netns_lab.watch import Watch

# A link of three keys a second over both directions, small stores: the stored keys last for
# a few rekeys after the cut. Rekeys are far more frequent than anyone would want them.
_TUNNEL = TunnelOptions(
    pool_target=4, key_reserve=1, rekey_min="2s", rekey_max="4s", restore_dwell="3s"
)
OPTIONS = SiteOptions(moon=_TUNNEL, sun=_TUNNEL, key_rate=3.0, key_store=2)

HYBRID_BEFORE = 7  # rekeys seen in each phase before the next one begins
PQC_ONLY_REKEYS = 3
PHASE_SECONDS = 60.0


class Demo(Trial[Report]):
    opening = "alice - moon = isp = sun - bob, kme-moon - kme-sun: up, with a PKI of their own"

    def __init__(self, site: Site, out: Path, started: float, *, keep_keys: bool = False) -> None:
        super().__init__(site, out, started)
        self.keep_keys = keep_keys
        self.watch = Watch(site)
        self.marks: list[tuple[float, str]] = []
        self.protection: list[str] = []

    # --- the steps ------------------------------------------------------------------------

    async def play(self) -> Report:
        async with AsyncExitStack() as stack:
            with self.timed("start"):
                await self.start_key_side()
                await evidence.start_capture(self.lab)
                self.say("isp: capturing everything that passes")
                for gateway in ("sun", "moon"):
                    await self.site.start_gateway(gateway)
                    await stack.enter_async_context(self.watch.gateway(gateway))
                    self.say(f"{gateway}: qsgwd is ready")
            await self.expect("HYBRID", "start", since=self.started)
            ike = await self.agreed_ike()
            begin = time.monotonic()
            with self.timed("traffic"):
                phases = await self.play_under_traffic()
                directions = await self.stop_traffic()
            self.save_timeline(begin, time.monotonic(), directions)
            errors = await evidence.xfrm_errors(self.site)
            used, reused = await self.key_accounts()
            await self.save_status("end")
            self.check_sequences()
        blocked = await self.dropped_when_down()
        with self.timed("analysis"):
            counts, decryption = await self.analyse_capture()
        report = Report(
            **phases,
            **totals(directions),
            kernel=os.environ.get(KERNEL, "host"),
            protection=tuple(self.protection),
            rekeys=self.rekey_list(),
            qkd_keys_used=used,
            qkd_keys_reused=reused,
            plaintext_packets_seen=counts["plaintext"],
            packets_at_isp=counts,
            esp_decrypted_by_scapy=decryption.proven,
            esp_sas_decrypted=decryption.decrypted,
            xfrm_errors=errors,
            blocked_when_down=blocked,
            ike=ike,
            timings=self.timings,
        )
        return self.search_for_keys(report)

    async def play_under_traffic(self) -> dict[str, Any]:
        """Rekeys, fallback and return while alice and bob talk; what the report says of it."""
        await evidence.start_traffic(self.lab)
        self.say("alice and bob: 50 UDP packets a second each way, numbered")
        await self.rekeys(HYBRID_BEFORE, "HYBRID")
        fallback = await self.cut()
        await self.rekeys(PQC_ONLY_REKEYS, "PQC_ONLY")
        restore = await self.heal()
        await self.rekeys(max(1, REKEYS_MIN + 1 - len(self.watch.rekeys())), "HYBRID")
        matches = await self.mqtt_matches(self.shows, PHASE_SECONDS)
        return {
            "fallback_seconds": fallback,
            "restore_seconds": restore,
            "mqtt_matches": matches,
        }

    def check_sequences(self) -> None:
        """What was checked in the kernels is all that the gateways ever showed."""
        for gateway in GATEWAYS:
            shown = self.watch.sequence(gateway)
            if shown != self.protection:
                raise LabError(f"{gateway} showed {shown}, checked was {self.protection}")

    async def expect(self, protection: str, name: str, *, since: float) -> float:
        """Wait until both gateways show it and the kernels bear it out; seconds since."""

        def shown() -> bool:
            self.lab.check_alive()
            return len(self.watch.changed_to(protection, since=since)) == len(GATEWAYS)

        await wait_until(shown, PHASE_SECONDS, f"{protection} at both gateways")
        took = max(self.watch.changed_to(protection, since=since).values()) - since
        children = await wait_until(
            lambda: evidence.agreed_children(self.site, protection),
            PHASE_SECONDS,
            f"the same {protection} SA at both gateways and in their kernels",
        )
        self.protection.append(protection)
        await self.save_status(f"{len(self.protection)}-{name}")
        moon, sun = children["moon"], children["sun"]
        self.say(
            f"{protection} at both ends: SPI {moon['spi_in']} / {sun['spi_in']} in both kernels, "
            f"{' + '.join(moon['key_exchanges'])}"
            + (f" + QKD key {moon['key_id']}" if moon["key_id"] else "")
        )
        return round(took, 2)

    async def rekeys(self, count: int, protection: str) -> None:
        """Wait for ``count`` more rekeys that both ends report alike."""
        begin = time.monotonic()

        def done() -> bool:
            self.lab.check_alive()
            return len(self.watch.rekeys(protection, since=begin)) >= count

        await wait_until(done, PHASE_SECONDS, f"{count} {protection} rekeys")
        total = len(self.watch.rekeys())
        took = time.monotonic() - begin
        self.say(f"{count} {protection} rekeys in {took:.1f} s; {total} so far")

    async def cut(self) -> float:
        at = time.monotonic()
        await self.site.link("cut")
        self.marks.append((at, "quantum link cut"))
        self.say("quantum link cut: stored keys are used up first")
        seconds = await self.expect("PQC_ONLY", "cut", since=at)
        self.say(f"fell back {seconds:.1f} s after the cut")
        return seconds

    async def heal(self) -> float:
        at = time.monotonic()
        await self.site.link("heal")
        self.marks.append((at, "healed"))
        self.say(f"quantum link healed: it must be well for {_TUNNEL.restore_dwell}")
        seconds = await self.expect("HYBRID", "healed", since=at)
        self.say(f"came back {seconds:.1f} s after the healing")
        return seconds

    def shows(self, status: trial.Json) -> bool:
        """Is a snapshot of moon one that the gateways gave us?"""
        tunnel = next(item for item in status["tunnels"] if item["name"] == "sun")
        known = {(child.spi_in, child.protection) for child in self.watch.children}
        shown = {(child["spi_in"], child["protection"]) for child in tunnel["children"]}
        return tunnel["protection"] == self.protection[-1] and bool(shown) and shown <= known

    async def key_accounts(self) -> tuple[int, int]:
        """QKD keys that went into SAs, and those that came up twice anywhere."""
        used = {child.key_id for child in self.watch.children if child.key_id is not None}
        per_child = [
            child.key_id
            for child in self.watch.children
            if child.gateway == "moon" and child.key_id is not None
        ]
        reused = len(per_child) - len(set(per_child))
        for gateway in GATEWAYS:
            reused += (await self.site.tunnel(gateway))["keys"]["reused"]
        return len(used), reused

    async def dropped_when_down(self) -> bool:
        """With the tunnel terminated nothing passes; what leaks would be in the capture."""
        await self.site.act("moon", "terminate")
        await self.site.wait_protection("DOWN")
        passed = [await evidence.reachable(self.lab, host) for host in evidence.ENDS]
        verdict = "still reach" if any(passed) else "cannot reach"
        self.say(f"tunnel terminated: alice and bob {verdict} each other")
        return not any(passed)

    # --- what it all proves ---------------------------------------------------------------

    async def analyse_capture(self) -> tuple[dict[str, int], proof.Decryption]:
        frames = await evidence.stop_capture(self.lab)
        shutil.copy(self.lab.capture_dir / "isp.pcap", self.out)
        counts = proof.count_kinds(frames)
        decryption = evidence.decrypt(self.site, frames)
        if decryption.failed:
            self.say("scapy: " + "; ".join(decryption.failed))
        self.say(
            f"isp saw {counts.get('esp', 0)} ESP and {counts.get('ike', 0)} IKE packets, "
            f"{counts['plaintext']} in plaintext; scapy decrypted {decryption.decrypted} of "
            f"{decryption.sas_seen} SAs"
        )
        return counts, decryption

    def finish(self) -> None:
        if self.keep_keys:  # nothing but this folder has a key in it
            shutil.copytree(self.site.key_log("moon"), self.out / "wireshark")

    def rekey_list(self) -> tuple[Rekey, ...]:
        return tuple(
            Rekey(
                at=round(child.at - self.started, 2),
                protection=child.protection,
                key_id=child.key_id,
                spi_moon=child.spi_in,
                spi_sun=child.spi_out,
            )
            for child in self.watch.rekeys()
        )

    def save_timeline(
        self, begin: float, end: float, directions: dict[str, traffic.Direction]
    ) -> None:
        trial.timeline(
            self.watch,
            self.started,
            (begin, end),
            directions,
            self.marks,
            rekeys=[(child.at, child.protection) for child in self.watch.rekeys()],
        ).save(self.out / "timeline.json")


def main() -> int:
    parser = argparse.ArgumentParser(description="The demonstration, inside the lab.")
    parser.add_argument("--keep-keys", action="store_true")
    arguments = parser.parse_args()
    return trial.main("demo", OPTIONS, partial(Demo, keep_keys=arguments.keep_keys))


if __name__ == "__main__":
    sys.exit(main())
