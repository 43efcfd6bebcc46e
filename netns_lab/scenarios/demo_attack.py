"""The attack demonstration: two links under attack, one of which can see it.

    python -m netns_lab.scenarios.demo_attack      (``qsgw-lab demo-attack`` from outside)

Two tunnels between the same gateways. Each takes its keys from a pair of emulated QKD devices
of its own: those of "link" send decoys, those of "link-twin" do not. Exit code 0 only if
everything held. What it measured is in ``build/demo-attack/report.json``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from netns_lab import evidence, proof, traffic
from netns_lab.attack_report import AttackReport, Episode
from netns_lab.errors import LabError
from netns_lab.job import KERNEL
from netns_lab.keyscan import recorded_ids
from netns_lab.qkd_files import DeviceLink
from netns_lab.readiness import wait_until
from netns_lab.scenarios import trial
from netns_lab.scenarios.attack_watch import LinkLog, draw_file
from netns_lab.scenarios.trial import Trial
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions, tunnel_name
from netns_lab.watch import Watch

DECOY, PLAIN = "link", "link-twin"
LINKS = (DECOY, PLAIN)
TITLES = {DECOY: "decoy link", PLAIN: "link without decoys"}

# Few keys are kept anywhere, so that those in use are seconds old and not minutes.
_TUNNEL = TunnelOptions(
    pool_target=2, key_reserve=1, rekey_min="2s", rekey_max="4s", restore_dwell="3s"
)
OPTIONS = SiteOptions(
    moon=_TUNNEL,
    sun=_TUNNEL,
    twin=True,
    apart=True,
    mqtt=False,
    key_store=3,
    devices={
        DECOY: DeviceLink(preset="lab-decoy", interval="1500ms", buffer=6),
        PLAIN: DeviceLink(preset="lab-plain", interval="1500ms", block="2s", buffer=6),
    },
)

CALM_REKEYS = 2  # with QKD keys in both tunnels, before the first attack and after each
UNSEEN_KEYS = 3  # made under attack that go into SAs of the tunnel that sees nothing
PHASE_SECONDS = 120.0

PNS, INTERCEPT, CUT, BLINDING = "QKD-SEC-022", "QKD-SEC-021", "QKD-FAULT-201", "QKD-SEC-023"


class DemoAttack(Trial[AttackReport]):
    opening = "two tunnels between moon and sun, each with KMEs and a QKD link of its own: up"

    def __init__(self, site: Site, out: Path, started: float) -> None:
        super().__init__(site, out, started)
        self.watches = {DECOY: Watch(site), PLAIN: Watch(site, twin=True)}
        self.logs = {name: LinkLog(site.devices[name], started) for name in LINKS}
        self.episodes: list[Episode] = []

    # --- the steps ------------------------------------------------------------------------

    async def play(self) -> AttackReport:
        async with AsyncExitStack() as stack:
            with self.timed("start"):
                await self.start(stack)
            begin = time.monotonic()
            with self.timed("attacks"):
                await self.attacks()
            directions = await self.stop_both()
            draw_file(
                self.out / "timeline.json",
                logs=self.logs,
                watches=self.watches,
                titles=TITLES,
                started=self.started,
                traffic_from=begin,
                directions=directions,
            )
            errors = await evidence.xfrm_errors(self.site)
            reused = await self.reused_keys()
            made = {name: self.logs[name].keys() for name in LINKS}
        with self.timed("analysis"):
            frames = await evidence.stop_capture(self.lab)
            shutil.copy(self.lab.capture_dir / "isp.pcap", self.out)
            counts = proof.count_kinds(frames)
            decryption = evidence.decrypt(self.site, frames)
            for name in LINKS:
                telemetry = self.site.devices[name].folder / "telemetry.jsonl"
                shutil.copy(telemetry, self.out / f"telemetry-{name}.jsonl")
        report = AttackReport(
            kernel=os.environ.get(KERNEL, "host"),
            episodes=tuple(self.episodes),
            protection={
                tunnel_name("moon", twin=name == PLAIN): tuple(self.watches[name].sequence("moon"))
                for name in LINKS
            },
            packets_sent=sum(direction.sent for direction in directions.values()),
            packets_lost=sum(direction.lost for direction in directions.values()),
            keys_made=made,
            qkd_keys_reused=reused,
            plaintext_packets_seen=counts["plaintext"],
            packets_at_isp=counts,
            esp_sas_decrypted=decryption.decrypted,
            esp_decrypted_by_scapy=decryption.proven,
            xfrm_errors=errors,
            timings=self.timings,
        )
        return self.search_for_keys(report)

    async def start(self, stack: AsyncExitStack) -> None:
        await asyncio.gather(*(self.site.start_link(name) for name in LINKS))
        for name in LINKS:
            model = self.logs[name].model
            self.say(f"{TITLES[name]}: Alice, Bob and the simulated optics of {model!r} run")
        await asyncio.gather(*(self.site.start_kme(name) for name in self.site.kmes))
        await evidence.start_capture(self.lab)
        for gateway in ("sun", "moon"):
            await self.site.start_gateway(gateway)
            for watch in self.watches.values():
                await stack.enter_async_context(watch.gateway(gateway))
        await asyncio.gather(*(self.shown("HYBRID", name, since=self.started) for name in LINKS))
        for name in LINKS:
            last = self.logs[name].last()
            self.say(
                f"{TITLES[name]}: HYBRID at both gateways; {last['sifted']} bits sifted per block, "
                f"error rate {last['qber_z']:.2%}, {last['secret_bits']} bits of key"
            )
        for twin in (False, True):
            await evidence.start_traffic(self.lab, twin=twin)
        self.say("alice and bob: 50 UDP packets a second each way through each tunnel, numbered")
        await self.calm()

    async def attacks(self) -> None:
        await self.photon_number_splitting()
        await self.seen(INTERCEPT, "intercept-resend 5 %", "intercept-resend", "fraction=0.05")
        await self.seen(CUT, "fibre cut", "cut", suspicion=False)
        await self.seen(BLINDING, "blinding", "blinding")

    async def photon_number_splitting(self) -> None:
        """On both links at once: one sees it, the other does not and never will."""
        unseen = asyncio.create_task(self.unseen("photon-number splitting"))
        try:
            await self.seen(
                PNS, "photon-number splitting 5 %", "photon-number-splitting", "fraction=0.05"
            )
            await unseen
        finally:
            unseen.cancel()

    async def seen(self, alarm: str, title: str, *words: str, suspicion: bool = True) -> None:
        """An attack on the decoy link, from its start until the tunnel is HYBRID again."""
        link, log = self.site.devices[DECOY], self.logs[DECOY]
        withdrawn = await self.quarantined()
        answer = await link.attack(*words)
        first = _first_block(answer, words[0])
        began = time.monotonic()
        self.say(f"{TITLES[DECOY]}: {title} begins with block {first}")
        raised = await wait_until(
            lambda: log.raised(alarm, first), PHASE_SECONDS, f"{alarm} for {title}"
        )
        self.say(f"{TITLES[DECOY]}: block {raised.block}: {raised.text}")
        fallen = await self.shown("PQC_ONLY", DECOY, since=raised.at)
        self.say(f"tunnel of the {TITLES[DECOY]}: PQC_ONLY {fallen:.2f} s after the alarm")
        await self.lasting()
        quarantined = await self.quarantined() - withdrawn
        await link.stop(words[0])
        ended = time.monotonic()
        log.attacked(began, ended, title)
        self.say(f"{TITLES[DECOY]}: {title} ends; {quarantined} keys were withdrawn")
        returned = await self.shown("HYBRID", DECOY, since=ended)
        self.say(f"tunnel of the {TITLES[DECOY]}: HYBRID again {returned:.1f} s later")
        self.episodes.append(
            Episode(
                attack=title,
                link=TITLES[DECOY],
                tunnel=tunnel_name("moon"),
                expected=alarm,
                raised=log.identifiers(first),
                text=raised.text,
                suspicion=suspicion,
                blocks_to_alarm=raised.block - first + 1,
                seconds_to_alarm=round(raised.at - began, 2),
                quarantined=quarantined,
                fell_back_to="PQC_ONLY",
                seconds_to_fall_back=round(fallen, 2),
                seconds_to_return=round(returned, 2),
            )
        )
        await self.calm()

    async def unseen(self, title: str) -> None:
        """Photon-number splitting on the link without decoys: keys go on into SAs."""
        link, log, watch = self.site.devices[PLAIN], self.logs[PLAIN], self.watches[PLAIN]
        answer = await link.attack("photon-number-splitting")
        first = _first_block(answer, "photon-number-splitting")
        began = time.monotonic()
        before = recorded_ids(link.recorded_keys)
        self.say(f"{TITLES[PLAIN]}: {title} begins with block {first}")

        def known_keys() -> set[str]:
            made = recorded_ids(link.recorded_keys) - before
            return made & {child.key_id for child in watch.children if child.key_id is not None}

        await wait_until(
            lambda: len(known_keys()) >= UNSEEN_KEYS,
            PHASE_SECONDS,
            "keys made under photon-number splitting in SAs of the tunnel that sees nothing",
        )
        await link.stop("photon-number-splitting")
        log.attacked(began, time.monotonic(), title)
        fell = watch.changed_to("PQC_ONLY", since=began)
        self.episodes.append(
            Episode(
                attack=title,
                link=TITLES[PLAIN],
                tunnel=tunnel_name("moon", twin=True),
                expected=None,
                raised=log.identifiers(first),
                text="",
                suspicion=True,
                blocks_to_alarm=None,
                seconds_to_alarm=None,
                quarantined=0,
                fell_back_to="PQC_ONLY" if fell else None,
                seconds_to_fall_back=None,
                seconds_to_return=None,
                keys_while_unseen=len(known_keys()),
            )
        )
        self.say(
            f"{TITLES[PLAIN]}: nothing seen. Error rate and gain are as ever, and "
            f"{len(known_keys())} keys of which the eavesdropper has a copy went into SAs "
            "shown as HYBRID. "
            "Such a tunnel has what ML-KEM and ECDH give it, and no more."
        )

    # --- waiting --------------------------------------------------------------------------

    async def shown(self, protection: str, link: str, *, since: float) -> float:
        """Wait until both gateways show it and the kernels bear it out; seconds since."""
        watch = self.watches[link]

        def both() -> dict[Any, float]:
            self.lab.check_alive()
            seen = watch.changed_to(protection, since=since)
            return seen if len(seen) == len(GATEWAYS) else {}

        seen = await wait_until(both, PHASE_SECONDS, f"{protection} for the {TITLES[link]}")
        await wait_until(
            lambda: evidence.agreed_children(self.site, protection, twin=link == PLAIN),
            PHASE_SECONDS,
            f"the same {protection} SA at both gateways and in their kernels",
        )
        return max(seen.values()) - since

    async def calm(self) -> None:
        """Both tunnels rekey with QKD keys."""
        begin = time.monotonic()
        await wait_until(
            lambda: all(
                len(watch.rekeys("HYBRID", since=begin)) >= CALM_REKEYS
                for watch in self.watches.values()
            ),
            PHASE_SECONDS,
            "HYBRID rekeys of both tunnels",
        )

    async def lasting(self) -> None:
        """The attack goes on for some rekeys, none of which may take a QKD key."""
        begin = time.monotonic()
        watch = self.watches[DECOY]
        await wait_until(
            lambda: len(watch.rekeys("PQC_ONLY", since=begin)) >= CALM_REKEYS,
            PHASE_SECONDS,
            "PQC_ONLY rekeys",
        )
        if watch.rekeys("HYBRID", since=begin):
            raise LabError("a QKD key went into an SA while the link was under suspicion or cut")

    async def quarantined(self) -> int:
        """Keys of the decoy link withdrawn so far, in the devices and at both KMEs."""
        delivery = (await self.site.devices[DECOY].status())["delivery"]
        found: int = delivery["quarantined"] + delivery["dropped"]
        for kme in self.site.kmes.values():
            if kme.link == DECOY:
                status = await self.site.kmectl(kme.name, "status")
                found += sum(each["accounting"]["quarantined"] for each in status["directions"])
        return found

    async def reused_keys(self) -> int:
        found = 0
        for watch in self.watches.values():
            used = [each.key_id for each in watch.children if each.gateway == "moon"]
            used = [key_id for key_id in used if key_id is not None]
            found += len(used) - len(set(used))
        for gateway in GATEWAYS:
            for twin in (False, True):
                found += (await self.site.tunnel(gateway, twin=twin))["keys"]["reused"]
        return found

    async def stop_both(self) -> dict[str, traffic.Direction]:
        directions: dict[str, traffic.Direction] = {}
        for name in LINKS:
            for way, seen in (await evidence.stop_traffic(self.lab, twin=name == PLAIN)).items():
                directions[f"{way}, {TITLES[name]}"] = seen
                self.say(f"{way}, tunnel of the {TITLES[name]}: {seen.sent} sent, {seen.lost} lost")
        return directions


def _first_block(status: dict[str, Any], attack: str) -> int:
    """The first block of light under this attack, as the channel tells it."""
    for each in status["attacks"]:
        if each["name"] == attack:
            return int(each["since_block"])
    raise LabError(f"the channel knows of no {attack}: {status['attacks']}")


def main() -> int:
    return trial.main("demo-attack", OPTIONS, DemoAttack)


if __name__ == "__main__":
    sys.exit(main())
