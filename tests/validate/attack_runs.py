"""Runs of the attack matrix: one attack on one link many times, one benign profile at length."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qkd_adapters.detection.alarms import CATALOGUE
from qkd_adapters.detection.baseline import Baseline
from qkd_adapters.detection.detector import LinkDetector, Verdict
from qkd_adapters.optics.drift import Drift
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.sampler import expose
from tests.validate.attack_cases import Case
from tests.validate.attack_links import (
    LINKS,
    SECONDS,
    blocks,
    calibration,
    telemetry,
)

CALIBRATION = 3600  # blocks; an hour
WARM_UP = 40  # good blocks before an attack
LONGEST = 200  # blocks of an attack that is not seen
AFTERWARDS = 30  # blocks an attack goes on after its alarm, for others to be raised
CLEARING = 300  # good blocks within which every alarm must have been cleared


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A case, run so and so many times. Delays in blocks; 1 is the first one attacked."""

    case: Case
    runs: int
    delays: tuple[int, ...]  # of the runs in which the expected alarm was raised
    others: tuple[str, ...]  # alarms raised that were not expected
    uncovered: int  # runs whose quarantine began after the attack did
    uncleared: int  # runs whose alarm still stood after CLEARING good blocks

    @property
    def ok(self) -> bool:
        seen = self.runs if self.case.expected else 0
        return (
            len(self.delays) == seen
            and not self.others
            and not self.uncovered
            and not self.uncleared
        )

    def delay(self, share: float) -> float:
        """Blocks within which ``share`` of the runs had raised the alarm."""
        missed = [math.inf] * (self.runs - len(self.delays))
        ordered = sorted([*map(float, self.delays), *missed])
        return ordered[math.ceil(share * len(ordered)) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """A benign profile: what was raised though nothing was wrong."""

    profile: str
    link: str
    blocks: int
    alarms: tuple[str, ...]


@lru_cache
def _calibrated(link: str) -> Baseline:
    rng = np.random.default_rng(1)
    return calibration(link, Drift("stationary", rng), rng, CALIBRATION)


def run_case(case: Case, runs: int) -> Outcome:
    found = [_Run(case, number) for number in range(runs)]
    return Outcome(
        case=case,
        runs=runs,
        delays=tuple(run.delay for run in found if run.delay),
        others=tuple(alarm for run in found for alarm in run.others),
        uncovered=sum(run.uncovered for run in found),
        uncleared=sum(run.uncleared for run in found),
    )


class _Run:
    """Good blocks, attacked ones until some time after the alarm, good ones again."""

    def __init__(self, case: Case, number: int) -> None:
        self._case = case
        # The same draws whatever the order of the cases or the process that runs them.
        seed = zlib.crc32(f"{case.title}/{case.strength}/{case.link}/{number}".encode())
        self._rng = np.random.default_rng(seed)
        self._drift = Drift("stationary", self._rng)
        self._model = preset(LINKS[case.link])
        self._detector = LinkDetector(_calibrated(case.link))
        self._block = 0
        self.delay = 0
        self.others: list[str] = []
        self.uncovered = False
        for _ in range(WARM_UP):
            self._step(attacked=False)
        self._attack()
        left = CLEARING
        while self._step(attacked=False).active and left:
            left -= 1
        self.uncleared = not left

    def _attack(self) -> None:
        onset = self._block
        last = onset + LONGEST
        while self._block < last:
            verdict = self._step(attacked=True)
            expected = self._case.expected
            if self.delay or expected not in {alarm.kind for alarm in verdict.raised}:
                continue
            self.delay = self._block - onset
            last = self._block + AFTERWARDS
            since = verdict.suspect_since_block
            if expected is not None and CATALOGUE[expected].secrecy:
                self.uncovered = since is None or since > onset

    def _step(self, *, attacked: bool) -> Verdict:
        conditions = self._drift.conditions(self._block * SECONDS)
        if attacked and self._case.optics is not None:
            conditions = self._case.optics.apply(self._model, conditions)
        exposure = expose(self._model, conditions, SECONDS, self._rng)
        seen = telemetry(exposure, self._block, self._rng)
        if attacked and self._case.edit is not None:
            seen = self._case.edit(seen)
        self._block += 1
        verdict = self._detector.observe(seen)
        self.others += [str(a) for a in verdict.raised if a.kind is not self._case.expected]
        return verdict


def run_quiet(profile: str, link: str, count: int, *, hours: float = 2.0) -> Quiet:
    """``count`` blocks of a profile after a calibration of ``hours`` under the same weather."""
    rng = np.random.default_rng(zlib.crc32(f"{profile}/{link}".encode()))
    drift = Drift(profile, rng)
    learned = round(hours * 3600 / SECONDS)
    detector = LinkDetector(calibration(link, drift, rng, learned))
    alarms: list[str] = []
    for block in blocks(link, drift, rng, count, first=learned):
        alarms += [f"block {block.block}: {alarm}" for alarm in detector.observe(block).raised]
    return Quiet(profile=profile, link=link, blocks=count, alarms=tuple(alarms))


def false_alarms(quiet: Sequence[Quiet], profile: str) -> tuple[int, int]:
    """Alarms and blocks of one profile over all links."""
    mine = [run for run in quiet if run.profile == profile]
    return sum(len(run.alarms) for run in mine), sum(run.blocks for run in mine)
