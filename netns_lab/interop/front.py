"""``qsgw-lab interop``: fetches the peers and plays the scenarios, a lab on each CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from netns_lab import doctor, paths
from netns_lab.errors import ToolMissingError
from netns_lab.interop import report, table
from netns_lab.interop.catalogue import Part, choose
from netns_lab.interop.play import SCENARIO_SECONDS
from netns_lab.interop.report import Row
from netns_lab.peers import fetch
from netns_lab.tools import Say


def listing() -> str:
    """The scenarios there are, by name."""
    lines = {
        part.scenario.name: f"{part.scenario.name:<26}{', '.join(part.scenario.peers):<24}"
        f"{part.scenario.what}"
        for part in choose([])
    }
    return "\n".join(lines.values())


def run(words: Sequence[str], machines: int, say: Say) -> int:
    """Play the scenarios ``words`` choose; 0 unless one failed. Writes report.json and table.md."""
    chosen = choose(words)
    if not chosen:
        say(f"no scenario has {' or '.join(words)} in its name; see qsgw-lab interop --list")
        return 2
    out = paths.build() / "interop"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    absent = _fetch(sorted({part.peer for part in chosen}), say)
    rows = [part.row("skip", detail=absent[part.peer]) for part in chosen if part.peer in absent]
    for row in rows:
        print(report.line(row), flush=True)
    rows += _play([part for part in chosen if part.peer not in absent], out, machines, say)
    order = [part.label for part in chosen]
    rows.sort(key=lambda row: order.index(f"{row.scenario}/{row.peer}/{row.role}"))
    file = out / "report.json"
    file.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")
    what = {part.scenario.name: part.scenario.what for part in chosen}
    (out / "table.md").write_text(table.markdown(rows, what))
    say(f"{report.totals(rows)}; {file}, table.md beside it")
    return 1 if any(row.result == "fail" for row in rows) else 0


def _fetch(names: Sequence[str], say: Say) -> dict[str, str]:
    """Fetch the peers; why not, for those that cannot be had."""
    absent = {}
    for name in names:
        try:
            fetch.ensure(fetch.BUNDLES[name], say)
        except ToolMissingError as error:
            absent[name] = str(error).splitlines()[0]
    return absent


def _play(chosen: Sequence[Part], out: Path, machines: int, say: Say) -> list[Row]:
    """One share for each lab; the rows of all. What came to no end has failed."""
    cpus = sorted(os.sched_getaffinity(0))[: 1 if doctor.inside() else machines]
    shares = shared_out(chosen, len(cpus))
    say(f"{len(chosen)} scenarios in {len(shares)} labs")
    files = [out / f"part-{number}.json" for number in range(len(shares))]
    running = [
        subprocess.Popen(
            ["taskset", "--cpu-list", str(cpu), *command(share, file)], stdin=subprocess.DEVNULL
        )
        for cpu, share, file in zip(cpus, shares, files, strict=False)
    ]
    try:
        for process in running:
            process.wait()
    finally:
        for process in running:
            process.terminate()
            process.wait()
    rows = [row for file in files for row in report.load(file)]
    ended = {(row.scenario, row.peer, row.role) for row in rows}
    rows += [
        part.row("fail", detail="did not come to its end")
        for part in chosen
        if (part.scenario.name, part.peer, part.role) not in ended
    ]
    for file in files:
        file.unlink(missing_ok=True)
    return rows


def shared_out(chosen: Sequence[Part], labs: int) -> list[list[Part]]:
    """The scenarios in as many shares as there are labs, none of them empty."""
    shares = [list(chosen[number::labs]) for number in range(labs)]
    return [share for share in shares if share]


def command(share: Sequence[Part], file: Path) -> list[str]:
    """The command that plays ``share`` in a lab of its own."""
    seconds = 60.0 + len(share) * (SCENARIO_SECONDS + 30.0)
    return [
        *(sys.executable, "-m", "netns_lab.cli", "run", "--timeout", str(seconds), "--"),
        *(sys.executable, "-m", "netns_lab.interop.play", "--out", str(file)),
        *(part.label for part in share),
    ]
