"""Whatever happens in whatever order, a tunnel's policy keeps its promises."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike.config import PpkMode
from gateway.model import Ended, Protection, QkdPolicy, Renewal
from gateway.protection.alarms import FOLLOWED
from gateway.protection.decisions import (
    AcceptPpk,
    Block,
    ClearAlarm,
    CloseTunnel,
    Decision,
    Initiate,
    ProtectionChanged,
    RaiseAlarm,
    Rekey,
    TrapTraffic,
)
from gateway.protection.inputs import (
    AttemptFailed,
    Health,
    Input,
    KeyStock,
    OperatorInitiate,
    OperatorRekey,
    OperatorTerminate,
    PeerFailed,
    PeerLost,
    QuantumHealth,
    SaDown,
    SaExpiring,
    SaUp,
    TrafficCeased,
    TrafficWaiting,
)
from gateway.protection.machine import TunnelProtection
from gateway.protection.settings import ATTEMPT_LIMIT, FIRST_KEY_WAIT, ProtectionSettings

INPUTS = st.one_of(
    st.builds(
        QuantumHealth,
        state=st.sampled_from(Health),
        reason=st.just("link"),
        last_good=st.none() | st.just(90.0),
    ),
    st.builds(KeyStock, ready=st.integers(0, 5), rate=st.sampled_from([0.0, 0.05, 2.0])),
    st.builds(
        lambda made, **rest: SaUp(protection=made[0], keyed=made[1], **rest),
        st.sampled_from(
            [
                (Protection.HYBRID, True),
                (Protection.HYBRID, True),
                (Protection.PQC_ONLY, False),
                (Protection.CLASSICAL, True),
                (Protection.CLASSICAL, False),
            ]
        ),
        offered_ppk=st.booleans(),
        initiated=st.booleans(),
    ),
    st.builds(SaDown, reason=st.just("deleted"), ended=st.sampled_from(Ended)),
    st.just(PeerLost(reason="silent")),
    st.just(PeerFailed(reason="wrong pre-shared key")),
    st.builds(
        AttemptFailed,
        reason=st.just("refused"),
        ppk_missing=st.booleans(),
        rekey=st.sampled_from([None, True, False]),
    ),
    st.just(SaExpiring()),
    st.just(TrafficWaiting(reason="a packet waits")),
    st.just(TrafficCeased(reason="no traffic")),
    st.just(OperatorInitiate()),
    st.just(OperatorRekey()),
    st.just(OperatorTerminate()),
)
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 7.0, 61.0, 700.0]), INPUTS), max_size=60)
SETTINGS = st.builds(
    ProtectionSettings,
    qkd=st.sampled_from(QkdPolicy),
    initiates=st.booleans(),
    on_demand=st.booleans(),
    dpd_action=st.sampled_from([None, *Renewal]),
    close_action=st.sampled_from([None, *Renewal]),
    allow_classical=st.booleans(),
    restore_dwell=st.sampled_from([0.0, 60.0]),
    degraded_max=st.sampled_from([None, 0.5, 100.0]),
    rekey_min=st.sampled_from([5.0, 30.0]),
    rekey_max=st.just(600.0),
    key_reserve=st.integers(0, 2),
    jitter=st.sampled_from([0.0, 0.9]),
)


class Auditor:
    """Follows one machine from outside and holds it to its promises after every step."""

    def __init__(self, wanted: ProtectionSettings) -> None:
        self.settings = wanted
        self.start = self.now = 100.0
        self.machine = TunnelProtection(wanted, now=self.now)
        self.attempt: Initiate | Rekey | None = None
        self.attempt_since = self.now
        self.shown = Protection.DOWN
        self.in_kernel: Protection | None = None
        self.keyed = False  # what is in the kernel has a QKD key
        self.alarms: dict[str, str] = {}  # id -> text
        self.mode: PpkMode | None = None
        self.trapping: bool | None = None
        self.suspect = False
        self.ready = 0
        self.stopped = False
        self.check(self.machine.handle_timer(self.now))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(5000):
            at = self.machine.next_deadline()
            if at is None or at > end:
                break
            assert at >= self.now, "a deadline in the past"
            self.now = at
            self.check(self.machine.handle_timer(at))
            later = self.machine.next_deadline()
            assert later is None or later > at, "no progress"
        else:
            raise AssertionError("too many deadlines")
        self.now = end

    def put(self, item: Input) -> None:
        match item:
            case SaUp():
                self.in_kernel, self.keyed = item.protection, item.keyed
                if item.initiated:
                    self.attempt = None
            case TrafficCeased() if self.in_kernel is not None:
                self.attempt = None  # the tunnel is closed, whatever was under way
            case SaDown() | PeerLost():
                self.in_kernel = None
                if isinstance(self.attempt, Rekey):
                    self.attempt = None
            case AttemptFailed(rekey=kind):
                if kind is None or kind == isinstance(self.attempt, Rekey):
                    self.attempt = None
            case KeyStock():
                self.ready = item.ready
            case QuantumHealth():
                self.suspect = item.state is Health.SUSPECT
            case OperatorTerminate():
                self.stopped = True
            case OperatorInitiate():
                self.stopped = False
            case _:
                pass
        self.check(self.machine.handle(item, self.now))
        deadline = self.machine.next_deadline()
        assert deadline is None or deadline > self.now, "what was due did not run"

    def check(self, decisions: tuple[Decision, ...]) -> None:
        for item in decisions:
            self.check_one(item)
        assert self.machine.protection is self.shown
        self.check_rest()

    def check_one(self, item: Decision) -> None:
        policy = self.settings.qkd
        match item:
            case Initiate() | Rekey():
                given_up = self.now - self.attempt_since >= ATTEMPT_LIMIT
                assert self.attempt is None or given_up, "two attempts at a time"
                assert policy is not QkdPolicy.REQUIRE or item.with_ppk
                assert not (item.with_ppk and (policy is QkdPolicy.OFF or self.suspect))
                assert not item.with_ppk or self.ready > 0
                assert not (self.mode is PpkMode.REQUIRE and not item.with_ppk)
                assert not self.stopped
                self.attempt, self.attempt_since = item, self.now
                self.ready -= item.with_ppk
            case CloseTunnel() | Block():
                self.attempt = None
                self.in_kernel = None
            case RaiseAlarm():
                assert self.alarms.get(item.id) != item.text
                assert item.id not in self.alarms or item.id in FOLLOWED
                self.alarms[item.id] = item.text
            case ClearAlarm():
                del self.alarms[item.id]
            case TrapTraffic():
                assert item.on is not self.trapping
                self.trapping = item.on
            case AcceptPpk():
                assert item.mode is not self.mode
                self.mode = item.mode
            case ProtectionChanged():
                assert item.old is self.shown
                assert item.new is not self.shown
                self.shown = item.new
            case _:
                pass

    def check_rest(self) -> None:
        policy, shown = self.settings.qkd, self.shown
        if self.stopped or self.in_kernel is not None:
            assert not self.trapping, "a trap is for a tunnel without an SA that may have one"
        if shown in {Protection.HYBRID, Protection.PQC_ONLY, Protection.CLASSICAL}:
            assert shown is self.in_kernel, "shown is what is in the kernel"
        else:
            assert self.in_kernel is None, "what is not shown is closed"
        match policy:
            case QkdPolicy.REQUIRE:
                assert self.mode is PpkMode.REQUIRE
                assert self.in_kernel is None or self.keyed
                waiting = self.now <= self.start + FIRST_KEY_WAIT
                idle = self.attempt is None and not self.stopped and not waiting
                if idle and self.in_kernel is None and (not self.ready or self.suspect):
                    assert shown is Protection.BLOCKED
            case QkdPolicy.OFF:
                assert self.mode is PpkMode.OFF
                assert shown is not Protection.BLOCKED
                assert self.alarms.keys() <= {"classical", "tunnel-down"}
            case QkdPolicy.PREFER:
                if self.mode is not PpkMode.REQUIRE:
                    assert (self.mode is PpkMode.OFF) == self.suspect
        if shown is Protection.CLASSICAL:
            assert self.settings.allow_classical
            assert "classical" in self.alarms
        if shown is Protection.PQC_ONLY and policy is QkdPolicy.PREFER:
            assert "pqc-only" in self.alarms
        if shown is Protection.BLOCKED:
            assert "blocked" in self.alarms
        if shown is Protection.HYBRID:
            assert not self.alarms.keys() & {"pqc-only", "blocked", "tunnel-down", "classical"}


@settings(max_examples=300, deadline=None)
@given(wanted=SETTINGS, steps=STEPS)
def test_promises_hold_in_any_order_of_events(wanted: ProtectionSettings, steps: list[Any]) -> None:
    auditor = Auditor(wanted)
    for delay, item in steps:
        auditor.pass_time(delay)
        auditor.put(item)
    auditor.pass_time(2000.0)


@settings(max_examples=100, deadline=None)
@given(wanted=SETTINGS, steps=STEPS)
def test_an_initiator_whose_world_is_well_again_comes_up(
    wanted: ProtectionSettings, steps: list[Any]
) -> None:
    """Liveness: from any state, with keys and a peer that answers, the tunnel comes up."""
    auditor = Auditor(wanted)
    for delay, item in steps:
        auditor.pass_time(delay)
        auditor.put(item)
    auditor.put(QuantumHealth(state=Health.HEALTHY, reason="well", last_good=auditor.now))
    auditor.put(OperatorInitiate())
    best = Protection.PQC_ONLY if wanted.qkd is QkdPolicy.OFF else Protection.HYBRID
    for _ in range(900):
        auditor.put(KeyStock(ready=5, rate=2.0))
        if auditor.attempt is not None:
            mixed = Protection.HYBRID if auditor.attempt.with_ppk else Protection.PQC_ONLY
            keyed = auditor.attempt.with_ppk
            auditor.put(SaUp(protection=mixed, keyed=keyed, offered_ppk=keyed))
        auditor.pass_time(1.0)
    if wanted.initiates:
        assert auditor.shown is best
        assert not auditor.alarms
