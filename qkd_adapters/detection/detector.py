"""The watch over one link: telemetry of a block in, a verdict out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from qkd_adapters.detection.alarms import (
    Alarm,
    AlarmBook,
    AlarmKind,
    Finding,
    Severity,
)
from qkd_adapters.detection.baseline import LOSS, Baseline, Reference, calibrate
from qkd_adapters.detection.charts import Charts
from qkd_adapters.detection.checks import check, is_cut
from qkd_adapters.detection.errors import BaselineError
from qkd_adapters.detection.features import Group, Layout, Receiver, Vector, measure
from qkd_adapters.detection.hotelling import Hotelling
from qkd_adapters.detection.patterns import Observation, Patterns
from qkd_adapters.detection.telemetry import BlockTelemetry

CALIBRATION_BLOCKS = 600
DRIFTED = 0.8  # share of its tolerance at which a wandering QBER is worth a recalibration
JOINT_BLOCKS = 3  # in a row with T2 over its limit and no chart or rule to say why


class LinkState(StrEnum):
    UP = "up"
    DEGRADED = "degraded"  # an alarm that leaves the keys good
    SUSPECT = "suspect"  # a secrecy alarm: keys from suspect_since_block on are not to be used
    DOWN = "down"  # makes no keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the detection makes of a link after a block."""

    block: int
    state: LinkState
    calibrating: bool  # only the deterministic checks are at work
    raised: tuple[Alarm, ...]
    changed: tuple[Alarm, ...]  # severity of a standing alarm
    cleared: tuple[Alarm, ...]
    active: tuple[Alarm, ...]  # the gravest first
    suspect_since_block: int | None  # while suspect: first block whose keys may be known
    values: Mapping[str, float] = field(default_factory=dict)  # features in their units
    scores: Mapping[str, float] = field(default_factory=dict)  # distance from normal in sigma
    joint: float = 0.0  # T2 over its limit; advisory while a rule explains it


CONSEQUENCES = frozenset({AlarmKind.SECRET_ZERO, AlarmKind.EC_INEFFICIENT})
"""Alarms that are not raised while another one stands that may be their cause."""


class LinkDetector:
    """Give it every block of one link in order.

    Without a baseline the first ``calibration_blocks`` good blocks become it: whoever is on the
    fibre by then stays unseen, so a link in earnest gets one from a calibration file.
    """

    def __init__(
        self,
        baseline: Baseline | None = None,
        *,
        receiver: Receiver | None = None,
        calibration_blocks: int = CALIBRATION_BLOCKS,
    ) -> None:
        self._receiver = receiver
        self._book = AlarmBook()
        self._calibration_blocks = calibration_blocks
        self._learning: list[BlockTelemetry] = []
        self._watch: _Watch | None = None
        if baseline is not None:
            self.accept(baseline)

    @property
    def baseline(self) -> Baseline | None:
        return None if self._watch is None else self._watch.baseline

    def accept(self, baseline: Baseline) -> None:
        """The operator takes this for normal from now on.

        Alarms that no longer have a reason clear as usual.
        """
        self._watch = _Watch(baseline)
        self._learning.clear()

    def relearn(self) -> None:
        """The operator takes the blocks to come for normal."""
        self._watch = None
        self._learning.clear()

    def observe(self, telemetry: BlockTelemetry) -> Verdict:
        """One block. Raises BaselineError when it is of another kind than the baseline."""
        findings = list(check(telemetry, self.baseline))
        values: Mapping[str, float] = {}
        scores: Mapping[str, float] = {}
        joint = 0.0
        calibrating = self._watch is None
        if self._watch is None:
            self._learn(telemetry, good=not findings)
        else:
            result = self._watch.observe(telemetry, findings, self._book)
            findings += result.findings
            values, scores, joint = result.values, result.scores, result.joint
        changes = self._book.update(telemetry.block, _causes(findings, self._book))
        active = self._book.active
        return Verdict(
            block=telemetry.block,
            state=_state(active),
            calibrating=calibrating,
            raised=changes.raised,
            changed=changes.changed,
            cleared=changes.cleared,
            active=active,
            suspect_since_block=min(
                (alarm.since_block for alarm in active if alarm.secrecy), default=None
            ),
            values=values,
            scores=scores,
            joint=joint,
        )

    def _learn(self, telemetry: BlockTelemetry, *, good: bool) -> None:
        if good:
            self._learning.append(telemetry)
        if len(self._learning) >= self._calibration_blocks:
            self.accept(calibrate(self._learning, self._receiver))


def _causes(findings: list[Finding], book: AlarmBook) -> list[Finding]:
    """Without the findings that are consequences of others."""
    others = any(finding.kind not in CONSEQUENCES for finding in findings) or any(
        alarm.kind not in CONSEQUENCES for alarm in book.active
    )
    if not others:
        return findings
    return [
        finding
        for finding in findings
        if finding.kind not in CONSEQUENCES or book.stands(finding.kind)
    ]


def _state(active: tuple[Alarm, ...]) -> LinkState:
    if any(alarm.secrecy for alarm in active):
        return LinkState.SUSPECT
    for alarm in active:
        if alarm.kind in {AlarmKind.CLASSICAL_DOWN, AlarmKind.SECRET_ZERO}:
            return LinkState.DOWN
        if alarm.kind is AlarmKind.LOSS and alarm.severity is Severity.CRITICAL:
            return LinkState.DOWN
    return LinkState.DEGRADED if active else LinkState.UP


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    findings: tuple[Finding, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    joint: float = 0.0


class _Watch:
    """Charts, reference and patterns of one link with one baseline."""

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        self._names = tuple(baseline.features)
        normals = baseline.features.values()
        self._block_variance = np.array([normal.block_sigma**2 for normal in normals])
        self._run_variance = np.array([normal.run_sigma**2 for normal in normals])
        self._slope = np.array([normal.slope for normal in normals])
        self._loss = self._names.index(LOSS) if self._slope.any() else None
        self._reference = Reference(baseline)
        self._charts = Charts(len(self._names))
        self._joint = Hotelling(len(self._names))
        self._joint_blocks = 0
        self._patterns: Patterns | None = None

    def observe(
        self, telemetry: BlockTelemetry, findings: list[Finding], book: AlarmBook
    ) -> _Result:
        if telemetry.protocol is not self.baseline.protocol:
            raise BaselineError(
                f"telemetry of {telemetry.protocol}, baseline of {self.baseline.protocol}"
            )
        if telemetry.classical.unreachable or is_cut(telemetry, self.baseline):
            # Nothing to judge the light by; what was held stays held.
            held = self._patterns.held() if self._patterns is not None else ()
            return _Result(findings=held)
        layout, sample = measure(telemetry, self.baseline.receiver)
        patterns = self._fit(layout)
        values = self._weathered(sample.values)
        away = values - self._reference.values
        run_z = away / np.sqrt(sample.variances + self._run_variance)
        block_z = away / np.sqrt(sample.variances + self._block_variance)
        block_z[np.isnan(block_z)] = 0.0  # says nothing, moves nothing
        trips = self._charts.update(run_z, block_z)
        observation = Observation(
            block=telemetry.block,
            trips=trips,
            values=values,
            checked=frozenset(finding.kind for finding in findings),
            standing=frozenset(alarm.kind for alarm in book.active),
        )
        found = patterns.resolve(observation, self._reference.values)
        # A drift away from the record is no reason to stop following it.
        quiet = not (found or findings or patterns.waiting) and all(
            alarm.kind is AlarmKind.QBER_DEGRADED for alarm in book.active
        )
        score, shares = self._joint.score(block_z)
        found += self._unexplained(telemetry.block, score, shares, book, quiet=quiet)
        if quiet:
            found += self._drifted(telemetry.block, layout)
            self._reference.follow(values)
            self._joint.learn(block_z)
        return _Result(
            findings=found,
            values=dict(zip(self._names, sample.values.tolist(), strict=True)),
            scores=dict(zip(self._names, block_z.tolist(), strict=True)),
            joint=score / self._joint.limit,
        )

    def _weathered(self, values: Vector) -> Vector:
        """As they would be at the calibrated loss, on a link where weather moves both."""
        if self._loss is None:
            return values
        more = values[self._loss] - self.baseline.features[LOSS].mean
        return values if math.isnan(more) else values - self._slope * more

    def _fit(self, layout: Layout) -> Patterns:
        if self._patterns is None:
            if layout.names != self._names:
                raise BaselineError(
                    f"telemetry has {', '.join(layout.names)}; baseline {', '.join(self._names)}"
                )
            self._patterns = Patterns(layout, self._charts)
        return self._patterns

    def _unexplained(
        self, block: int, score: float, shares: Vector, book: AlarmBook, *, quiet: bool
    ) -> tuple[Finding, ...]:
        """T2 speaks for itself only where nothing else does."""
        over = score > self._joint.limit
        mine = book.stands(AlarmKind.UNEXPLAINED)
        self._joint_blocks = self._joint_blocks + 1 if over and (quiet or mine) else 0
        if self._joint_blocks < JOINT_BLOCKS and not (over and mine):
            return ()
        leading = np.argsort(-shares)[:3]
        names = ", ".join(f"{self._names[i]} {shares[i] / score:.0%}" for i in leading)
        return (
            Finding(
                kind=AlarmKind.UNEXPLAINED,
                text=f"features moved together, no rule knows how: {names}",
                since_block=block - JOINT_BLOCKS,
                contributions={self._names[i]: math.sqrt(abs(shares[i])) for i in leading},
            ),
        )

    def _drifted(self, block: int, layout: Layout) -> tuple[Finding, ...]:
        wander = self._reference.wander
        for index, group in enumerate(layout.groups):
            if group in {Group.QBER, Group.EXCESS_NOISE} and wander[index] > DRIFTED:
                record = self.baseline.features[self._names[index]].mean
                text = (
                    f"{self._names[index]} drifted from {record:.4f} to "
                    f"{self._reference.values[index]:.4f} since calibration: recalibrate"
                )
                return (Finding(kind=AlarmKind.QBER_DEGRADED, text=text, since_block=block),)
        return ()
