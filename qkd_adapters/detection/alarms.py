"""The alarms a link can raise, and the book of those that stand.

Words of RFC 8632: an alarm is known by its type; it is raised, may change severity and text
while it stands, and is cleared once its condition has been gone long enough. Event types are
those of X.733 and X.736.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum


class Severity(IntEnum):
    """perceived-severity of RFC 8632, in ascending order."""

    INDETERMINATE = 2
    WARNING = 3
    MINOR = 4
    MAJOR = 5
    CRITICAL = 6


class EventType(StrEnum):
    """X.733 event types and, from X.736 on, the security ones."""

    COMMUNICATIONS = "communications-alarm"
    QUALITY = "quality-of-service-alarm"
    PROCESSING = "processing-error-alarm"
    EQUIPMENT = "equipment-alarm"
    ENVIRONMENT = "environmental-alarm"
    INTEGRITY = "integrity-violation"
    PHYSICAL = "physical-violation"
    MECHANISM = "security-service-or-mechanism-violation"


class AlarmKind(StrEnum):
    """Alarm types by their identifiers."""

    AUTH_FAILURE = "QKD-SEC-001"
    SECRET_ZERO = "QKD-SEC-011"  # noqa: S105 (no password)
    INTERCEPT = "QKD-SEC-021"
    DECOY_RATIO = "QKD-SEC-022"
    BLINDING = "QKD-SEC-023"
    DETECTOR_SHIFT = "QKD-SEC-024"
    INPUT_POWER = "QKD-SEC-025"
    SOURCE_POWER = "QKD-SEC-026"
    UNEXPLAINED = "QKD-SEC-029"
    RNG_HEALTH = "QKD-SEC-031"
    KEY_MISMATCH = "QKD-SEC-041"
    QBER_DEGRADED = "QKD-PERF-101"
    EC_INEFFICIENT = "QKD-PERF-105"
    LOSS = "QKD-FAULT-201"
    DARK_COUNTS = "QKD-FAULT-202"
    DEVICE = "QKD-FAULT-203"
    CLASSICAL_DOWN = "QKD-FAULT-205"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the catalogue says of one alarm type."""

    name: str
    severity: Severity  # usual one; a finding may say otherwise
    secrecy: bool  # suspicion: keys are quarantined and none delivered while it stands
    event: EventType
    cause: str
    raise_after: int = 1  # blocks in a row that show it
    clear_after: int = 20  # blocks in a row that do not


CATALOGUE: dict[AlarmKind, Entry] = {
    AlarmKind.AUTH_FAILURE: Entry(
        name="AuthTagFailure",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.INTEGRITY,
        cause="a message on the classical channel was changed or forged",
    ),
    AlarmKind.SECRET_ZERO: Entry(
        name="SecretFractionZero",
        severity=Severity.MAJOR,
        secrecy=False,  # no key is made, so none can be known
        event=EventType.QUALITY,
        cause="the bounds leave no secret bits",
        raise_after=5,
    ),
    AlarmKind.INTERCEPT: Entry(
        name="QberShiftIntercept",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.PHYSICAL,
        cause="intercept-resend: errors rose and nothing else explains them",
    ),
    AlarmKind.DECOY_RATIO: Entry(
        name="DecoyRatioShift",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.PHYSICAL,
        cause="photon-number splitting: weak pulses are lost more than strong ones",
    ),
    AlarmKind.BLINDING: Entry(
        name="DetectorBlinding",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.PHYSICAL,
        cause="detectors driven by bright light",
    ),
    AlarmKind.DETECTOR_SHIFT: Entry(
        name="DetectorBalanceShift",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.PHYSICAL,
        cause="time-shift or efficiency mismatch: detectors no longer answer alike",
    ),
    AlarmKind.INPUT_POWER: Entry(
        name="InputPowerWatchdog",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.PHYSICAL,
        cause="Trojan horse: light sent into a device",
    ),
    AlarmKind.SOURCE_POWER: Entry(
        name="SourcePowerShift",
        severity=Severity.MAJOR,
        secrecy=True,
        event=EventType.PHYSICAL,
        cause="laser seeded, attenuator opened, or local oscillator changed",
    ),
    AlarmKind.UNEXPLAINED: Entry(
        name="UnexplainedShift",
        severity=Severity.MAJOR,
        secrecy=True,
        event=EventType.PHYSICAL,
        cause="the link left its calibration in a way no rule knows",
    ),
    AlarmKind.RNG_HEALTH: Entry(
        name="RngHealth",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.MECHANISM,
        cause="a random generator failed its health test",
    ),
    AlarmKind.KEY_MISMATCH: Entry(
        name="KeyMismatch",
        severity=Severity.CRITICAL,
        secrecy=True,
        event=EventType.INTEGRITY,
        cause="corrected keys differ again and again",
        raise_after=2,  # one residual error in a while is the code's own
    ),
    AlarmKind.QBER_DEGRADED: Entry(
        name="QberDegraded",
        severity=Severity.MINOR,
        secrecy=False,
        event=EventType.QUALITY,
        cause="alignment worsens: recalibrate",
    ),
    AlarmKind.EC_INEFFICIENT: Entry(
        name="EcInefficiency",
        severity=Severity.WARNING,
        secrecy=False,
        event=EventType.PROCESSING,
        cause="error correction leaks more than it should",
        raise_after=5,
    ),
    AlarmKind.LOSS: Entry(
        name="LossStep",
        severity=Severity.MINOR,
        secrecy=False,
        event=EventType.COMMUNICATIONS,
        cause="tap, bend or cut of the fibre",
    ),
    AlarmKind.DARK_COUNTS: Entry(
        name="DarkCountHigh",
        severity=Severity.MINOR,
        secrecy=False,
        event=EventType.EQUIPMENT,
        cause="light from outside or warmer detectors: clicks without a pulse",
    ),
    AlarmKind.DEVICE: Entry(
        name="DeviceFault",
        severity=Severity.MAJOR,
        secrecy=False,
        event=EventType.EQUIPMENT,
        cause="clock, interferometer or temperature out of range",
    ),
    AlarmKind.CLASSICAL_DOWN: Entry(
        name="ClassicalChannelDown",
        severity=Severity.MAJOR,
        secrecy=False,
        event=EventType.COMMUNICATIONS,
        cause="the devices cannot talk to each other",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One block's reason for an alarm."""

    kind: AlarmKind
    text: str
    severity: Severity | None = None  # None: the catalogue's
    since_block: int  # first block the cause may have touched
    contributions: Mapping[str, float] = field(default_factory=dict)  # feature: standard deviations


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm that stands, or has just been cleared."""

    kind: AlarmKind
    severity: Severity
    text: str
    raised_block: int
    since_block: int
    contributions: Mapping[str, float] = field(default_factory=dict)

    @property
    def secrecy(self) -> bool:
        return CATALOGUE[self.kind].secrecy

    @property
    def name(self) -> str:
        return CATALOGUE[self.kind].name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    raised: tuple[Alarm, ...]
    changed: tuple[Alarm, ...]  # severity or text of a standing alarm
    cleared: tuple[Alarm, ...]


class AlarmBook:
    """Turns findings of single blocks into alarms that are raised once and cleared once."""

    def __init__(self) -> None:
        self._standing: dict[AlarmKind, Alarm] = {}
        self._shown: dict[AlarmKind, int] = {}  # blocks in a row with a finding
        self._absent: dict[AlarmKind, int] = {}  # blocks in a row without, while it stands

    @property
    def active(self) -> tuple[Alarm, ...]:
        """Alarms that stand, the gravest first."""
        return tuple(sorted(self._standing.values(), key=lambda alarm: -alarm.severity))

    def stands(self, kind: AlarmKind) -> bool:
        return kind in self._standing

    def update(self, block: int, findings: Iterable[Finding]) -> Changes:
        found = _merged(findings)
        raised, changed = [], []
        for kind, finding in found.items():
            self._shown[kind] = self._shown.get(kind, 0) + 1
            standing = self._standing.get(kind)
            if standing is not None:
                self._absent[kind] = 0
                now = _continued(standing, finding)
                if now.severity != standing.severity:
                    changed.append(now)
                self._standing[kind] = now
            elif self._shown[kind] >= CATALOGUE[kind].raise_after:
                self._standing[kind] = _alarm(block, finding)
                self._absent[kind] = 0
                raised.append(self._standing[kind])
        self._shown = {kind: count for kind, count in self._shown.items() if kind in found}
        return Changes(
            raised=tuple(raised), changed=tuple(changed), cleared=tuple(self._clear(found))
        )

    def _clear(self, found: Mapping[AlarmKind, Finding]) -> list[Alarm]:
        cleared = []
        for kind in [kind for kind in self._standing if kind not in found]:
            self._absent[kind] += 1
            if self._absent[kind] >= CATALOGUE[kind].clear_after:
                cleared.append(self._standing.pop(kind))
                del self._absent[kind]
        return cleared


def _severity(finding: Finding) -> Severity:
    return CATALOGUE[finding.kind].severity if finding.severity is None else finding.severity


def _alarm(block: int, finding: Finding) -> Alarm:
    return Alarm(
        kind=finding.kind,
        severity=_severity(finding),
        text=finding.text,
        raised_block=block,
        since_block=finding.since_block,
        contributions=finding.contributions,
    )


def _continued(standing: Alarm, finding: Finding) -> Alarm:
    """The standing alarm as the latest finding has it; it never starts later than it did."""
    return replace(
        standing,
        severity=_severity(finding),
        text=finding.text,
        since_block=min(standing.since_block, finding.since_block),
        contributions=finding.contributions or standing.contributions,
    )


def _merged(findings: Iterable[Finding]) -> dict[AlarmKind, Finding]:
    """One finding per kind: gravest severity, all texts."""
    merged: dict[AlarmKind, Finding] = {}
    for finding in findings:
        other = merged.get(finding.kind)
        if other is None:
            merged[finding.kind] = finding
            continue
        merged[finding.kind] = replace(
            other,
            severity=max(_severity(other), _severity(finding)),
            text=f"{other.text}; {finding.text}",
            since_block=min(other.since_block, finding.since_block),
            contributions={**other.contributions, **finding.contributions},
        )
    return merged
