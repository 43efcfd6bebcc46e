"""The policy of one tunnel: when to set up, rekey, fall back, return and block.

No clock, no I/O. An input is judged against the policy, which gives a trigger; ``table``
says what the trigger does in the present state; then every deadline that has passed runs the
same way. What stands by itself (which PPKs to accept, alarms, the protection shown) is
computed from the outcome and reported when it differs from before.

A CloseTunnel or Block counts as carried out the moment it is decided: SAs and attempts are
gone. Reports about them that come later change nothing.
"""

from __future__ import annotations

from typing import assert_never

from gateway.ike.config import PpkMode
from gateway.model import Ended, Protection, QkdPolicy, Renewal, Severity
from gateway.protection.alarms import FOLLOWED, standing_alarms
from gateway.protection.deadlines import deadlines
from gateway.protection.decisions import (
    AcceptPpk,
    Block,
    ClearAlarm,
    CloseTunnel,
    Decision,
    Initiate,
    ProtectionChanged,
    QuarantineKeys,
    RaiseAlarm,
    Rekey,
    TrapTraffic,
    Unblock,
)
from gateway.protection.facts import Attempt, TunnelFacts
from gateway.protection.inputs import Health, Input
from gateway.protection.judge import judge
from gateway.protection.quantum import QuantumSide
from gateway.protection.settings import (
    AUTH_RETRY_MAX,
    BACKUP_GRACE,
    FIRST_KEY_WAIT,
    JITTER_SHARE,
    ProtectionSettings,
)
from gateway.protection.table import TABLE, Action, State, Trigger

MAX_STEPS = 16
"""Deadlines that may run at one moment. A chain is at most a few long; more is a fault."""

_REPLACING = (Trigger.REKEY_DUE, Trigger.RETURN_DUE)

_TROUBLE = {
    Trigger.SA_GONE,
    Trigger.SA_REFUSED,
    Trigger.FAILED,
    Trigger.KEY_MISSING_FATAL,
    Trigger.SUSPECTED_FATAL,
    Trigger.NO_KEY,
    Trigger.LIFE_OVER,
    Trigger.DEGRADED_OVER,
    Trigger.AGE_OVER,
}
"""What explains why a tunnel has no SA."""


_AT_START = {
    Renewal.RESTART: "setting up, no answer yet",
    Renewal.TRAP: "waiting for traffic",
    Renewal.NONE: "waiting for peer",
}


class TunnelProtection:
    """Decides for one tunnel. ``handle_timer`` is first due at once."""

    def __init__(self, settings: ProtectionSettings, *, now: float) -> None:
        uses_qkd = settings.qkd is not QkdPolicy.OFF
        self._facts = TunnelFacts(
            settings=settings,
            quantum=QuantumSide(dwell=settings.restore_dwell, peer_key_age=settings.peer_key_age),
            started_at=now,
            renewal=settings.at_start,
            connecting=settings.initiates,
            last_reason=_AT_START[settings.at_start],
            first_wait_until=now + FIRST_KEY_WAIT if uses_qkd else None,
        )
        self._out: list[Decision] = []
        self._started = False
        self._accept: PpkMode | None = None  # as last reported
        self._trap: bool | None = None  # as last reported
        self._alarms: dict[str, tuple[Severity, str]] = {}  # as last reported
        self.protection = Protection.DOWN
        self.reason = self._facts.last_reason
        self.since = now  # of the protection shown

    def handle(self, item: Input, now: float) -> tuple[Decision, ...]:
        """Something happened."""
        judged = judge(item, self._facts, now)
        if judged is not None:
            self._run(*judged, now)
        return self._settle(now)

    def handle_timer(self, now: float) -> tuple[Decision, ...]:
        """The deadline has come; harmless when it has not."""
        return self._settle(now)

    def next_deadline(self) -> float | None:
        """When to call ``handle_timer``; never in the past once that was done."""
        if not self._started:
            return self._facts.started_at
        moments = [at for at, _, _ in deadlines(self._facts)]
        calm_at = self._facts.quantum.calm_at()
        if calm_at is not None:
            moments.append(calm_at)
        return min(moments, default=None)

    @property
    def rekey_due(self) -> float | None:
        """When the running SA is to be replaced, as things stand; None without one."""
        moments = (at for at, trigger, _ in deadlines(self._facts) if trigger in _REPLACING)
        return min(moments, default=None)

    def trusts_keys(self, now: float) -> bool:
        """A QKD key is at hand and may go into an SA."""
        return self._facts.key_trusted(now)

    @property
    def stopped(self) -> bool:
        """By the operator, until he initiates it again."""
        return self._facts.state is State.STOPPED

    def spare_key(self, now: float) -> bool:
        """Whether a QKD key may go into the IKE SA: trusted, and beyond the reserve.

        If so, it counts as taken until the next KeyStock.
        """
        facts = self._facts
        spare = facts.key_trusted(now) and facts.quantum.ready > facts.settings.key_reserve
        if spare:
            facts.quantum.take(now)
        return spare

    @property
    def attempt_under_way(self) -> bool:
        """An Initiate or Rekey was decided and has no outcome yet."""
        return self._facts.attempt is not None

    def admit_peer_key(self, now: float) -> bool:
        """Whether a QKD key that the peer offers may be looked up. Asked once for each offer."""
        return self._facts.quantum.admit_peer_key(now)

    def inherit(self, old: TunnelProtection, now: float) -> None:
        """Take over what must outlive a change of the policy's settings."""
        self._facts.quantum.inherit_doubt(old._facts.quantum, now)

    # --- running the table --------------------------------------------------------------------

    def _settle(self, now: float) -> tuple[Decision, ...]:
        self._started = True
        self._end_first_wait(now)
        for _ in range(MAX_STEPS):
            due = min(
                (item for item in deadlines(self._facts) if item[0] <= now),
                key=lambda item: item[0],
                default=None,
            )
            if due is None:
                return self._report(now)
            self._run(due[1], due[2], now)
        raise RuntimeError(f"policy does not come to rest in {self._facts.state}")

    def _run(self, trigger: Trigger, reason: str, now: float) -> None:
        facts = self._facts
        row = TABLE[facts.state, trigger]
        old, facts.state = facts.state, row.state
        still_stopped = old is row.state is State.STOPPED  # the operator's word stands
        if trigger is not Trigger.CONNECT_DUE and not still_stopped:
            facts.last_reason = reason
        had_sa = old in {State.HYBRID, State.DEGRADED}
        if trigger in _TROUBLE and (had_sa or trigger is not Trigger.SA_GONE):
            facts.trouble = reason
        if old is State.DEGRADED and row.state is not State.DEGRADED:
            facts.degraded_before += now - facts.degraded_since
        elif old is not State.DEGRADED and row.state is State.DEGRADED:
            facts.degraded_since = now
        if row.state is State.STOPPED:
            facts.held_back = False
        for action in row.actions:
            self._act(action, reason, now, was_up=had_sa)

    def _act(self, action: Action, reason: str, now: float, *, was_up: bool) -> None:
        facts = self._facts
        match action:
            case Action.ADOPT:
                self._adopt(now, was_up=was_up)
            case Action.LOSE:
                self._lose(now)
            case Action.DEMAND:
                facts.rekey_wanted_at = now if facts.leads else now + BACKUP_GRACE
                facts.retry_at = now
            case Action.DEMAND_NOW:
                facts.rekey_wanted_at = facts.retry_at = now
            case Action.CONNECT_SOON:
                facts.renew(facts.settings.at_start)
                facts.connecting = True
                self._forgive(now)
            case Action.CONNECT_ONCE:
                facts.connecting = True
            case Action.REST:
                facts.renew(facts.settings.at_start)
                self._forgive(now)
            case Action.INITIATE:
                self._attempt(reason, now, rekey=False, with_ppk=facts.key_trusted(now))
            case Action.INITIATE_WITHOUT_KEY:
                self._attempt(reason, now, rekey=False, with_ppk=False)
            case Action.REKEY:
                self._attempt(reason, now, rekey=True, with_ppk=facts.key_trusted(now))
            case Action.REKEY_WITHOUT_KEY:
                self._attempt(reason, now, rekey=True, with_ppk=False)
            case Action.BACK_OFF:
                self._back_off(now)
            case Action.DWELL:
                facts.quantum.hold(now)
            case Action.DWELL_LONGER:
                self._dwell_longer(now)
            case Action.TRUST:
                self._trust(now)
            case Action.QUARANTINE:
                since = facts.quantum.tainted_since
                self._out.append(QuarantineKeys(since=since, reason=reason))
            case Action.CLOSE:
                self._close(reason)
            case Action.BLOCK:
                facts.degraded_expired |= facts.settings.qkd is QkdPolicy.PREFER
                facts.held_back = True
                self._out.append(Block(reason=reason))
                self._close(reason)
            case Action.UNBLOCK:
                self._out.append(Unblock(reason=reason))
            case _:
                assert_never(action)

    def _forgive(self, now: float) -> None:
        """What failed before delays nothing and is no trouble."""
        facts = self._facts
        facts.retry_at = now
        facts.failures = facts.short_lived = 0
        facts.troubled = False

    def _back_off(self, now: float) -> None:
        facts = self._facts
        facts.attempt = None
        facts.troubled = True
        facts.failures += 1
        longest = facts.settings.retry_max
        if facts.key_spent_in_vain:
            longest = max(longest, AUTH_RETRY_MAX)
        facts.retry_at = now + self._delay(facts.failures, longest)
        facts.connecting = facts.renewal is Renewal.RESTART

    def _dwell_longer(self, now: float) -> None:
        facts, settings = self._facts, self._facts.settings
        facts.keyless += 1
        wait = settings.restore_dwell * 2.0 ** min(facts.keyless - 1, 32)
        facts.quantum.hold(now, at_least=min(wait, settings.rekey_max))

    def _trust(self, now: float) -> None:
        self._facts.quantum.release()
        self._facts.retry_at = max(self._facts.retry_at, now)  # a key that was to ripen is ripe

    def _adopt(self, now: float, *, was_up: bool) -> None:
        facts = self._facts
        facts.sa_since = now
        facts.renew(facts.settings.at_start)
        facts.ended = Ended.HERE
        if not was_up:
            facts.up_since = now
        facts.rekey_wanted_at = None
        facts.first_wait_until = None
        facts.retry_at = now
        facts.failures = 0
        facts.peer_lacks_key = facts.held_back = facts.troubled = False
        if facts.state is State.HYBRID:
            facts.keyless = 0
            facts.degraded_before = 0.0
            facts.degraded_expired = False
            if not facts.quantum.suspect:
                facts.quantum.release()

    def _lose(self, now: float) -> None:
        """Plan the next set-up: at once, but with a back-off while SAs keep dying young."""
        facts = self._facts
        if facts.attempt is not None and facts.attempt.rekey:
            facts.attempt = None
        lived_long = now - facts.up_since >= facts.settings.retry_max
        facts.short_lived = 0 if lived_long else facts.short_lived + 1
        facts.retry_at = now + (
            self._delay(facts.short_lived, facts.settings.retry_max) if facts.short_lived else 0.0
        )
        facts.rekey_wanted_at = None
        facts.renew(facts.settings.after(facts.ended))
        # A peer that is done with an on-demand tunnel is no trouble.
        facts.troubled = not (facts.ended is Ended.BY_PEER and facts.renewal is Renewal.TRAP)
        facts.ended = Ended.HERE

    def _attempt(self, reason: str, now: float, *, rekey: bool, with_ppk: bool) -> None:
        facts = self._facts
        facts.attempt = Attempt(rekey=rekey, with_ppk=with_ppk, since=now)
        facts.key_spent_in_vain = False
        facts.first_wait_until = None
        decide = Rekey if rekey else Initiate
        self._out.append(decide(with_ppk=with_ppk, reason=reason))
        if with_ppk:
            facts.quantum.take(now)

    def _close(self, reason: str) -> None:
        self._facts.attempt = None
        self._facts.rekey_wanted_at = None
        self._out.append(CloseTunnel(reason=reason))

    def _delay(self, failures: int, longest: float) -> float:
        settings = self._facts.settings
        delay = min(longest, settings.retry_min * 2.0 ** min(failures - 1, 32))
        return delay * (1.0 - JITTER_SHARE * settings.jitter)

    def _end_first_wait(self, now: float) -> None:
        """The first key came, or there is a reason not to wait for it."""
        facts = self._facts
        if facts.first_wait_until is None:
            return
        troubled = facts.quantum.health is not Health.HEALTHY
        if troubled or facts.key_trusted(now) or facts.first_wait_until <= now:
            facts.first_wait_until = None

    # --- what stands by itself ----------------------------------------------------------------

    def _report(self, now: float) -> tuple[Decision, ...]:
        facts = self._facts
        calm_at = facts.quantum.calm_at()
        if calm_at is not None and calm_at <= now:
            facts.quantum.calm()
        shown = self._shown()
        if shown is not self.protection:
            change = ProtectionChanged(old=self.protection, new=shown, reason=facts.last_reason)
            self._out.append(change)
            self.protection, self.since, self.reason = shown, now, facts.last_reason
        elif shown in {Protection.DOWN, Protection.BLOCKED}:
            stuck = facts.troubled or facts.held_back
            self.reason = facts.trouble if stuck and facts.trouble else facts.last_reason
        self._report_alarms()
        first: tuple[Decision, ...] = ()
        accept = self._accepted()
        if accept is not self._accept:
            self._accept = accept
            first = (AcceptPpk(mode=accept),)  # before any Initiate or Rekey of this round
        if facts.trapping is not self._trap:
            self._trap = facts.trapping
            self._out.append(TrapTraffic(on=facts.trapping))
        decisions = first + tuple(self._out)
        self._out = []
        return decisions

    def _shown(self) -> Protection:
        match self._facts.state:
            case State.HYBRID | State.DEGRADED:
                return self._facts.sa
            case State.BLOCKED:
                return Protection.BLOCKED
            case State.DOWN if self._facts.held_back:
                return Protection.BLOCKED  # trying again; nothing has changed so far
            case State.DOWN | State.STOPPED:
                return Protection.DOWN

    def _accepted(self) -> PpkMode:
        match self._facts.settings.qkd:
            case QkdPolicy.OFF:
                return PpkMode.OFF
            case _ if self._facts.needs_key:
                return PpkMode.REQUIRE
            case _:
                return PpkMode.OFF if self._facts.quantum.suspect else PpkMode.PREFER

    def _report_alarms(self) -> None:
        standing = standing_alarms(self._facts, self.protection)
        for alarm in [alarm for alarm in self._alarms if alarm not in standing]:
            del self._alarms[alarm]
            self._out.append(ClearAlarm(id=alarm))
        for alarm, (severity, text) in standing.items():
            known = self._alarms.get(alarm)
            if known is None or (alarm in FOLLOWED and known != (severity, text)):
                self._alarms[alarm] = (severity, text)
                self._out.append(RaiseAlarm(id=alarm, severity=severity, text=text))
