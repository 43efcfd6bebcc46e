"""What waits for the driver."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.mka.commands import Command
from gateway.mka.events import Event


@dataclass(slots=True)
class Outbox:
    frames: list[bytes] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
