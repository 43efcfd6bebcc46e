"""Drives one ``TunnelProtection`` with a clock turned by hand, and checks what always holds."""

from __future__ import annotations

from typing import Any

from gateway.model import Protection, QkdPolicy
from gateway.protection.alarms import FOLLOWED
from gateway.protection.decisions import (
    Block,
    ClearAlarm,
    CloseTunnel,
    Decision,
    Initiate,
    QuarantineKeys,
    RaiseAlarm,
    Rekey,
    Unblock,
)
from gateway.protection.inputs import (
    AttemptFailed,
    Health,
    Input,
    KeyStock,
    QuantumHealth,
    SaDown,
    SaUp,
)
from gateway.protection.machine import TunnelProtection
from gateway.protection.settings import ProtectionSettings
from gateway.protection.table import State

DWELL, REKEY_MIN, REKEY_MAX = 60.0, 30.0, 600.0
RETRY_MIN, RETRY_MAX = 1.0, 32.0

ACTS = (Initiate, Rekey, CloseTunnel, Block, Unblock, QuarantineKeys)


class Bench:
    """One tunnel; every step appends to ``log`` and returns that step's decisions."""

    def __init__(
        self, qkd: QkdPolicy | str = "prefer", *, initiates: bool = True, **settings: Any
    ) -> None:
        defaults: dict[str, Any] = {
            "restore_dwell": DWELL,
            "rekey_min": REKEY_MIN,
            "rekey_max": REKEY_MAX,
            "retry_min": RETRY_MIN,
            "retry_max": RETRY_MAX,
        }
        self.settings = ProtectionSettings(
            qkd=QkdPolicy(qkd), initiates=initiates, **(defaults | settings)
        )
        self.now = 1000.0
        self.machine = TunnelProtection(self.settings, now=self.now)
        self.log: list[tuple[float, Decision]] = []
        self._note(self.machine.handle_timer(self.now))

    # --- steps --------------------------------------------------------------------------------

    def put(self, *items: Input) -> tuple[Decision, ...]:
        out: tuple[Decision, ...] = ()
        for item in items:
            out += self._note(self.machine.handle(item, self.now))
        return out

    def keys(self, ready: int, rate: float = 0.0) -> tuple[Decision, ...]:
        return self.put(KeyStock(ready=ready, rate=rate))

    def healthy(self) -> tuple[Decision, ...]:
        return self.put(QuantumHealth(state=Health.HEALTHY, reason="keys", last_good=self.now))

    def lost(self) -> tuple[Decision, ...]:
        return self.put(QuantumHealth(state=Health.LOST, reason="fibre cut"))

    def suspect(self) -> tuple[Decision, ...]:
        return self.put(QuantumHealth(state=Health.SUSPECT, reason="QBER", last_good=990.0))

    def up(self, protection: str = "HYBRID", **fields: Any) -> tuple[Decision, ...]:
        keyed = bool(fields.get("keyed", protection == "HYBRID"))
        fields = {"keyed": keyed, "offered_ppk": keyed} | fields
        return self.put(SaUp(protection=Protection(protection), **fields))

    def down(self) -> tuple[Decision, ...]:
        return self.put(SaDown(reason="deleted by the peer"))

    def fail(self, *, ppk_missing: bool = False, **fields: Any) -> tuple[Decision, ...]:
        return self.put(AttemptFailed(reason="refused", ppk_missing=ppk_missing, **fields))

    def pass_time(self, seconds: float) -> tuple[Decision, ...]:
        """Run every deadline on the way, each at its time."""
        end, out = self.now + seconds, ()
        while (at := self.machine.next_deadline()) is not None and at <= end:
            assert at >= self.now, "a deadline in the past"
            self.now = at
            out += self._note(self.machine.handle_timer(at))
        self.now = end
        return out

    # --- what is to be seen -------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.machine._facts.state

    @property
    def shown(self) -> str:
        return self.machine.protection.value

    @property
    def alarms(self) -> set[str]:
        standing: set[str] = set()
        for _, item in self.log:
            if isinstance(item, RaiseAlarm):
                assert item.id not in standing or item.id in FOLLOWED
                standing.add(item.id)
            elif isinstance(item, ClearAlarm):
                standing.remove(item.id)
        return standing

    def raised(self, alarm: str) -> int:
        return sum(isinstance(item, RaiseAlarm) and item.id == alarm for _, item in self.log)

    def _note(self, decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
        self.log += [(self.now, item) for item in decisions]
        return decisions


def acts(decisions: tuple[Decision, ...]) -> list[str]:
    """What is to be done, in short: ``rekey+`` is with a QKD key, ``rekey-`` without."""
    return [_short(item) for item in decisions if isinstance(item, ACTS)]


def _short(item: Decision) -> str:
    match item:
        case Initiate() | Rekey():
            return type(item).__name__.lower() + ("+" if item.with_ppk else "-")
        case CloseTunnel():
            return "close"
        case QuarantineKeys():
            return "quarantine"
        case _:
            return type(item).__name__.lower()
