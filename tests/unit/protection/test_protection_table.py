# ruff: noqa: E501  (one arrow, one line)
"""Every arrow of the policy table, reached by inputs, with what it must do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.protection.decisions import Decision
from gateway.protection.inputs import (
    OperatorInitiate,
    OperatorRekey,
    OperatorTerminate,
    PeerLost,
    SaExpiring,
    TrafficCeased,
    TrafficWaiting,
)
from gateway.protection.machine import TunnelProtection
from gateway.protection.table import TABLE, State, Trigger
from tests.support.protection import REKEY_MAX, Bench, acts

D, H, G, B, S = State.DOWN, State.HYBRID, State.DEGRADED, State.BLOCKED, State.STOPPED
T = Trigger

Step = Callable[[Bench], tuple[Decision, ...]]
Arrow = tuple[State, Trigger, Callable[[], Bench], Step, State, list[str]]


WAITS = TrafficWaiting(reason="traffic waits")
CEASED = TrafficCeased(reason="no traffic")


def down(policy: str, *, keys: int = 1, initiates: bool = True, on_demand: bool = False) -> Bench:
    """DOWN; an initiator has an attempt under way where policy lets it."""
    bench = Bench(policy, initiates=initiates, on_demand=on_demand)
    bench.healthy()
    bench.keys(keys)
    if not keys and policy == "prefer":
        bench.pass_time(10)
    return bench


def hybrid(policy: str = "prefer", *, keys: int = 1) -> Bench:
    bench = down(policy)
    bench.up("HYBRID")
    bench.keys(keys)
    assert bench.state is H
    return bench


def hybrid_rekeying(policy: str) -> Bench:
    bench = hybrid(policy)
    assert acts(bench.put(OperatorRekey())) == ["rekey+"]
    return bench


def degraded(**settings: float | bool) -> Bench:
    bench = Bench("prefer", **settings)
    bench.lost()
    bench.up("PQC_ONLY")
    assert bench.state is G
    return bench


def returning() -> Bench:
    bench = degraded()
    bench.healthy()
    bench.keys(2)
    assert acts(bench.pass_time(60)) == ["rekey+"]
    return bench


def blocked() -> Bench:
    bench = Bench("require")
    bench.lost()
    assert bench.state is B
    return bench


def stopped(policy: str = "prefer") -> Bench:
    bench = hybrid(policy)
    bench.put(OperatorTerminate())
    assert bench.state is S
    return bench


def suspected(bench: Bench) -> Bench:
    bench.suspect()
    return bench


def _refuse_rekeys(bench: Bench) -> tuple[Decision, ...]:
    """The peer refuses each rekey until the SA is too old; returns the last decisions."""
    decided: tuple[Decision, ...] = ()
    while bench.state not in {D, B}:
        at = bench.machine.next_deadline()
        assert at is not None
        decided = bench.pass_time(at - bench.now)
        if bench.machine.attempt_under_way:
            bench.fail()
    return decided


ARROWS: list[Arrow] = [
    # from, trigger, how to get there, what happens, to, what is to be done
    (D, T.SA_HYBRID, lambda: down("prefer"), lambda b: b.up("HYBRID"), H, []),
    (D, T.SA_DEGRADED, lambda: down("prefer", keys=0), lambda b: b.up("PQC_ONLY"), G, []),
    (D, T.SA_KEYLESS, lambda: down("prefer"), lambda b: b.up("PQC_ONLY", offered_ppk=True), G, []),
    (D, T.SA_TAINTED, lambda: suspected(down("prefer")), lambda b: b.up("HYBRID"), H, ["rekey-"]),
    (D, T.SA_REFUSED, lambda: down("require"), lambda b: b.up("PQC_ONLY"), B, ["close", "block", "close"]),
    (D, T.SA_GONE, lambda: down("prefer"), lambda b: b.down(), D, []),
    (D, T.FAILED, lambda: down("prefer"), lambda b: b.fail(), D, []),
    (D, T.KEY_MISSING_TOLERATED, lambda: down("prefer"), lambda b: b.fail(ppk_missing=True), D, ["initiate-"]),
    (D, T.KEY_MISSING_FATAL, lambda: down("require"), lambda b: b.fail(ppk_missing=True), B, ["block", "close"]),
    (D, T.SUSPECTED_TOLERATED, lambda: down("prefer"), lambda b: b.suspect(), D, ["quarantine"]),
    (D, T.SUSPECTED_FATAL, lambda: down("require"), lambda b: b.suspect(), B, ["quarantine", "block", "close"]),
    (D, T.CLEARED, lambda: suspected(down("prefer")), lambda b: b.healthy(), D, ["quarantine"]),
    (D, T.EXPIRING, lambda: down("prefer"), lambda b: b.put(SaExpiring()), D, []),
    (D, T.TRAFFIC, lambda: down("prefer", initiates=False, on_demand=True), lambda b: b.put(WAITS), D, ["initiate+"]),
    (D, T.OPERATOR_INITIATE, lambda: down("prefer", initiates=False), lambda b: b.put(OperatorInitiate()), D, ["initiate+"]),
    (D, T.OPERATOR_REKEY, lambda: down("prefer"), lambda b: b.put(OperatorRekey()), D, []),
    (D, T.OPERATOR_TERMINATE, lambda: down("prefer"), lambda b: b.put(OperatorTerminate()), S, ["close"]),
    (D, T.CONNECT_DUE, lambda: Bench("prefer"), lambda b: b.keys(1), D, ["initiate+"]),
    (D, T.NO_KEY, lambda: Bench("require"), lambda b: b.pass_time(10), B, ["block", "close"]),
    (H, T.SA_HYBRID, hybrid, lambda b: b.up("HYBRID"), H, []),
    (H, T.SA_DEGRADED, lambda: hybrid(keys=0), lambda b: b.up("PQC_ONLY"), G, []),
    (H, T.SA_KEYLESS, hybrid, lambda b: b.up("PQC_ONLY", offered_ppk=True), G, []),
    (H, T.SA_TAINTED, lambda: suspected(hybrid_rekeying("prefer")), lambda b: b.up("HYBRID"), H, ["rekey-"]),
    (H, T.SA_REFUSED, lambda: hybrid("require"), lambda b: b.up("PQC_ONLY"), D, ["close"]),
    (H, T.SA_GONE, hybrid, lambda b: b.down(), D, []),
    (H, T.FAILED, lambda: hybrid_rekeying("prefer"), lambda b: b.fail(), H, []),
    (H, T.KEY_MISSING_TOLERATED, lambda: hybrid_rekeying("prefer"), lambda b: b.fail(ppk_missing=True), H, ["rekey-"]),
    (H, T.KEY_MISSING_FATAL, lambda: hybrid_rekeying("require"), lambda b: b.fail(ppk_missing=True), H, []),
    (H, T.SUSPECTED_TOLERATED, hybrid, lambda b: b.suspect(), H, ["quarantine", "rekey-"]),
    (H, T.SUSPECTED_FATAL, lambda: hybrid("require"), lambda b: b.suspect(), B, ["quarantine", "block", "close"]),
    (H, T.CLEARED, lambda: suspected(hybrid()), lambda b: b.healthy(), H, ["quarantine"]),
    (H, T.EXPIRING, hybrid, lambda b: b.put(SaExpiring()), H, ["rekey+"]),
    (H, T.IDLE, hybrid, lambda b: b.put(CEASED), D, ["close", "initiate+"]),
    (H, T.OPERATOR_INITIATE, hybrid, lambda b: b.put(OperatorInitiate()), H, []),
    (H, T.OPERATOR_REKEY, hybrid, lambda b: b.put(OperatorRekey()), H, ["rekey+"]),
    (H, T.OPERATOR_TERMINATE, hybrid, lambda b: b.put(OperatorTerminate()), S, ["close"]),
    (H, T.REKEY_DUE, hybrid, lambda b: b.pass_time(REKEY_MAX), H, ["rekey+"]),
    (H, T.LIFE_OVER, lambda: hybrid("require", keys=0), lambda b: b.pass_time(REKEY_MAX), B, ["block", "close"]),
    (H, T.AGE_OVER, hybrid, _refuse_rekeys, D, ["close", "initiate-"]),
    (G, T.SA_HYBRID, returning, lambda b: b.up("HYBRID"), H, []),
    (G, T.SA_DEGRADED, degraded, lambda b: b.up("PQC_ONLY", initiated=False), G, []),
    (G, T.SA_KEYLESS, returning, lambda b: b.up("PQC_ONLY"), G, []),
    (G, T.SA_TAINTED, lambda: suspected(returning()), lambda b: b.up("HYBRID"), H, ["rekey-"]),
    (G, T.SA_REFUSED, degraded, lambda b: b.up("CLASSICAL"), D, ["close"]),
    (G, T.SA_GONE, degraded, lambda b: b.put(PeerLost(reason="silent")), D, []),
    (G, T.FAILED, returning, lambda b: b.fail(), G, []),
    (G, T.KEY_MISSING_TOLERATED, returning, lambda b: b.fail(ppk_missing=True), G, []),
    (G, T.SUSPECTED_TOLERATED, degraded, lambda b: b.suspect(), G, ["quarantine"]),
    (G, T.CLEARED, lambda: suspected(degraded()), lambda b: b.healthy(), G, ["quarantine"]),
    (G, T.EXPIRING, degraded, lambda b: b.put(SaExpiring()), G, ["rekey-"]),
    (G, T.IDLE, degraded, lambda b: b.put(CEASED), D, ["close", "initiate-"]),
    (G, T.OPERATOR_INITIATE, degraded, lambda b: b.put(OperatorInitiate()), G, []),
    (G, T.OPERATOR_REKEY, degraded, lambda b: b.put(OperatorRekey()), G, ["rekey-"]),
    (G, T.OPERATOR_TERMINATE, degraded, lambda b: b.put(OperatorTerminate()), S, ["close"]),
    (G, T.REKEY_DUE, degraded, lambda b: b.pass_time(REKEY_MAX), G, ["rekey-"]),
    (G, T.RETURN_DUE, lambda: (b := degraded(), b.healthy(), b.keys(2))[0], lambda b: b.pass_time(60), G, ["rekey+"]),
    (G, T.DEGRADED_OVER, lambda: degraded(degraded_max=20.0), lambda b: b.pass_time(20), B, ["block", "close"]),
    (G, T.AGE_OVER, degraded, _refuse_rekeys, D, ["close", "initiate-"]),
    (B, T.SA_HYBRID, blocked, lambda b: b.up("HYBRID", initiated=False), H, ["unblock"]),
    (B, T.SA_REFUSED, blocked, lambda b: b.up("PQC_ONLY", initiated=False), B, ["close"]),
    (B, T.SA_GONE, blocked, lambda b: b.down(), B, []),
    (B, T.SUSPECTED_FATAL, blocked, lambda b: b.suspect(), B, ["quarantine"]),
    (B, T.CLEARED, lambda: suspected(blocked()), lambda b: b.healthy(), B, ["quarantine"]),
    (B, T.EXPIRING, blocked, lambda b: b.put(SaExpiring()), B, []),
    (B, T.OPERATOR_INITIATE, blocked, lambda b: b.put(OperatorInitiate()), B, []),
    (B, T.OPERATOR_REKEY, blocked, lambda b: b.put(OperatorRekey()), B, []),
    (B, T.OPERATOR_TERMINATE, blocked, lambda b: b.put(OperatorTerminate()), S, ["unblock", "close"]),
    (B, T.KEYS_BACK, blocked, lambda b: b.keys(1), D, ["unblock", "initiate+"]),
    (S, T.SA_HYBRID, stopped, lambda b: b.up("HYBRID"), S, ["close"]),
    (S, T.SA_DEGRADED, stopped, lambda b: b.up("PQC_ONLY"), S, ["close"]),
    (S, T.SA_KEYLESS, stopped, lambda b: b.up("PQC_ONLY", offered_ppk=True), S, ["close"]),
    (S, T.SA_TAINTED, lambda: suspected(stopped()), lambda b: b.up("HYBRID"), S, ["close"]),
    (S, T.SA_REFUSED, stopped, lambda b: b.up("CLASSICAL"), S, ["close"]),
    (S, T.SA_GONE, stopped, lambda b: b.down(), S, []),
    (S, T.SUSPECTED_TOLERATED, stopped, lambda b: b.suspect(), S, ["quarantine"]),
    (S, T.SUSPECTED_FATAL, lambda: stopped("require"), lambda b: b.suspect(), S, ["quarantine"]),
    (S, T.CLEARED, lambda: suspected(stopped()), lambda b: b.healthy(), S, ["quarantine"]),
    (S, T.EXPIRING, stopped, lambda b: b.put(SaExpiring()), S, []),
    (S, T.OPERATOR_INITIATE, stopped, lambda b: b.put(OperatorInitiate()), D, ["initiate+"]),
    (S, T.OPERATOR_REKEY, stopped, lambda b: b.put(OperatorRekey()), S, []),
    (S, T.OPERATOR_TERMINATE, stopped, lambda b: b.put(OperatorTerminate()), S, []),
]  # fmt: skip


@pytest.mark.parametrize("arrow", ARROWS, ids=[f"{arrow[0]}-{arrow[1].name}" for arrow in ARROWS])
def test_arrow(arrow: Arrow, monkeypatch: pytest.MonkeyPatch) -> None:
    state, trigger, arrive, happen, then, expected = arrow
    bench = arrive()
    assert bench.state is state
    taken: list[tuple[State, Trigger]] = []
    run = TunnelProtection._run

    def spy(self: TunnelProtection, trigger: Trigger, reason: str, now: float) -> None:
        taken.append((self._facts.state, trigger))
        run(self, trigger, reason, now)

    monkeypatch.setattr(TunnelProtection, "_run", spy)
    decided = happen(bench)
    assert (state, trigger) in taken
    assert acts(decided) == expected
    assert bench.state is then


def test_the_arrows_are_exactly_the_table() -> None:
    assert {(state, trigger) for state, trigger, *_ in ARROWS} == set(TABLE)
    assert len(ARROWS) == len(TABLE)
