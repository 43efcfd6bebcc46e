"""What is to be told of a scenario, however it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netns_lab.errors import LabError
from netns_lab.traffic import Direction


@dataclass(slots=True, kw_only=True)
class Findings:
    """For its row of the report."""

    negotiated: str = ""
    details: list[str] = field(default_factory=list)


def counted(directions: Mapping[str, Direction], findings: Findings) -> tuple[int, int]:
    """Packets sent and lost, which the report tells."""
    sent = sum(direction.sent for direction in directions.values())
    missing = sum(direction.lost for direction in directions.values())
    findings.details.append(f"{missing} of {sent} packets lost")
    return sent, missing


def check_outage(directions: Mapping[str, Direction], over: float, findings: Findings) -> None:
    """How long each direction was out. LabError for packets lost after ``over`` (monotonic)."""
    for name, direction in directions.items():
        if direction.lost_at:
            seconds = direction.lost_at[-1] - direction.lost_at[0]
            findings.details.append(f"{name}: out for {seconds:.1f} s")
        if not direction.received or any(at > over for at in direction.lost_at):
            raise LabError(f"{name}: packets lost after the outage")
