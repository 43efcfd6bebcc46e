"""The attack demonstration as a picture: two links, what they say, what their tunnels do.

python -m netns_lab.attack_timeline build/demo-attack
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netns_lab.timeline import COLOURS, bands

_QBER = "#2f5d8a"
_KEY_RATE = "#8fb996"
_ALARM = "#b3261e"
_ATTACK = "#d9534f"
_SHADE = 0.16
_OTHER_END = "sun"  # its bands are drawn thinner, below those of moon


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a link, as its device noted it."""

    at: float
    qber: float | None  # None: no key was worked out of it
    secret: float  # bits per second
    suspect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """``until`` None: it still stood at the end."""

    at: float
    until: float | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLine:
    title: str
    tunnel: str  # that takes its keys
    attacks: list[tuple[float, float, str]]  # from, to, what
    blocks: list[Block]
    alarms: list[Alarm]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackTimeline:
    """Times in seconds since the start of the demonstration."""

    begin: float  # where the picture begins
    end: float
    links: list[LinkLine]
    protection: dict[str, dict[str, list[tuple[float, str]]]]  # tunnel -> gateway -> from, what
    traffic: tuple[float, float]
    bin_seconds: float
    loss: dict[str, list[int]]  # flow and direction -> lost packets per bin, from traffic[0] on

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def load(path: Path) -> AttackTimeline:
    raw = json.loads(path.read_text())
    links = [
        LinkLine(
            title=link["title"],
            tunnel=link["tunnel"],
            attacks=[(start, stop, what) for start, stop, what in link["attacks"]],
            blocks=[Block(**block) for block in link["blocks"]],
            alarms=[Alarm(**alarm) for alarm in link["alarms"]],
        )
        for link in raw["links"]
    ]
    return AttackTimeline(**{**raw, "links": links})


def draw(timeline: AttackTimeline, path: Path) -> None:
    """Write the picture as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: Any = {"font.size": 10, "axes.spines.top": False}
    rows = 2 * len(timeline.links) + 1
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            rows,
            1,
            sharex=True,
            figsize=(13, 9),
            height_ratios=[2.0, 0.75] * len(timeline.links) + [0.7],
            layout="constrained",
        )
        for index, link in enumerate(timeline.links):
            above, below = axes[2 * index], axes[2 * index + 1]
            _draw_link(above, timeline, link)
            _draw_tunnel(below, timeline, link.tunnel)
            for start, stop, _ in link.attacks:
                for area in (above, below):
                    area.axvspan(start, stop, color=_ATTACK, alpha=_SHADE, zorder=0, linewidth=0)
        _draw_loss(axes[-1], timeline)
        axes[-1].set_xlim(timeline.begin, timeline.end)
        axes[-1].set_xlabel("seconds")
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _draw_link(axes: Any, timeline: AttackTimeline, link: LinkLine) -> None:
    right = axes.twinx()
    right.fill_between(
        [block.at for block in link.blocks],
        [block.secret / 1000 for block in link.blocks],
        step="post",
        color=_KEY_RATE,
        alpha=0.55,
        linewidth=0,
    )
    right.set_ylim(bottom=0)
    right.set_ylabel("secret key, kbit/s", color="#4d7f56")
    axes.set_zorder(right.get_zorder() + 1)
    axes.patch.set_visible(False)
    known = [(block.at, 100 * block.qber) for block in link.blocks if block.qber is not None]
    if known:
        axes.plot(*zip(*known, strict=True), ".", markersize=3.5, color=_QBER)
    top = max([1.3 * qber for _, qber in known] + [4.0])
    axes.set_ylim(0, min(top, 60.0))
    axes.set_ylabel("error rate, %", color=_QBER)
    top = axes.get_ylim()[1]
    for alarm in link.alarms:
        stop = timeline.end if alarm.until is None else alarm.until
        axes.plot(
            [alarm.at, stop], [0.9 * top] * 2, color=_ALARM, linewidth=5, solid_capstyle="butt"
        )
        axes.text(alarm.at, 0.8 * top, alarm.name, color=_ALARM, fontsize=9, va="top")
    axes.set_title(link.title, loc="left", fontsize=11, pad=22)
    for start, stop, what in link.attacks:
        axes.text((start + stop) / 2, 1.02 * top, what, ha="center", va="bottom", fontsize=9)


def _draw_tunnel(axes: Any, timeline: AttackTimeline, tunnel: str) -> None:
    ends = timeline.protection[tunnel]
    for gateway, changes in ends.items():
        base, height = (-0.36, 0.14) if gateway == _OTHER_END else (-0.16, 0.52)
        for start, stop, what in bands(changes, timeline.end):
            axes.broken_barh([(start, stop - start)], (base, height), color=COLOURS[what])
            shown = min(stop, timeline.end) - max(start, timeline.begin)
            if gateway != _OTHER_END and shown > (timeline.end - timeline.begin) / 14:
                middle = (max(start, timeline.begin) + stop) / 2
                axes.text(
                    middle, 0.1, what, ha="center", va="center", color="white", weight="bold",
                    fontsize=9,
                )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(-0.4, 0.4)
    axes.set_title(f"tunnel {tunnel}: moon, and below it sun", loc="left", fontsize=9)
    axes.spines["left"].set_visible(False)


def _draw_loss(axes: Any, timeline: AttackTimeline) -> None:
    start, _ = timeline.traffic
    worst = 1
    for counts in timeline.loss.values():
        times = [start + index * timeline.bin_seconds for index in range(len(counts))]
        axes.step(times, counts, where="post", color="#333333")
        worst = max(worst, *counts, 1)
    lost = sum(sum(counts) for counts in timeline.loss.values())
    axes.set_ylim(0, 1.2 * worst)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"packets lost in both tunnels: {lost}", loc="left", fontsize=9)


def draw_run(folder: Path) -> Path | None:
    """Draw ``timeline.json`` of a run's folder beside it; None where that cannot be done."""
    try:
        draw(load(folder / "timeline.json"), folder / "timeline.png")
    except (FileNotFoundError, ImportError):
        return None
    return folder / "timeline.png"


if __name__ == "__main__":
    print(draw_run(Path(sys.argv[1])))
