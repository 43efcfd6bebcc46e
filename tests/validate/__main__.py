"""Runs every check, or those whose module or name has one of the words given.

Writes ``build/validate/report.json``; exit code 1 where a check does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import tests.validate
from tests.validate.checks import Check, Result, Value

REPOSITORY = Path(__file__).resolve().parents[2]
REPORT = REPOSITORY / "build" / "validate" / "report.json"


def discover() -> dict[str, tuple[Check, ...]]:
    """Module name without ``check_`` to its checks."""
    found = {}
    for module in pkgutil.iter_modules(tests.validate.__path__):
        if module.name.startswith("check_"):
            loaded = importlib.import_module(f"tests.validate.{module.name}")
            found[module.name.removeprefix("check_")] = tuple(loaded.CHECKS)
    return found


def run(check: Check) -> Result:
    """A check that raises has failed, and says why."""
    began = time.perf_counter()
    try:
        got = check.measure()
        ok = bool(check.holds(got))
    except Exception as error:  # noqa: BLE001  (one broken check must not hide the others)
        got, ok = f"{type(error).__name__}: {error}", False
    return Result(
        name=check.name,
        expected=check.expected,
        got=_plain(got),
        tolerance=check.tolerance,
        ok=ok,
        source=check.source,
        seconds=round(time.perf_counter() - began, 3),
    )


def _plain(value: Value) -> Value:
    """numpy's scalars are no JSON."""
    return value.item() if hasattr(value, "item") else value


def _text(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(result: Result) -> str:
    verdict = "ok  " if result.ok else "FAIL"
    return (
        f"{verdict} {result.name:<58} {_text(result.got):>12}"
        f"  expected {_text(result.expected):>10} {result.tolerance:<18} {result.seconds:7.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.validate", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD")
    words = parser.parse_args().words
    results: list[Result] = []
    for module, checks in discover().items():
        chosen = [
            check
            for check in checks
            if not words or any(word in module or word in check.name for word in words)
        ]
        if chosen:
            print(f"{module}:", flush=True)
        for check in chosen:
            if sys.stderr.isatty():
                print(f"     {check.name} ...", end="\r", file=sys.stderr, flush=True)
            results.append(run(check))
            print(_row(results[-1]), flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    failed = sum(not result.ok for result in results)
    print(
        f"{len(results) - failed} of {len(results)} checks hold; {REPORT.relative_to(REPOSITORY)}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
