"""The attack matrix: every attack raises its alarm and no other, and quiet links stay quiet.

    python -m tests.validate.attacks [--runs N] [--blocks N] [--docs FILE] [WORD ...]

Writes ``build/validate/attacks.json``; with ``--docs`` also the table in that page. Words keep
the cases whose title, strength or link has one of them. Exit code 1 where something failed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from qkd_adapters.detection.alarms import CATALOGUE
from tests.validate.attack_cases import Case, cases
from tests.validate.attack_links import LINKS, SECONDS
from tests.validate.attack_runs import Outcome, Quiet, false_alarms, run_case, run_quiet

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "build" / "validate" / "attacks.json"
PROFILES = ("stationary", "diurnal", "aerial")
RUNS = 12
BLOCKS = 102_000  # of each benign profile, over all links
MOST_FALSE = 1  # alarms in 100,000 good blocks
BEGIN, END = "<!-- attack matrix {} -->", "<!-- end of attack matrix -->"
FAILED = "**failed**"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.validate.attacks")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each case")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="of each benign profile")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--docs", type=Path, help="page whose table is written anew")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    started = time.monotonic()
    wanted = [case for case in cases() if _named(case, options.words)]
    each = options.blocks // len(LINKS)
    with ProcessPoolExecutor(options.workers) as pool:
        waiting = [
            pool.submit(run_quiet, profile, link, each)
            for profile in PROFILES
            for link in LINKS
            if each
        ]
        running = [pool.submit(run_case, case, options.runs) for case in wanted]
        quiet = [future.result() for future in waiting]
        outcomes = [future.result() for future in running]
    failures = list(_failures(outcomes, quiet))
    _write(outcomes, quiet, failures, time.monotonic() - started)
    text = table(outcomes, quiet)
    print(text)
    if options.docs is not None:
        put(options.docs, text)
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{len(outcomes)} cases, {len(failures)} failures, report in {REPORT}")
    return 1 if failures else 0


def _named(case: Case, words: Sequence[str]) -> bool:
    text = f"{case.title} {case.strength} {case.link}"
    return not words or any(word in text for word in words)


def _failures(outcomes: Iterable[Outcome], quiet: Sequence[Quiet]) -> Iterable[str]:
    for outcome in outcomes:
        if not outcome.ok:
            case = outcome.case
            yield (
                f"{case.title} {case.strength} on {case.link}: seen {len(outcome.delays)} of "
                f"{outcome.runs}, expected {case.expected}, {outcome.uncovered} not covered, "
                f"{outcome.uncleared} not cleared, others: {sorted(set(outcome.others))}"
            )
    for profile in dict.fromkeys(run.profile for run in quiet):
        alarms, blocks = false_alarms(quiet, profile)
        if alarms > MOST_FALSE * max(1.0, blocks / 100_000):
            raised = [alarm for run in quiet if run.profile == profile for alarm in run.alarms]
            yield f"{profile}: {alarms} false alarms in {blocks} blocks: {raised[:5]}"


def _write(
    outcomes: Sequence[Outcome], quiet: Sequence[Quiet], failures: Sequence[str], seconds: float
) -> None:
    report: dict[str, Any] = {
        "block_seconds": SECONDS,
        "links": dict(LINKS),
        "failures": list(failures),
        "duration": round(seconds, 1),
        "attacks": [
            {
                "attack": outcome.case.title,
                "strength": outcome.case.strength,
                "link": outcome.case.link,
                "expected": outcome.case.expected,
                "runs": outcome.runs,
                "seen": len(outcome.delays),
                "median": _finite(outcome.delay(0.5)),
                "within_95": _finite(outcome.delay(0.95)),
                "other_alarms": sorted(set(outcome.others)),
                "ok": outcome.ok,
            }
            for outcome in outcomes
        ],
        "benign": [
            {
                "profile": run.profile,
                "link": run.link,
                "blocks": run.blocks,
                "alarms": list(run.alarms),
            }
            for run in quiet
        ],
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def table(outcomes: Sequence[Outcome], quiet: Sequence[Quiet]) -> str:
    """Delays per attack, strength and link, and false alarms per profile, as Markdown."""
    lines = [
        f"| Attack | Strength | Alarm | {' | '.join(LINKS)} |",
        f"|---|---|---|{'---|' * len(LINKS)}",
    ]
    rows: dict[tuple[str, str], dict[str, Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.case.title, outcome.case.strength), {})[outcome.case.link] = (
            outcome
        )
    for (title, strength), by_link in rows.items():
        kind = next(o.case.expected for o in by_link.values() if o.case.expected)
        cells = " | ".join(_cell(by_link.get(link)) for link in LINKS)
        lines.append(f"| {title} | {strength} | {kind} {CATALOGUE[kind].name} | {cells} |")
    lines += ["", "| Benign profile | Blocks | False alarms |", "|---|---|---|"]
    for profile in dict.fromkeys(run.profile for run in quiet):
        alarms, blocks = false_alarms(quiet, profile)
        lines.append(f"| {profile} | {blocks:,} | {alarms} |")
    return "\n".join(lines)


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "."
    if not outcome.ok:
        return FAILED
    if outcome.case.expected is None:
        return "not seen"
    return f"{outcome.delay(0.5):.0f} / {outcome.delay(0.95):.0f}"


def digest() -> str:
    """Of the code the table depends on: detection and matrix, comments and docstrings aside."""
    here = ROOT / "tests" / "validate"
    files = [*(ROOT / "qkd_adapters" / "detection").glob("*.py"), *here.glob("attack*.py")]
    total = hashlib.sha256()
    for path in sorted(files):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
        total.update(ast.dump(tree).encode())
    return total.hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def put(page: Path, text: str) -> None:
    """Replace the page's table and the digest it was made with."""
    before, _, rest = page.read_text().partition(BEGIN.split("{", maxsplit=1)[0])
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN.format(digest())}\n\n{text}\n\n{END}{after}")


def is_stale(page: Path) -> bool:
    """Was the page's table made by other code than this, or by a run that failed?"""
    text = page.read_text()
    return BEGIN.format(digest()) not in text or FAILED in text


if __name__ == "__main__":
    sys.exit(main())
