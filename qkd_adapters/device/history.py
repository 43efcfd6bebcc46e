"""What is remembered of blocks for status and for the telemetry file. No key material."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, TextIO

import msgspec

from qkd_adapters.detection.detector import Verdict
from qkd_adapters.detection.telemetry import BlockTelemetry
from qkd_adapters.device.observe import Seat
from qkd_adapters.errors import KmeStartupError

_SHOWN = 60  # blocks in status
_RATE_SPAN = 20  # blocks over which rates are averaged


def entry(
    seat: Seat, telemetry: BlockTelemetry, verdict: Verdict, *, keys: int, at: float
) -> dict[str, Any]:
    """One line of the telemetry file; ``at`` in seconds since 1970."""
    outcome = seat.run.outcome if seat.run is not None else None
    line: dict[str, Any] = {
        "block": seat.number,
        "light": seat.record.block,
        "time": round(at, 3),
        "seconds": seat.record.seconds,
        "state": verdict.state,
        "calibrating": verdict.calibrating,
        "detections": seat.record.detections,
        "gains": {
            level.name: level.clicks / level.sent for level in telemetry.levels if level.sent
        },
        "double_clicks": telemetry.double_clicks,
        "keys": keys,
        "alarms": [str(alarm) for alarm in verdict.active],
        "raised": [str(alarm) for alarm in verdict.raised],
        "cleared": [str(alarm) for alarm in verdict.cleared],
        "suspect_since_block": verdict.suspect_since_block,
        "values": dict(verdict.values),
        "scores": {name: round(score, 2) for name, score in verdict.scores.items()},
        "joint": round(verdict.joint, 3),
        "photocurrent": telemetry.receiver.photocurrent,
    }
    if outcome is not None and seat.run is not None:
        estimate = outcome.estimate
        line |= {
            "sifted": estimate.sifted,
            "qber_z": estimate.qber_z,
            "qber_x": estimate.qber_x,
            "single_photon": estimate.single_photon,
            "phase_error": estimate.phase_error,
            "secret_bits": estimate.secret_bits,
            "reason": outcome.failure or estimate.reason,
            "leak": estimate.leak,
            "efficiency": outcome.efficiency,
            "rounds": outcome.rounds,
            "excess_noise": estimate.excess_noise,
            "transmittance": estimate.transmittance,
            "took": round(seat.run.took, 4),
            "busy": round(seat.run.busy, 4),
        }
    return line


class History:
    """The last blocks, and the file that gets all of them."""

    def __init__(self, path: Path | None) -> None:
        """Raises KmeStartupError."""
        self._entries: deque[dict[str, Any]] = deque(maxlen=_SHOWN)
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = path.open("a", buffering=1, encoding="utf-8")
            except OSError as error:
                raise KmeStartupError(f"cannot write {path}: {error.strerror}") from error

    def add(self, line: dict[str, Any]) -> None:
        self._entries.append(line)
        if self._file is not None:
            self._file.write(msgspec.json.encode(line).decode() + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def last(self) -> dict[str, Any] | None:
        return self._entries[-1] if self._entries else None

    def rates(self) -> dict[str, float]:
        """Per second, over the last blocks; by the clock on the wall, not that of the light."""
        recent = list(self._entries)[-_RATE_SPAN:]
        if len(recent) < 2:
            return {"secret_bits": 0.0, "sifted": 0.0, "keys": 0.0}
        span = max(recent[-1]["time"] - recent[0]["time"], 1e-3)
        return {
            name: sum(line.get(name) or 0 for line in recent[1:]) / span
            for name in ("secret_bits", "sifted", "keys")
        }

    def shown(self) -> list[dict[str, Any]]:
        """A few figures of each of the last blocks."""
        names = ("block", "light", "time", "state", "sifted", "qber_z", "secret_bits", "keys")
        return [{name: line.get(name) for name in names} for line in self._entries]
