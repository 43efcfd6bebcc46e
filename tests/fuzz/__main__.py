"""Fuzzing campaigns and replays.

    python -m tests.fuzz [--target ike|mka|all] [--inputs N] [--seed TEXT] [--jobs N]
    python -m tests.fuzz --replay build/fuzz/failure-1.json

Exit code 0 when everything held, 1 when not. What was reached is in ``build/fuzz/report.json``,
for the last campaign at each target; an input after which something did not hold is kept beside
it, with all that came before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.fuzz.campaign import Campaign, Failure, replay
from tests.fuzz.targets import TARGETS, Target

FOLDER = Path("build/fuzz")
SAY_EVERY = 5.0  # seconds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--target", choices=(*TARGETS, "all"), default="all")
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N", help="at each target")
    parser.add_argument("--seed", default=None, metavar="TEXT", help="default: the time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    return parser.parse_args()


def work(target: Target, seed: str, inputs: int, pipe: Connection) -> None:
    """One process's share; tells what it has done so far after every world."""

    def tell(campaign: Campaign) -> None:
        nonlocal told
        if time.monotonic() - told > SAY_EVERY / 5:
            told = time.monotonic()
            pipe.send(("so far", campaign.done))

    told = 0.0
    campaign = Campaign(target=target, seed=seed, inputs=inputs).run(tell)
    pipe.send(("done", campaign))
    pipe.close()


def campaign(target: Target, seed: str, inputs: int, jobs: int) -> dict[str, Any]:
    """Share the inputs out, wait, and put together what came of it."""
    begun = said = time.monotonic()
    counts: dict[Connection, int] = {}  # inputs so far
    processes = []
    for job in range(jobs):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        share = inputs // jobs + (job < inputs % jobs)
        part = (target, f"{seed}/{job}", share, theirs)
        process = multiprocessing.Process(target=work, args=part)
        process.start()
        theirs.close()
        processes.append(process)
        counts[ours] = 0
    report: dict[str, Any] = {"seed": seed, "worlds": 0, "rss_grown_octets": 0}
    report |= {"most": {}, "failures": []}
    reached: dict[str, Counter[str]] = {}
    open_pipes = list(counts)
    while open_pipes:
        for pipe in wait(open_pipes, timeout=1):
            try:
                message = pipe.recv()
            except EOFError:
                open_pipes.remove(pipe)
                continue
            match message:
                case ("so far", done):
                    counts[pipe] = done
                case ("done", finished):
                    counts[pipe] = finished.done
                    finish(report, reached, finished)
        if time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            say(sum(counts.values()), inputs, said - begun)
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        report["failures"].append("a process ended before its work was done")
    seconds = time.monotonic() - begun
    done = sum(counts.values())
    say(done, inputs, seconds)
    return report | {
        "inputs": done,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "inputs_per_second": round(done / seconds),
        "reached": {kind: dict(counter.most_common()) for kind, counter in sorted(reached.items())},
    }


def finish(report: dict[str, Any], reached: dict[str, Counter[str]], part: Campaign) -> None:
    """What one process has done, added to the report."""
    report["worlds"] += part.worlds
    report["rss_grown_octets"] = max(report["rss_grown_octets"], part.rss_grown)
    for what, value in part.most.items():
        report["most"][what] = round(max(value, report["most"].get(what, 0)), 3)
    for kind, counter in part.reached.items():
        reached.setdefault(kind, Counter()).update(counter)
    for failure in part.failures:
        report["failures"].append(keep(failure, len(report["failures"]) + 1))


def say(done: int, inputs: int, seconds: float) -> None:
    print(f"{done:>9} of {inputs} inputs, {done / max(seconds, 0.001):,.0f} a second", flush=True)


def keep(failure: Failure, number: int) -> str:
    path = FOLDER / f"failure-{failure.target}-{number}.json"
    failure.save(path)
    print(f"\n{failure.error}\nkept: {path}", flush=True)
    return str(path)


def main() -> int:
    options = arguments()
    if options.replay is not None:
        error = replay(options.replay)
        print(error or "it holds now")
        return 1 if error else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    seed = options.seed if options.seed is not None else str(int(time.time()))
    path = FOLDER / "report.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    reports: dict[str, Any] = {}
    for name in TARGETS if options.target == "all" else (options.target,):
        print(f"{name}: seed {seed}, {options.jobs} processes")
        reports[name] = campaign(TARGETS[name], seed, options.inputs, options.jobs)
        path.write_text(json.dumps(before | reports, indent=2) + "\n")
        show(reports[name])
    return 1 if any(report["failures"] for report in reports.values()) else 0


def show(report: dict[str, Any]) -> None:
    for kind, found in report["reached"].items():
        print(f"{kind}: " + ", ".join(f"{what} {count}" for what, count in found.items()))
    print("most that one input caused:", report["most"])
    print(f"a process grew by {report['rss_grown_octets'] / (1 << 20):.0f} MiB after its warm-up")
    print(f"{len(report['failures'])} failures; {FOLDER / 'report.json'}")


if __name__ == "__main__":
    sys.exit(main())
