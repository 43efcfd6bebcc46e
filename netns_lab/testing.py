"""Runs the lab tests: several lab kernels side by side, because each has one CPU only.

Every test file gets a lab of its own. Its output is shown when the file is done; a single
file, or a single lab at a time, shows it as it comes.
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netns_lab import paths, tools
from netns_lab.errors import ToolMissingError
from netns_lab.tools import Say

HANG_SECONDS = 120
EXTRAS = {"test_wireshark.py": "tshark"}
"""Test file -> program that it wants and no other needs."""
_POLL_SECONDS = 0.2
_RESULTS = ("failure", "error", "skipped")  # elements of JUnit's format
_NO_TESTS = 5  # pytest's exit code when the other arguments leave none of a file's tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """pytest's arguments, sorted out."""

    files: tuple[Path, ...]  # to be shared out
    exact: tuple[str, ...]  # words that name tests more exactly than by file
    options: tuple[str, ...]


def select(arguments: Sequence[str], folder: Path) -> Selection:
    """What ``arguments`` ask for; every test file of ``folder`` if they name none."""
    named = [word for word in arguments if Path(word.partition("::")[0]).exists()]
    options = tuple(word for word in arguments if word not in named)
    if any("::" in word for word in named):
        return Selection(files=(), exact=tuple(named), options=options)
    chosen = [Path(word) for word in named] or [folder]
    files = [file for path in chosen for file in _files(path)]
    # The longest first, as far as one can tell: then nobody waits for one at the end.
    files.sort(key=lambda file: -file.stat().st_size)
    return Selection(files=tuple(files), exact=(), options=options)


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def fetch_extras(chosen: Selection, say: Say) -> None:
    """Programs that single tests want; where one cannot be had, its tests are skipped."""
    names = [*(file.name for file in chosen.files), *chosen.exact]
    for part, program in EXTRAS.items():
        if any(part in name for name in names):
            try:
                tools.ensure((program,), say)
            except ToolMissingError:
                say(f"{program} cannot be had here: {part} is skipped")


def pytest_command(words: Sequence[str], report: Path, *, colour: bool) -> tuple[str, ...]:
    """pytest as it is to run inside the lab."""
    return (
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra"),
        f"--junitxml={report}",
        # A test that hangs says where before the time of the whole run is over.
        *("-o", f"faulthandler_timeout={HANG_SECONDS}"),
        *(("--color=yes",) if colour else ()),
        *words,
    )


def reports() -> Path:
    return paths.build() / "lab-tests"


@dataclass(slots=True, kw_only=True)
class _Running:
    file: Path
    process: subprocess.Popen[bytes]
    output: Path
    cpu: int


@dataclass(slots=True, kw_only=True)
class SideBySide:
    """Runs each file as a ``qsgw-lab test`` of its own, one at a time on each of ``cpus``."""

    cpus: tuple[int, ...]
    timeout: float  # seconds for each file
    options: tuple[str, ...]
    say: Say
    _running: list[_Running] = field(default_factory=list)

    def run(self, files: Sequence[Path]) -> int:
        """0 if every file passed. Shows each file's output when it has ended."""
        waiting = list(files)
        codes: list[int] = []
        started = time.monotonic()
        self.say(f"{len(waiting)} test files in {len(self.cpus)} labs; each is shown when it ends")
        try:
            while waiting or self._running:
                busy = {one.cpu for one in self._running}
                for cpu in (cpu for cpu in self.cpus if cpu not in busy and waiting):
                    self._running.append(self._start(waiting.pop(0), cpu))
                codes += self._reap()
                time.sleep(_POLL_SECONDS)
        finally:
            for left in self._running:
                left.process.terminate()
            for left in self._running:
                left.process.wait()
        took = time.monotonic() - started
        counts, bad = summary([_report(file) for file in files])
        self.say("\n  ".join([f"{counts} in {took:.0f} s", *bad]))
        return 0 if all(code in (0, _NO_TESTS) for code in codes) else 1

    def _start(self, file: Path, cpu: int) -> _Running:
        output = reports() / f"{file.stem}.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *("taskset", "--cpu-list", str(cpu)),
            *(sys.executable, "-m", "netns_lab.cli", "test", "--machines", "1"),
            *("--timeout", str(self.timeout), str(file), *self.options),
        ]
        with output.open("wb") as sink:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        return _Running(file=file, process=process, output=output, cpu=cpu)

    def _reap(self) -> list[int]:
        """Show what has ended; its exit codes."""
        ended = [one for one in self._running if one.process.poll() is not None]
        for one in ended:
            self._running.remove(one)
            print(one.output.read_text(errors="replace"), flush=True)
        return [one.process.returncode for one in ended]


def _report(file: Path) -> Path:
    return reports() / f"{file.stem}.xml"


def summary(found: Sequence[Path]) -> tuple[str, list[str]]:
    """Totals over JUnit reports, and the names of what did not pass."""
    totals: Counter[str] = Counter()
    bad = []
    for report in found:
        if not report.exists():
            bad.append(f"{report.stem}: did not come to its end")
            continue
        tree = ET.parse(report)  # noqa: S314 - written by our own pytest
        for case in tree.iter("testcase"):
            result = next((child.tag for child in case if child.tag in _RESULTS), "passed")
            totals[result] += 1
            if result in ("failure", "error"):
                bad.append(f"{report.stem}::{case.get('name')}")
    counts = ", ".join(f"{totals[name]} {name}" for name in ("passed", *_RESULTS) if totals[name])
    return counts or "no tests", bad
