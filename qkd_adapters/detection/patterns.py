"""From tripped charts to findings: which features moved together, and which rule knows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qkd_adapters.detection.alarms import AlarmKind, Finding, Severity
from qkd_adapters.detection.charts import Charts, Trip
from qkd_adapters.detection.checks import MAJOR_LOSS
from qkd_adapters.detection.features import TOLERANCES, Group, Layout, Vector
from qkd_adapters.detection.rules import Move, Rule, classify, explained

STRONG = 4.0  # sigma over the change: the feature moved with the one that tripped
WEAK = 2.5  # sigma: may have moved; more blocks will tell
PATIENCE = 6  # blocks for which a pattern may stay unclear
MARGIN = 3  # blocks by which a change point is set back at least
MISALIGNED = 0.01  # error rate a moved fibre may add; more is no accident
NOISE = frozenset({Group.VACUUM, Group.GAP, Group.WIDTH})  # say that clicks are not the light's
WORST = 3  # features named in an alarm's text


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    block: int
    trips: tuple[Trip, ...]
    values: Vector
    checked: frozenset[AlarmKind]  # found by a deterministic check in this block
    standing: frozenset[AlarmKind]


class Patterns:
    """Keeps which features are held for moved, and on account of which alarm."""

    def __init__(self, layout: Layout, charts: Charts) -> None:
        self._layout = layout
        self._charts = charts
        self._tripped: dict[int, tuple[int, int]] = {}  # feature: sign, first block of the change
        self._unclear = 0  # blocks a pattern has been waiting
        self._owner: dict[int, AlarmKind] = {}
        self._finding: dict[AlarmKind, Finding] = {}
        self._carried: set[AlarmKind] = set()  # found by checks; features only prolong them

    @property
    def waiting(self) -> bool:
        """Has a chart tripped that no alarm accounts for yet?"""
        return bool(self._tripped)

    def held(self, checked: frozenset[AlarmKind] = frozenset()) -> tuple[Finding, ...]:
        """What stands by the charts; what a check finds by itself needs no other reason."""
        return tuple(
            finding
            for kind, finding in self._finding.items()
            if kind not in checked or kind not in self._carried
        )

    def resolve(self, observation: Observation, reference: Vector) -> tuple[Finding, ...]:
        """Findings of this block: those of moved features that are not back, and new ones."""
        self._let_go()
        for trip in observation.trips:
            self._take(trip, observation)
        if self._tripped:
            self._name(observation, reference)
        return self.held(observation.checked)

    def _let_go(self) -> None:
        latched = self._charts.latched
        self._owner = {f: kind for f, kind in self._owner.items() if latched[f]}
        standing = set(self._owner.values())
        self._carried &= standing
        self._finding = {kind: x for kind, x in self._finding.items() if kind in standing}

    def _take(self, trip: Trip, observation: Observation) -> None:
        start = observation.block - trip.run + 1
        move = (self._layout.groups[trip.feature], trip.sign)
        for kind in observation.checked | observation.standing:
            if move in explained(kind):
                self._hold(kind, {trip.feature: trip.sign}, trip.run)
                if kind not in self._finding:
                    text = f"{self._layout.names[trip.feature]} is not back yet"
                    self._finding[kind] = Finding(kind=kind, text=text, since_block=start)
                    self._carried.add(kind)
                return
        self._tripped[trip.feature] = (trip.sign, start)

    def _name(self, observation: Observation, reference: Vector) -> None:
        """Give the tripped features an alarm, or wait for a clearer picture."""
        start = min(start for _, start in self._tripped.values())
        run = observation.block - start + 1
        evidence = self._charts.evidence(run)
        sure = {feature: sign for feature, (sign, _) in self._tripped.items()}
        sure |= self._beyond(evidence, STRONG)
        maybe = sure | {f: s for f, s in self._beyond(evidence, WEAK).items() if f not in sure}
        rule = classify(self._moves(sure.items()))
        clear = rule is not None and classify(self._moves(maybe.items())) is rule
        if self._unclear < (rule.patience if rule is not None and clear else PATIENCE):
            self._unclear += 1
            return
        if rule is None:
            sure = {feature: sign for feature, (sign, _) in self._tripped.items()}
            rule = classify(self._moves(sure.items()))
        self._raise(rule, sure, run, observation, reference)

    def _beyond(self, evidence: Vector, limit: float) -> dict[int, int]:
        return {
            feature: 1 if value > 0 else -1
            for feature, value in enumerate(evidence.tolist())
            if abs(value) >= limit and feature not in self._owner and feature not in self._tripped
        }

    def _moves(self, features: Iterable[tuple[int, int]]) -> frozenset[Move]:
        return frozenset((self._layout.groups[feature], sign) for feature, sign in features)

    def _raise(
        self,
        rule: Rule | None,
        moved: dict[int, int],
        run: int,
        observation: Observation,
        reference: Vector,
    ) -> None:
        away = observation.values - reference
        kind = AlarmKind.UNEXPLAINED if rule is None else rule.kind
        text = "moved in a way no rule knows" if rule is None else rule.text
        severity = None
        noise = any(self._layout.groups[feature] in NOISE for feature in moved)
        benign = kind is AlarmKind.QBER_DEGRADED or (kind is AlarmKind.DEVICE and not noise)
        if benign and self._largest(away, Group.QBER) > MISALIGNED:
            kind, text = AlarmKind.INTERCEPT, "more errors than a moved fibre makes"
        if kind is AlarmKind.LOSS and self._largest(away, Group.LOSS) >= MAJOR_LOSS:
            severity = Severity.MAJOR
        evidence = self._charts.evidence(run)
        worst = sorted(moved, key=lambda feature: -abs(evidence[feature]))
        parts = [self._describe(f, observation.values[f], reference[f]) for f in worst[:WORST]]
        self._finding[kind] = Finding(
            kind=kind,
            text=f"{text} ({', '.join(parts)})",
            severity=severity,
            # The last zero of a CUSUM comes late for a small change, by about half its run.
            since_block=observation.block - run + 1 - max(MARGIN, run // 2),
            contributions={self._layout.names[f]: round(float(evidence[f]), 2) for f in worst},
        )
        self._hold(kind, moved, run)
        self._tripped.clear()
        self._unclear = 0

    def _largest(self, away: Vector, group: Group) -> float:
        return max(
            (float(away[f]) for f, other in enumerate(self._layout.groups) if other is group),
            default=0.0,
        )

    def _describe(self, feature: int, value: float, normal: float) -> str:
        unit = TOLERANCES[self._layout.groups[feature]].unit
        return f"{self._layout.names[feature]} {normal:.4g} to {value:.4g} {unit}".rstrip()

    def _hold(self, kind: AlarmKind, moved: dict[int, int], run: int) -> None:
        evidence = self._charts.evidence(run)
        for feature, sign in moved.items():
            # The mean z over the change: evidence is that mean times the root of its length.
            self._charts.latch(feature, sign, float(evidence[feature]) / max(run, 1) ** 0.5)
            self._owner[feature] = kind
