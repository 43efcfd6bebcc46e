"""What all demonstrations have in common: a site, a clock, a report, the search for keys."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from netns_lab import doctor, evidence, paths, traffic
from netns_lab.errors import LabError
from netns_lab.readiness import wait_until
from netns_lab.report import TrialReport, table
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions
from netns_lab.timeline import Timeline
from netns_lab.watch import Change, Sample

R = TypeVar("R", bound=TrialReport)

Json = dict[str, Any]


class Trial(ABC, Generic[R]):
    """One run, step by step. ``out`` is what remains of it."""

    opening = "the sites are up"  # what is said first

    def __init__(self, site: Site, out: Path, started: float) -> None:
        self.site = site
        self.lab = site.lab
        self.out = out
        self.started = started
        self.timings: dict[str, float] = {}

    @abstractmethod
    async def play(self) -> R:
        """Everything but taking it down again. Raises LabError where it cannot go on."""

    def finish(self) -> None:
        """When the search for keys is over."""

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s]  {text}", flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.timings[name] = round(time.monotonic() - begin, 2)

    async def start_key_side(self) -> None:
        """One emulated QKD link with its KMEs, and a broker beside each gateway."""
        await self.site.start_link()
        await asyncio.gather(*(self.site.start_kme(name) for name in self.site.kmes))
        options = self.site.options
        self.say(
            f"kme-moon, kme-sun: ETSI 014 over mutual TLS; QKD link between them, "
            f"{options.key_rate:g} keys/s, {options.key_store} stored per direction"
        )
        await asyncio.gather(*(self.site.start_broker(gateway) for gateway in GATEWAYS))

    async def agreed_ike(self) -> dict[str, dict[str, Any]]:
        """What both gateways say was negotiated. Raises LabError where they disagree."""
        wanted = ("proposal", "key_exchanges", "ppk_method", "key_id", "spi_i", "spi_r")
        ike: dict[str, dict[str, Any]] = {}
        for gateway in GATEWAYS:
            facts = (await self.site.tunnel(gateway))["ike"] or {}
            ike[gateway] = {name: facts.get(name) for name in (*wanted, "role")}
        if any(ike["moon"][name] != ike["sun"][name] for name in wanted):
            raise LabError(f"the gateways disagree about their IKE SA: {ike}")
        self.say(f"IKE: {ike['moon']['proposal']}, QKD key by {ike['moon']['ppk_method']}")
        return ike

    async def stop_traffic(self) -> dict[str, traffic.Direction]:
        """That of ``evidence.start_traffic``, by direction."""
        directions = await evidence.stop_traffic(self.lab)
        for name, seen in directions.items():
            self.say(f"{name}: {seen.sent} packets sent, {seen.lost} lost")
        return directions

    async def save_status(self, name: str) -> None:
        for gateway in GATEWAYS:
            text = json.dumps(await self.site.snapshot(gateway), indent=2)
            (self.out / f"status-{name}-{gateway}.json").write_text(text + "\n")

    async def mqtt_matches(self, holds: Callable[[Json], bool], within: float) -> bool:
        """The snapshot retained at moon's broker says what moon itself says: ``holds`` of it."""
        topics = ["qsgw/moon/availability", "qsgw/moon/status"]

        async def matches() -> bool:
            command = [sys.executable, "-m", "netns_lab.mqtt", *topics]
            found = json.loads((await self.lab.run("moon", command)).check().stdout)
            (self.out / "mqtt.json").write_text(json.dumps(found, indent=2))
            return found[topics[0]] == "online" and holds(json.loads(found[topics[1]]))

        await wait_until(matches, within, "the retained MQTT snapshot of moon", interval=0.5)
        self.say("MQTT: the retained snapshot at moon's broker matches")
        return True

    def search_for_keys(self, report: R, more: Sequence[bytes] = ()) -> R:
        """Look for every key in everything that remains; the report is written first.

        ``more``: keys beside QKD keys, ESP keys and PSKs.
        """
        with self.timed("search"):
            shutil.copytree(self.lab.log_dir, self.out / "log", ignore=_sockets)
            self.write_report(report)
            folders = [self.out, self.lab.log_dir, self.lab.capture_dir]
            search = evidence.search_for_keys(self.site, folders, more)
        for finding in search.findings:
            self.say(f"KEY BYTES in {finding.file} at {finding.offset} ({finding.form})")
        self.say(f"{search.keys} keys searched for in {search.files} files")
        final = replace(
            report,
            key_bytes_in_artifacts=len(search.findings),
            keys_searched_for=search.keys,
            timings={**self.timings, "total": round(time.monotonic() - self.started, 2)},
        )
        self.write_report(final)
        return final

    def write_report(self, report: R) -> None:
        text = json.dumps(report.as_json(), indent=2) + "\n"
        (self.out / "report.json").write_text(text)


class Watched(Protocol):
    """What both gateways showed while somebody looked."""

    changes: list[Change]
    samples: list[Sample]


def timeline(
    watch: Watched,
    started: float,
    under_traffic: tuple[float, float],
    directions: dict[str, traffic.Direction],
    marks: Sequence[tuple[float, str]],
    *,
    rekeys: Sequence[tuple[float, str]],
    saks: Sequence[float] = (),
) -> Timeline:
    """A run as a picture has it. All times given are monotonic seconds; its own begin with 0."""
    begin, end = under_traffic
    return Timeline(
        end=round(time.monotonic() - started, 1),
        protection={
            gateway: [(0.0, "DOWN")]
            + [(c.at - started, c.protection) for c in watch.changes if c.gateway == gateway]
            for gateway in GATEWAYS
        },
        pool={
            gateway: [
                (sample.at - started, sample.pool, sample.stored_at_kme)
                for sample in watch.samples
                if sample.gateway == gateway
            ]
            for gateway in GATEWAYS
        },
        rekeys=[(at - started, protection) for at, protection in rekeys],
        saks=[at - started for at in saks],
        traffic=(begin - started, end - started),
        bin_seconds=traffic.BIN_SECONDS,
        loss={
            name: traffic.loss_bins(direction, begin, end) for name, direction in directions.items()
        },
        marks=[(at - started, text) for at, text in marks],
    )


def totals(directions: dict[str, traffic.Direction]) -> dict[str, Any]:
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


Make = Callable[[Site, Path, float], Trial[Any]]


async def run(name: str, options: SiteOptions, make: Make, out: Path) -> None:
    """Play the demonstration. Raises LabError with a post-mortem when something did not hold."""
    started = time.monotonic()
    features = doctor.probe()
    print(f"kernel {os.uname().release}: " + ", ".join(f"{f.name} {f.answer}" for f in features))
    async with Site.prepared(name, options) as site:
        trial = make(site, out, started)
        trial.say(trial.opening)
        report = await trial.play()
        trial.finish()
        print(table(report.checks()), flush=True)
        failed = [check.what for check in report.checks() if not check.holds]
        if failed:
            raise LabError(f"did not hold: {', '.join(failed)}")


def main(name: str, options: SiteOptions, make: Make) -> int:
    """Exit code 0 only if everything held. What it measured is in ``build/NAME/report.json``."""
    out = paths.build() / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        asyncio.run(run(name, options, make, out))
    except LabError as error:
        print(f"{name}: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    print(f"everything held; {out / 'report.json'}")
    return 0
