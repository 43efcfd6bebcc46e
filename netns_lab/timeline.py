"""The demonstration as a picture: protection, QKD keys and packet loss over time.

python -m netns_lab.timeline build/demo/timeline.json build/demo/timeline.png
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

GATEWAYS = ("moon", "sun")

COLOURS = {
    "HYBRID": "#1b7f5c",
    "PQC_ONLY": "#e0a100",
    "CLASSICAL": "#c65d00",
    "BLOCKED": "#b3261e",
    "DOWN": "#9a9a9a",
}
_LINES = {"moon": "#2f5d8a", "sun": "#a3582b"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Times in seconds since the start of the demonstration."""

    end: float
    protection: dict[str, list[tuple[float, str]]]  # gateway -> from when, what
    pool: dict[str, list[tuple[float, int, int | None]]]  # gateway -> when, pool, at the KME
    rekeys: list[tuple[float, str]]  # when, protection
    traffic: tuple[float, float]  # from, to
    bin_seconds: float
    loss: dict[str, list[int]]  # direction -> lost packets per bin, from traffic[0] on
    marks: list[tuple[float, str]]  # what was done to the quantum link
    saks: list[float] = field(default_factory=list)  # of MACsec; rekeys are those of its CAK then

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def load(path: Path) -> Timeline:
    return Timeline(**json.loads(path.read_text()))


def bands(changes: list[tuple[float, str]], end: float) -> list[tuple[float, float, str]]:
    """From, to, what: the spans between changes, equal neighbours put together."""
    found: list[tuple[float, float, str]] = []
    for index, (start, what) in enumerate(changes):
        stop = changes[index + 1][0] if index + 1 < len(changes) else end
        if found and found[-1][2] == what:
            found[-1] = (found[-1][0], stop, what)
        else:
            found.append((start, stop, what))
    return found


def draw(timeline: Timeline, path: Path) -> None:
    """Write the picture as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, (top, middle, bottom) = plt.subplots(
            3, 1, sharex=True, figsize=(11, 6.2), height_ratios=(1.3, 2, 1.2), layout="constrained"
        )
        _draw_protection(top, timeline)
        _draw_keys(middle, timeline)
        _draw_loss(bottom, timeline)
        for axes in (top, middle, bottom):
            for at, _ in timeline.marks:
                axes.axvline(at, color="black", linewidth=1, linestyle=(0, (4, 3)), zorder=2.5)
        bottom.set_xlim(0, timeline.end)
        bottom.set_xlabel("seconds")
        figure.savefig(path, dpi=140)
        plt.close(figure)


def _draw_protection(axes: Any, timeline: Timeline) -> None:
    for row, gateway in enumerate(reversed(GATEWAYS)):
        for start, stop, what in bands(timeline.protection.get(gateway, []), timeline.end):
            axes.broken_barh([(start, stop - start)], (row - 0.36, 0.72), color=COLOURS[what])
            if stop - start > timeline.end / 12:
                axes.text(
                    (start + stop) / 2,
                    row,
                    what,
                    ha="center",
                    va="center",
                    color="white",
                    weight="bold",
                    zorder=4,
                    bbox={"facecolor": COLOURS[what], "edgecolor": "none", "pad": 2},
                )
    for at, what in timeline.rekeys:
        axes.plot(at, 1.62, marker="v", markersize=5, color=COLOURS[what], clip_on=False)
    raised = False  # a label beside one that it would cover
    for index, (at, text) in enumerate(timeline.marks):
        near = index > 0 and at - timeline.marks[index - 1][0] < timeline.end / 12
        raised = near and not raised
        axes.text(at, 2.32 if raised else 2.02, text, ha="center", va="bottom", fontsize=9)
    axes.plot(timeline.saks, [1.42] * len(timeline.saks), "|", markersize=6, color="black")
    rekeys = " CAKs, SAKs" if timeline.saks else " rekeys"
    axes.text(timeline.end, 1.62, rekeys, va="center", fontsize=9, clip_on=False)
    axes.set_yticks(range(len(GATEWAYS)), tuple(reversed(GATEWAYS)))
    axes.set_ylim(-0.5, 1.95)
    axes.set_title("Protection shown by both gateways", loc="left", fontsize=11, pad=32)


def _draw_keys(axes: Any, timeline: Timeline) -> None:
    for gateway in GATEWAYS:
        samples = timeline.pool.get(gateway, [])
        if not samples:
            continue
        times = [at for at, _, _ in samples]
        pool = [ready for _, ready, _ in samples]
        axes.step(times, pool, where="post", color=_LINES[gateway], label=f"pool of {gateway}")
        stored = [(at, count) for at, _, count in samples if count is not None]
        if stored:
            axes.step(
                *zip(*stored, strict=True),
                where="post",
                color=_LINES[gateway],
                linestyle=":",
                label=f"at the KME of {gateway}",
            )
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title("QKD keys ready for use", loc="left", fontsize=11)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=4, fontsize=9, frameon=False)


def _draw_loss(axes: Any, timeline: Timeline) -> None:
    start, stop = timeline.traffic
    axes.axvspan(start, stop, color="#eef3f8", zorder=0)
    worst = 0
    for (direction, counts), gateway in zip(timeline.loss.items(), GATEWAYS, strict=False):
        times = [start + index * timeline.bin_seconds for index in range(len(counts))]
        axes.step(times, counts, where="post", color=_LINES[gateway], label=direction)
        worst = max(worst, *counts, 0)
    lost = sum(sum(counts) for counts in timeline.loss.values())
    axes.text(
        (start + stop) / 2, 0.55 * max(worst, 1), f"{lost} packets lost", ha="center", fontsize=10
    )
    axes.set_ylim(0, max(worst * 1.2, 1))
    axes.yaxis.get_major_locator().set_params(integer=True)
    title = f"Packets lost per {timeline.bin_seconds * 1000:.0f} ms (shaded: traffic on)"
    axes.set_title(title, loc="left", fontsize=11)
    if worst:
        axes.legend(loc="upper right", fontsize=9)


def draw_run(folder: Path) -> Path | None:
    """Draw ``timeline.json`` of a run's folder beside it; None where that cannot be done."""
    try:
        draw(load(folder / "timeline.json"), folder / "timeline.png")
    except (FileNotFoundError, ImportError):
        return None
    return folder / "timeline.png"
