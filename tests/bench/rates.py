"""Hybrid IKE SAs set up per second, against strongSwan: both makes in both roles.

The rounds are played in one boot of the lab's kernel by ``tests.bench.rate_inside``. Only ratios
mean anything elsewhere: of a round and of strongSwan with itself in the same cycle, the median
over the cycles. Where all share one CPU the rate is that of a pair, and the CPU seconds tell
whose work it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from netns_lab.errors import LabError, ToolMissingError
from netns_lab.peers import fetch
from tests.bench.figures import BIN, REPOSITORY, Figure

TIMEOUT = 600.0  # seconds, boot included
THEIRS, OURS = "strongSwan", "qsgw"

Round = Mapping[str, Any]


def run() -> list[Figure]:
    """Empty, with a line that says why, where strongSwan cannot be had."""
    try:
        version = fetch.ensure(fetch.STRONGSWAN, _say).version
        rounds = _play()
    except (ToolMissingError, LabError) as error:
        _say(f"no rates against strongSwan: {str(error).splitlines()[0]}")
        return []
    figures = []
    for ppk in (False, True):
        figures += _rates([one for one in rounds if one["ppk"] is ppk], version, ppk=ppk)
    return figures + _memory(rounds)


def _play() -> list[Round]:
    """Every round that came to its end."""
    lab = [BIN / "qsgw-lab", "run", "--timeout", str(TIMEOUT), "--"]
    done = subprocess.run(
        [*lab, sys.executable, "-m", "tests.bench.rate_inside"],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    rounds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rounds:
        raise LabError(f"the rounds ended with code {done.returncode}")
    return rounds


def _rates(rounds: Sequence[Round], version: str, *, ppk: bool) -> list[Figure]:
    references = {one["cycle"]: one for one in rounds if _makers(one) == (THEIRS, THEIRS)}
    if not references:
        return []
    suffix = ", PPK" if ppk else ""
    figures = [
        Figure(
            name=f"IKE SAs, {THEIRS} to {THEIRS}{suffix}",
            value=median(_rate(one) for one in references.values()),
            unit="/s",
            note=f"{THEIRS} {version}; {_cpu(list(references.values()))}",
        )
    ]
    for initiator, responder in ((THEIRS, OURS), (OURS, THEIRS), (OURS, OURS)):
        played = [
            one
            for one in rounds
            if _makers(one) == (initiator, responder) and one["cycle"] in references
        ]
        if not played:
            continue
        measure = [references[one["cycle"]] for one in played]
        name = f"IKE SAs, {initiator} to {responder}{suffix}"
        figures.append(
            Figure(name=name, value=median(map(_rate, played)), unit="/s", note=_cpu(played))
        )
        figures.append(
            _ratio(
                f"  of {THEIRS} to {THEIRS}",
                [_rate(one) / _rate(other) for one, other in zip(played, measure, strict=True)],
                at_least=True,
            )
        )
        if initiator != responder:
            role = "initiator" if initiator == OURS else "responder"
            spent = f"{role}_cpu"
            ratios = [one[spent] / other[spent] for one, other in zip(played, measure, strict=True)]
            figures.append(_ratio(f"  CPU of {OURS} as {role}, of {THEIRS}'s", ratios))
    return figures


def _ratio(name: str, ratios: Sequence[float], *, at_least: bool = False) -> Figure:
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} cycles"
    return Figure(
        name=name, value=median(ratios), unit="x", aim=1.0, at_least=at_least, note=spread
    )


def _memory(rounds: Sequence[Round]) -> list[Figure]:
    """Of both makes in either role, without QKD keys."""
    figures = []
    for maker in (OURS, THEIRS):
        sides = [
            (one[f"{role}_idle"], one[f"{role}_resident"])
            for one in rounds
            for role in ("initiator", "responder")
            if one[role] == maker and not one["ppk"]
        ]
        if not sides:
            continue
        count = rounds[0]["count"]
        figures += [
            Figure(
                name=f"{maker} with {count} IKE SAs, resident",
                value=max(after for _, after in sides),
                unit="MiB",
                note=f"the largest; with {count} tunnels configured and none up "
                f"{median(before for before, _ in sides):.1f} MiB",
            ),
            Figure(
                name="  each IKE SA with its Child SA",
                value=1024 * median(after - before for before, after in sides) / count,
                unit="KiB",
                note="median",
            ),
        ]
    return figures


def _makers(one: Round) -> tuple[str, str]:
    return one["initiator"], one["responder"]


def _rate(one: Round) -> float:
    return float(one["count"] / one["seconds"])


def _cpu(rounds: Sequence[Round]) -> str:
    """Of the medians of these rounds."""
    count = rounds[0]["count"]
    spent = [
        1e3 * median(one[f"{role}_cpu"] for one in rounds) / count
        for role in ("initiator", "responder")
    ]
    rates = [_rate(one) for one in rounds]
    return (
        f"{count} IKE SAs; CPU {spent[0]:.1f} + {spent[1]:.1f} ms each; "
        f"{min(rates):.1f} to {max(rates):.1f}"
    )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
