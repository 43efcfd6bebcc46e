"""The demonstration: one hybrid tunnel, its quantum link cut and healed, nothing lost.

    python -m netns_lab.scenarios.demo        (inside the lab; ``qsgw-lab demo`` from outside)

Exit code 0 only if everything held. What it measured is in ``build/demo/report.json``. With
``--keep-keys`` the key log of moon stays in ``build/demo/wireshark``, to open the capture with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from netns_lab import doctor, evidence, paths, proof, traffic
from netns_lab.errors import LabError
from netns_lab.job import KERNEL
from netns_lab.readiness import wait_until
from netns_lab.report import REKEYS_MIN, Rekey, Report, table
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions
from netns_lab.timeline import Timeline
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


class Demo:
    """One run, step by step. ``out`` is what remains of it."""

    def __init__(self, site: Site, out: Path, started: float) -> None:
        self.site = site
        self.lab = site.lab
        self.out = out
        self.started = started
        self.watch = Watch(site)
        self.timings: dict[str, float] = {}
        self.marks: list[tuple[float, str]] = []
        self.protection: list[str] = []

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s]  {text}", flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.timings[name] = round(time.monotonic() - begin, 2)

    # --- the steps ------------------------------------------------------------------------

    async def play(self) -> Report:
        """Everything but taking it down again. Raises LabError where it cannot go on."""
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
            **_totals(directions),
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
            key_bytes_in_artifacts=0,
            keys_searched_for=0,
            blocked_when_down=blocked,
            ike=ike,
            timings=self.timings,
        )
        return await self.search_for_keys(report)

    async def play_under_traffic(self) -> dict[str, Any]:
        """Rekeys, fallback and return while alice and bob talk; what the report says of it."""
        await evidence.start_traffic(self.lab)
        self.say("alice and bob: 50 UDP packets a second each way, numbered")
        await self.rekeys(HYBRID_BEFORE, "HYBRID")
        fallback = await self.cut()
        await self.rekeys(PQC_ONLY_REKEYS, "PQC_ONLY")
        restore = await self.heal()
        await self.rekeys(max(1, REKEYS_MIN + 1 - len(self.watch.rekeys())), "HYBRID")
        matches = await self.mqtt_matches()
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

    async def start_key_side(self) -> None:
        await self.site.start_link()
        await asyncio.gather(*(self.site.start_kme(name) for name in self.site.kmes))
        self.say(
            f"kme-moon, kme-sun: ETSI 014 over mutual TLS; QKD link between them, "
            f"{OPTIONS.key_rate:g} keys/s, {OPTIONS.key_store} stored per direction"
        )
        await asyncio.gather(*(self.site.start_broker(gateway) for gateway in GATEWAYS))

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

    async def agreed_ike(self) -> dict[str, dict[str, Any]]:
        wanted = ("proposal", "key_exchanges", "ppk_method", "key_id", "spi_i", "spi_r")
        ike: dict[str, dict[str, Any]] = {}
        for gateway in GATEWAYS:
            facts = (await self.site.tunnel(gateway))["ike"] or {}
            ike[gateway] = {name: facts.get(name) for name in (*wanted, "role")}
        if any(ike["moon"][name] != ike["sun"][name] for name in wanted):
            raise LabError(f"the gateways disagree about their IKE SA: {ike}")
        self.say(f"IKE: {ike['moon']['proposal']}, QKD key by {ike['moon']['ppk_method']}")
        return ike

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

    async def mqtt_matches(self) -> bool:
        """The broker's retained snapshot says what the gateway itself says."""
        topics = ["qsgw/moon/availability", "qsgw/moon/status"]

        async def matches() -> bool:
            command = [sys.executable, "-m", "netns_lab.mqtt", *topics]
            found = json.loads((await self.lab.run("moon", command)).check().stdout)
            (self.out / "mqtt.json").write_text(json.dumps(found, indent=2))
            status = json.loads(found[topics[1]])
            tunnel = next(item for item in status["tunnels"] if item["name"] == "sun")
            known = {(child.spi_in, child.protection) for child in self.watch.children}
            shown = {(child["spi_in"], child["protection"]) for child in tunnel["children"]}
            return (
                found[topics[0]] == "online"
                and tunnel["protection"] == self.protection[-1]
                and bool(shown)
                and shown <= known
            )

        await wait_until(matches, PHASE_SECONDS, "the retained MQTT snapshot of moon", interval=0.5)
        self.say("MQTT: the retained snapshot at moon's broker matches")
        return True

    async def stop_traffic(self) -> dict[str, traffic.Direction]:
        directions = await evidence.stop_traffic(self.lab)
        for name, seen in directions.items():
            self.say(f"{name}: {seen.sent} packets sent, {seen.lost} lost")
        return directions

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

    async def search_for_keys(self, report: Report) -> Report:
        """Look for every key in everything that remains; the report is written first."""
        with self.timed("search"):
            shutil.copytree(self.lab.log_dir, self.out / "log", ignore=_sockets)
            self.write_report(report)
            folders = [self.out, self.lab.log_dir, self.lab.capture_dir]
            search = evidence.search_for_keys(self.site, folders)
        for finding in search.findings:
            self.say(f"KEY BYTES in {finding.file} at {finding.offset} ({finding.form})")
        self.say(f"{search.keys} keys searched for in {search.files} files")
        found = {
            "key_bytes_in_artifacts": len(search.findings),
            "keys_searched_for": search.keys,
            "timings": {**self.timings, "total": round(time.monotonic() - self.started, 2)},
        }
        final = Report(**{name: getattr(report, name) for name in report.__slots__} | found)
        self.write_report(final)
        return final

    def write_report(self, report: Report) -> None:
        text = json.dumps(report.as_json(), indent=2) + "\n"
        (self.out / "report.json").write_text(text)

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

    async def save_status(self, name: str) -> None:
        for gateway in GATEWAYS:
            text = json.dumps(await self.site.snapshot(gateway), indent=2)
            (self.out / f"status-{name}-{gateway}.json").write_text(text + "\n")

    def save_timeline(
        self, begin: float, end: float, directions: dict[str, traffic.Direction]
    ) -> None:
        zero = self.started
        Timeline(
            end=round(time.monotonic() - zero, 1),
            protection={
                gateway: [(0.0, "DOWN")]
                + [
                    (change.at - zero, change.protection)
                    for change in self.watch.changes
                    if change.gateway == gateway
                ]
                for gateway in GATEWAYS
            },
            pool={
                gateway: [
                    (sample.at - zero, sample.pool, sample.stored_at_kme)
                    for sample in self.watch.samples
                    if sample.gateway == gateway
                ]
                for gateway in GATEWAYS
            },
            rekeys=[(rekey.at, rekey.protection) for rekey in self.rekey_list()],
            traffic=(begin - zero, end - zero),
            bin_seconds=traffic.BIN_SECONDS,
            loss={
                name: traffic.loss_bins(direction, begin, end)
                for name, direction in directions.items()
            },
            marks=[(at - zero, text) for at, text in self.marks],
        ).save(self.out / "timeline.json")


def _totals(directions: dict[str, traffic.Direction]) -> dict[str, Any]:
    """Packets over both directions, as the report calls them."""
    seen = directions.values()
    return {
        "packets_sent": sum(direction.sent for direction in seen),
        "packets_lost": sum(direction.lost for direction in seen),
        "packets_duplicate": sum(direction.duplicate for direction in seen),
        "packets_reordered": sum(direction.reordered for direction in seen),
    }


def _sockets(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".notify")]


async def run(out: Path, *, keep_keys: bool = False) -> Report:
    """Play the demonstration. Raises LabError with a post-mortem when something did not hold."""
    started = time.monotonic()
    features = doctor.probe()
    print(f"kernel {os.uname().release}: " + ", ".join(f"{f.name} {f.answer}" for f in features))
    async with Site.prepared("demo", OPTIONS) as site:
        demo = Demo(site, out, started)
        demo.say("alice - moon = isp = sun - bob, kme-moon - kme-sun: up, with a PKI of their own")
        report = await demo.play()
        if keep_keys:  # after the search: nothing but this folder has a key in it
            shutil.copytree(site.key_log("moon"), out / "wireshark")
        print(table(report.checks()), flush=True)
        failed = [check.what for check in report.checks() if not check.holds]
        if failed:
            raise LabError(f"did not hold: {', '.join(failed)}")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="The demonstration, inside the lab.")
    parser.add_argument("--keep-keys", action="store_true")
    arguments = parser.parse_args()
    out = paths.build() / "demo"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        asyncio.run(run(out, keep_keys=arguments.keep_keys))
    except LabError as error:
        print(f"demo: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    print(f"everything held; {out / 'report.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
