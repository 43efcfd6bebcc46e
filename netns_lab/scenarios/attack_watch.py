"""What the devices of a link noted while it was attacked, and the picture made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns_lab import traffic
from netns_lab.attack_timeline import Alarm, AttackTimeline, Block, LinkLine
from netns_lab.qkd_link import QkdLink
from netns_lab.site_files import GATEWAYS, tunnel_name
from netns_lab.watch import Watch

Json = dict[str, Any]

TELLING_BITS = 1000
"""Of fewer sifted bits the error rate says nothing: what clicks in the dark is half wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """An alarm, when it was raised (monotonic seconds), by which block, and its text."""

    at: float
    block: int  # of light
    text: str


class LinkLog:
    """One link's telemetry. The devices note the time of day; we count monotonic seconds."""

    def __init__(self, link: QkdLink, started: float) -> None:
        self._link = link
        self._offset = time.time() - time.monotonic()
        self._started = started
        self.attacks: list[tuple[float, float, str]] = []

    @property
    def model(self) -> str:
        return self._link.preset

    def attacked(self, start: float, stop: float, what: str) -> None:
        self.attacks.append((start - self._started, stop - self._started, what))

    def last(self) -> Json:
        """The last block that gave a key."""
        return [line for line in self._link.telemetry() if line.get("secret_bits")][-1]

    def keys(self) -> int:
        """256-bit keys made of the light, over the whole run."""
        return sum(line["keys"] for line in self._link.telemetry())

    def raised(self, alarm: str, first: int) -> Raised | None:
        """When ``alarm`` was first raised, from block ``first`` of light on."""
        for line in self._link.telemetry():
            for text in line["raised"]:
                if line["light"] >= first and text.startswith(alarm):
                    return Raised(at=line["time"] - self._offset, block=line["light"], text=text)
        return None

    def identifiers(self, first: int) -> tuple[str, ...]:
        """Every alarm raised from block ``first`` of light on, each once, in order."""
        return tuple(
            dict.fromkeys(
                text.split()[0]
                for line in self._link.telemetry()
                if line["light"] >= first
                for text in line["raised"]
            )
        )

    def line(self, title: str, tunnel: str) -> LinkLine:
        """For the picture; times in seconds since the start."""
        standing: dict[str, float] = {}
        alarms = []
        blocks = []
        for noted in self._link.telemetry():
            at = noted["time"] - self._offset - self._started
            secret = max(noted.get("secret_bits") or 0, 0) if noted["keys"] else 0
            blocks.append(
                Block(
                    at=at,
                    qber=noted["qber_z"] if (noted.get("sifted") or 0) >= TELLING_BITS else None,
                    secret=secret / noted["seconds"],
                    suspect=noted["state"] == "suspect",
                )
            )
            for text in noted["raised"]:
                standing[text.split()[0]] = at
            for text in noted["cleared"]:
                name = text.split()[0]
                alarms.append(Alarm(at=standing.pop(name, at), until=at, name=name))
        alarms += [Alarm(at=at, until=None, name=name) for name, at in standing.items()]
        return LinkLine(
            title=f"{title} ({self.model})",
            tunnel=tunnel,
            attacks=self.attacks,
            blocks=blocks,
            alarms=sorted(alarms, key=lambda alarm: alarm.at),
        )


def draw_file(
    path: Path,
    *,
    logs: Mapping[str, LinkLog],
    watches: Mapping[str, Watch],
    titles: Mapping[str, str],
    started: float,
    traffic_from: float,
    directions: Mapping[str, traffic.Direction],
) -> None:
    """Write what the picture is drawn from. Links in the order of ``logs``, the twin second."""
    end = time.monotonic()
    tunnels = {name: tunnel_name("moon", twin=index > 0) for index, name in enumerate(logs)}
    AttackTimeline(
        begin=max(traffic_from - started - 5.0, 0.0),
        end=round(end - started, 1),
        links=[log.line(titles[name], tunnels[name]) for name, log in logs.items()],
        protection={
            tunnels[name]: {
                gateway: [(0.0, "DOWN")]
                + [
                    (change.at - started, change.protection)
                    for change in watch.changes
                    if change.gateway == gateway
                ]
                for gateway in GATEWAYS
            }
            for name, watch in watches.items()
        },
        traffic=(traffic_from - started, end - started),
        bin_seconds=traffic.BIN_SECONDS,
        loss={
            name: traffic.loss_bins(direction, traffic_from, end)
            for name, direction in directions.items()
        },
    ).save(path)
