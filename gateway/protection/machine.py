"""The policy of one tunnel."""

from __future__ import annotations

from gateway.model import Protection
from gateway.protection.decisions import Decision
from gateway.protection.inputs import Input
from gateway.protection.settings import ProtectionSettings


class TunnelProtection:
    """Decides when to set up, rekey, fall back, return and block."""

    def __init__(self, settings: ProtectionSettings, *, now: float) -> None:
        self.protection = Protection.DOWN
        self.reason = "starting"
        self.since = now
        self._settings = settings

    def handle(self, item: Input, now: float) -> tuple[Decision, ...]:
        """Something happened."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> tuple[Decision, ...]:
        """The deadline has come."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When to call ``handle_timer``; the first is at once."""
        raise NotImplementedError
