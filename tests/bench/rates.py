"""Hybrid IKE SAs set up per second, against strongSwan: both makes in both roles.

The rounds are played in one boot of the lab's kernel by ``tests.bench.rate_inside``. Rates hold
within that boot; what they mean elsewhere is their ratio to strongSwan with itself. Where all
share one CPU the rate is that of a pair, and the CPU seconds tell whose work it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
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
    lab = [BIN / "qsgw-lab", "run", "--timeout", str(TIMEOUT), "--"]
    done = subprocess.run(
        [*lab, sys.executable, "-m", "tests.bench.rate_inside"],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    if done.returncode != 0:
        raise LabError(f"the rounds ended with code {done.returncode}")
    rounds: list[Round] = json.loads(done.stdout[done.stdout.index("{") :])["rounds"]
    return rounds


def _rates(rounds: Sequence[Round], version: str, *, ppk: bool) -> list[Figure]:
    references = [one for one in rounds if _makers(one) == (THEIRS, THEIRS)]
    if not references:
        return []
    reference = _mean(references)
    rates = sorted(_rate(one) for one in references)
    suffix = ", PPK" if ppk else ""
    figures = [
        Figure(
            name=f"IKE SAs, {THEIRS} to {THEIRS}{suffix}",
            value=_rate(reference),
            unit="/s",
            note=f"{THEIRS} {version}; {_cpu(reference)}; first and last round: "
            f"{rates[0]:.1f} to {rates[-1]:.1f}",
        )
    ]
    for one in rounds:
        if one in references:
            continue
        figures.append(
            Figure(
                name=f"IKE SAs, {one['initiator']} to {one['responder']}{suffix}",
                value=_rate(one),
                unit="/s",
                note=_cpu(one),
            )
        )
        figures.append(
            Figure(
                name=f"  of {THEIRS} to {THEIRS}",
                value=_rate(one) / _rate(reference),
                unit="x",
                aim=1.0,
                at_least=True,
            )
        )
    for role in ("initiator", "responder"):
        mixed = [one for one in rounds if one[role] == OURS and THEIRS in _makers(one)]
        figures += [
            Figure(
                name=f"CPU of qsgw as {role}{suffix}",
                value=one[f"{role}_cpu"] / reference[f"{role}_cpu"],
                unit="x",
                aim=1.0,
                note=f"of {THEIRS}'s as {role}, for the same IKE SAs with {THEIRS}",
            )
            for one in mixed
        ]
    return figures


def _memory(rounds: Sequence[Round]) -> list[Figure]:
    figures = []
    for maker in (OURS, THEIRS):
        for role in ("initiator", "responder"):
            sizes = [one[f"{role}_resident"] for one in rounds if one[role] == maker]
            if not sizes:
                continue
            figures.append(
                Figure(
                    name=f"{maker} with {rounds[0]['count']} IKE SAs as {role}, resident",
                    value=max(sizes),
                    unit="MiB",
                    note="the largest of its rounds",
                )
            )
    return figures


def _mean(rounds: Sequence[Round]) -> Round:
    """A round with the means of times and CPU seconds."""
    measured = ("seconds", "initiator_cpu", "responder_cpu")
    means = {name: sum(one[name] for one in rounds) / len(rounds) for name in measured}
    return {**rounds[0], **means}


def _makers(one: Round) -> tuple[str, str]:
    return one["initiator"], one["responder"]


def _rate(one: Round) -> float:
    return float(one["count"] / one["seconds"])


def _cpu(one: Round) -> str:
    spent = [1e3 * one[f"{role}_cpu"] / one["count"] for role in ("initiator", "responder")]
    return f"{one['count']} IKE SAs; CPU {spent[0]:.1f} + {spent[1]:.1f} ms each"


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
