"""What Alice makes of her link: the detection's verdict, and what it cannot know."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from qkd_adapters.detection.baseline import Baseline
from qkd_adapters.detection.detector import LinkDetector, Verdict
from qkd_adapters.detection.detector import LinkState as Condition
from qkd_adapters.detection.errors import BaselineError
from qkd_adapters.device.classical import ClassicalChannel
from qkd_adapters.device.config import DeviceSettings
from qkd_adapters.device.history import History, entry
from qkd_adapters.device.observe import Seat, block_telemetry
from qkd_adapters.errors import KmeStartupError
from qkd_adapters.link.messages import LinkState
from qkd_adapters.logs import EventLog

# Without light for so many times the distance between two blocks the link is down; at least s
_PATIENCE = 3.0
_PATIENCE_LEAST = 5.0
# Blocks whose time is remembered, to say how long ago the last good one was.
_REMEMBERED = 10_000

# A key rate that changed by less than this share is told as before.
_RATE_STEP = 0.3

_log = EventLog("qsgw_kme.device")


class LinkWatch:
    """Fed with every block; says what the KMEs are told."""

    def __init__(self, settings: DeviceSettings) -> None:
        """Raises KmeStartupError."""
        self._settings = settings
        self._baseline_file = settings.baseline
        self._saved = False
        self.detector = LinkDetector(self._load(), calibration_blocks=settings.calibration_blocks)
        self.history = History(settings.telemetry)
        self.verdict: Verdict | None = None
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self._light_at: float | None = None
        self._spacing = 0.0  # seconds between the last two blocks of light
        self._told_rate = 0.0
        self._state = "down"
        self._since = _now()

    def close(self) -> None:
        self.history.close()

    # --- what happens ---

    def light_came(self) -> None:
        now = time.monotonic()
        if self._light_at is not None:
            self._spacing = now - self._light_at
        self._light_at = now

    def observe(self, seat: Seat, keys: int) -> int | None:
        """One block. While suspect: the first block whose keys are not to be used."""
        telemetry = block_telemetry(self._settings.datasheet, seat)
        self._arrivals.append((seat.number, time.monotonic()))
        try:
            verdict = self.detector.observe(telemetry)
        except BaselineError as error:
            _log.warning("baseline-unfit", link=self._settings.link, reason=str(error))
            self.detector.relearn()
            verdict = self.detector.observe(telemetry)
        self.verdict = verdict
        delivered = 0 if verdict.state is Condition.SUSPECT else keys
        self.history.add(entry(seat, telemetry, verdict, keys=delivered, at=time.time()))
        for alarm in verdict.raised:
            _log.warning(
                "alarm-raised",
                link=self._settings.link,
                block=verdict.block,
                alarm=str(alarm),
                severity=alarm.severity.name.lower(),
                since_block=alarm.since_block,
            )
        for alarm in verdict.cleared:
            _log.info(
                "alarm-cleared", link=self._settings.link, block=verdict.block, alarm=str(alarm)
            )
        self._save()
        return verdict.suspect_since_block if verdict.state is Condition.SUSPECT else None

    # --- what is so ---

    @property
    def suspicious(self) -> bool:
        return self.verdict is not None and self.verdict.state is Condition.SUSPECT

    def state(self, classical: ClassicalChannel) -> LinkState:
        """For the KMEs; ``peer_connected`` is for the caller to fill in."""
        faults = self._faults(classical)
        verdict = self.verdict
        if self.suspicious:
            state = "suspect"
        elif faults or verdict is None or verdict.state is Condition.DOWN:
            state = "down"
        else:
            state = "up"
        if state != self._state:
            _log.info("link-state", link=self._settings.link, state=state, before=self._state)
            self._state, self._since = state, _now()
        active = verdict.active if verdict is not None else ()
        return LinkState(
            state=state,
            since=self._since,
            alarms=(*(str(alarm) for alarm in active), *faults),
            key_rate=self._steady(self.history.rates()["keys"]) if state == "up" else 0.0,
            peer_connected=False,
            suspect_age=self._suspect_age() if state == "suspect" else None,
        )

    def _steady(self, rate: float) -> float:
        """KMEs pass every change on at once: only a change worth that is told."""
        if abs(rate - self._told_rate) > _RATE_STEP * max(rate, self._told_rate):
            self._told_rate = round(rate, 2)
        return self._told_rate

    def _faults(self, classical: ClassicalChannel) -> tuple[str, ...]:
        """What the detection cannot see, because there is no block to see it in."""
        if classical.session is None:
            return (f"QKD-FAULT-205 ClassicalChannelDown: {classical.last_error}",)
        if self._light_at is None:
            return ("QKD-FAULT-203 DeviceFault: no light from the optics yet",)
        age = time.monotonic() - self._light_at
        if age > max(_PATIENCE * self._spacing, _PATIENCE_LEAST):
            return (f"QKD-FAULT-203 DeviceFault: no light from the optics for {age:.0f} s",)
        if self.verdict is None:
            return ("QKD-FAULT-203 DeviceFault: no block came through yet",)
        return ()

    def _suspect_age(self) -> float:
        """Seconds since the light of the last good block was in."""
        assert self.verdict is not None
        since = self.verdict.suspect_since_block
        good = [at for number, at in self._arrivals if since is None or number < since]
        oldest = self._arrivals[0][1] if self._arrivals else time.monotonic()
        return time.monotonic() - (good[-1] if good else oldest)

    # --- the calibration ---

    def recalibrate(self) -> None:
        """The blocks to come become what is taken for normal."""
        self.detector.relearn()
        self._saved = False

    def _load(self) -> Baseline | None:
        path = self._baseline_file
        if path is None or not path.exists():
            return None
        try:
            baseline = Baseline.from_dict(msgspec.json.decode(path.read_bytes()))
        except (OSError, msgspec.DecodeError, BaselineError) as error:
            raise KmeStartupError(f"{path}: {error}") from error
        self._saved = True
        return baseline

    def _save(self) -> None:
        """Once, when the first good blocks have become the calibration."""
        baseline = self.detector.baseline
        if baseline is None or self._saved:
            return
        self._saved = True
        _log.info("calibrated", link=self._settings.link, blocks=baseline.blocks)
        if self._baseline_file is not None:
            save_baseline(self._baseline_file, baseline)


def save_baseline(path: Path, baseline: Baseline) -> None:
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline.to_dict()), indent=2))
    except OSError as error:
        _log.warning("baseline-not-saved", file=str(path), reason=error.strerror)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
