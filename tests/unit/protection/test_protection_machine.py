"""What a tunnel's policy must do over time, policy by policy."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.ike.config import PpkMode
from gateway.protection.decisions import AcceptPpk, Initiate, ProtectionChanged, QuarantineKeys
from gateway.protection.inputs import OperatorInitiate, OperatorRekey, OperatorTerminate, SaExpiring
from tests.support.protection import DWELL, REKEY_MAX, REKEY_MIN, RETRY_MAX, Bench, acts


def hybrid(qkd: str = "prefer", *, keys: int = 1, **settings: float | bool | None) -> Bench:
    bench = Bench(qkd, **settings)
    bench.healthy()
    bench.keys(1)
    bench.up("HYBRID")
    bench.keys(keys)
    return bench


def accepted(bench: Bench) -> PpkMode:
    return [item.mode for _, item in bench.log if isinstance(item, AcceptPpk)][-1]


# --- setting up ----------------------------------------------------------------------------------


def test_an_initiator_waits_for_the_first_key_and_no_longer() -> None:
    bench = Bench("prefer")
    assert acts(bench.pass_time(0.2)) == []
    assert acts(bench.keys(1)) == ["initiate+"]

    late = Bench("prefer")
    assert acts(late.pass_time(5.0)) == ["initiate-"]


def test_trouble_ends_the_wait_for_the_first_key() -> None:
    assert acts(Bench("prefer").lost()) == ["initiate-"]
    assert acts(Bench("require").lost()) == ["block", "close"]


def test_without_qkd_an_initiator_starts_at_once_and_a_responder_never() -> None:
    bench = Bench("off")
    assert acts(tuple(item for _, item in bench.log)) == ["initiate-"]
    responder = Bench("off", initiates=False)
    assert acts(responder.pass_time(10_000)) == []


def test_the_ppk_mode_comes_before_the_first_attempt() -> None:
    bench = Bench("off")
    kinds = [type(item) for _, item in bench.log]
    assert kinds.index(AcceptPpk) < kinds.index(Initiate)


def test_retries_back_off_to_the_ceiling_and_start_over_after_success() -> None:
    bench = Bench("off")
    starts = [bench.now]
    for _ in range(9):
        bench.fail()
        while not bench.machine.attempt_under_way:
            at = bench.machine.next_deadline()
            assert at is not None
            bench.pass_time(at - bench.now)
        starts.append(bench.now)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert set(gaps[6:]) == {RETRY_MAX}
    assert "tunnel-down" in bench.alarms
    bench.up("PQC_ONLY")
    assert bench.alarms == set()
    bench.pass_time(REKEY_MAX)
    bench.fail()
    assert acts(bench.pass_time(1.0)) == ["rekey-"]


def test_jitter_brings_retries_forward_by_its_share() -> None:
    bench = Bench("off", jitter=0.5)
    bench.fail()
    assert bench.machine.next_deadline() == pytest.approx(bench.now + 0.875)


def test_jitter_brings_the_last_moment_of_a_rekey_forward_and_not_the_first() -> None:
    bench = Bench("off", jitter=0.5)
    bench.up("PQC_ONLY")
    assert bench.machine.rekey_due == pytest.approx(bench.now + REKEY_MAX * 0.95)
    rich = Bench("require", jitter=0.5)
    rich.healthy()
    rich.keys(20, rate=10.0)
    rich.up()
    assert rich.machine.rekey_due == pytest.approx(rich.now + REKEY_MIN)


def test_sas_that_die_young_are_not_set_up_in_a_storm() -> None:
    bench = Bench("off")
    attempts = 0
    for _ in range(200):
        if bench.machine.attempt_under_way:
            bench.up("PQC_ONLY")
            bench.down()
            attempts += 1
        bench.pass_time(1.0)
    assert attempts < 15

    steady = Bench("off")
    steady.up("PQC_ONLY")
    steady.pass_time(RETRY_MAX)
    assert acts(steady.down()) == ["initiate-"], "an SA that lived is replaced at once"


def test_no_second_attempt_while_one_is_under_way_and_a_lost_one_ends() -> None:
    bench = hybrid(keys=3)
    assert acts(bench.put(OperatorRekey())) == ["rekey+"]
    assert acts(bench.put(OperatorRekey(), SaExpiring())) == []
    assert acts(bench.pass_time(299.0)) == []
    assert acts(bench.pass_time(2.0)) == ["rekey+"], "an attempt without outcome is given up"


def test_a_late_report_of_an_abandoned_rekey_does_not_fail_the_new_set_up() -> None:
    bench = hybrid(keys=3)
    bench.pass_time(RETRY_MAX)
    bench.put(OperatorRekey())
    assert acts(bench.down()) == ["initiate+"]
    assert acts(bench.fail(rekey=True)) == []
    assert bench.machine.attempt_under_way


# --- prefer --------------------------------------------------------------------------------------


def test_loss_uses_the_remaining_keys_then_goes_on_without() -> None:
    bench = hybrid(keys=2)
    bench.lost()
    assert bench.shown == "HYBRID"
    assert bench.alarms == {"qkd-loss"}
    decided: list[str] = []
    for _ in range(4):
        decided += acts(bench.pass_time(REKEY_MAX))
        bench.up("HYBRID" if decided[-1] == "rekey+" else "PQC_ONLY")
    assert decided == ["rekey+", "rekey+", "rekey-", "rekey-"]
    assert bench.shown == "PQC_ONLY"
    assert bench.alarms == {"qkd-loss", "pqc-only"}


def test_return_comes_after_one_unbroken_dwell() -> None:
    bench = Bench("prefer")
    bench.lost()
    bench.up("PQC_ONLY")
    bench.healthy()
    bench.pass_time(30)
    bench.keys(2)  # only now is there a key: the dwell begins here
    assert acts(bench.pass_time(DWELL - 0.1)) == []
    assert acts(bench.pass_time(0.1)) == ["rekey+"]
    bench.up("HYBRID")
    assert bench.shown == "HYBRID"
    assert bench.alarms == set()


def test_rekeys_without_a_key_do_not_begin_the_dwell_anew() -> None:
    bench = Bench("prefer", rekey_min=5.0, rekey_max=20.0)
    bench.lost()
    bench.up("PQC_ONLY")
    bench.healthy()
    bench.keys(4, 1.0)
    decided: list[str] = []
    while "rekey+" not in decided and bench.now < 1000.0 + 3 * DWELL:
        decided += acts(bench.pass_time(1.0))
        if bench.machine.attempt_under_way and decided[-1] == "rekey-":
            bench.up("PQC_ONLY", offered_ppk=True)  # whatever the reporter makes of it
    assert decided == ["rekey-", "rekey-", "rekey+"]
    assert bench.now == 1000.0 + DWELL


def test_a_flapping_link_stays_pqc_only_with_one_alarm_of_each_kind() -> None:
    bench = hybrid(keys=0)
    bench.lost()
    bench.pass_time(REKEY_MAX)
    bench.up("PQC_ONLY")
    start = bench.now
    while bench.now < start + 20 * DWELL:
        bench.healthy()
        bench.keys(4, 1.0)
        bench.pass_time(DWELL * 0.9)
        bench.keys(0)
        bench.lost()
        if "rekey-" in acts(bench.pass_time(DWELL * 0.2)) or bench.machine.attempt_under_way:
            bench.up("PQC_ONLY")
    changes = [item for at, item in bench.log if isinstance(item, ProtectionChanged) and at > start]
    assert changes == []
    assert bench.shown == "PQC_ONLY"
    assert bench.raised("pqc-only") == bench.raised("qkd-loss") == 1


def test_a_peer_without_a_key_is_asked_ever_more_rarely() -> None:
    bench = Bench("prefer")
    bench.lost()
    bench.up("PQC_ONLY")
    bench.healthy()
    bench.keys(4, 1.0)
    starts = []
    for wait in (DWELL, DWELL, 2 * DWELL, 4 * DWELL):
        assert acts(bench.pass_time(wait)) == ["rekey+"]
        starts.append(bench.now)
        assert acts(bench.up("PQC_ONLY", offered_ppk=False)) == []
    assert [later - earlier for earlier, later in pairwise(starts)] == [
        DWELL,
        2 * DWELL,
        4 * DWELL,
    ]


def test_a_refused_key_is_retried_without_at_once_but_only_once() -> None:
    bench = hybrid(keys=2)
    bench.put(OperatorRekey())
    assert acts(bench.fail(ppk_missing=True)) == ["rekey-"]
    assert acts(bench.fail(ppk_missing=True)) == [], "the peer insists: back off"
    assert bench.shown == "HYBRID"


def test_degraded_max_blocks_and_only_hybrid_ends_it() -> None:
    bench = Bench("prefer", degraded_max=100.0)
    bench.lost()
    bench.up("PQC_ONLY")
    assert accepted(bench) is PpkMode.PREFER
    assert acts(bench.pass_time(99.9)) == []
    assert acts(bench.pass_time(0.1)) == ["block", "close"]
    assert bench.shown == "BLOCKED"
    assert accepted(bench) is PpkMode.REQUIRE
    assert "close" in acts(bench.up("PQC_ONLY", initiated=False))
    bench.healthy()
    assert acts(bench.keys(1)) == ["unblock", "initiate+"]
    assert "blocked" in bench.alarms, "not over before traffic flows"
    bench.up("HYBRID")
    assert bench.shown == "HYBRID"
    assert accepted(bench) is PpkMode.PREFER
    assert "blocked" not in bench.alarms


def test_breaking_the_tunnel_does_not_stretch_degraded_max() -> None:
    bench = Bench("prefer", degraded_max=100.0)
    bench.lost()
    for _ in range(3):
        bench.up("PQC_ONLY")
        bench.pass_time(40.0)
        if bench.shown == "BLOCKED":
            break
        bench.down()
    assert bench.shown == "BLOCKED"


# --- require -------------------------------------------------------------------------------------


def test_require_runs_out_its_sa_then_blocks_then_comes_back() -> None:
    bench = hybrid("require", keys=0)
    bench.lost()
    assert acts(bench.pass_time(REKEY_MAX - 0.1)) == []
    assert bench.shown == "HYBRID"
    assert acts(bench.pass_time(0.1)) == ["block", "close"]
    assert bench.shown == "BLOCKED"
    assert acts(bench.pass_time(10_000)) == []
    bench.healthy()
    assert acts(bench.keys(1)) == ["unblock", "initiate+"]
    bench.up("HYBRID")
    assert bench.shown == "HYBRID"


def test_require_with_keys_here_but_not_at_the_peer_blocks_at_the_end_of_the_sa() -> None:
    bench = hybrid("require", keys=3)
    for _ in range(2000):
        bench.keys(3)
        if bench.machine.attempt_under_way:
            bench.fail(ppk_missing=True)
        if bench.shown == "BLOCKED":
            break
        bench.pass_time(1.0)
    assert bench.shown == "BLOCKED"
    age = bench.now - 1000.0
    assert age == pytest.approx(REKEY_MAX, abs=RETRY_MAX + 2)


def test_require_tries_a_second_key_before_it_blocks_at_the_very_end_of_the_sa() -> None:
    """The first key may have been of a KME whose half at the peer is dead."""
    bench = hybrid("require", keys=1)  # none to spare: the rekey comes as late as it can
    assert acts(bench.pass_time(REKEY_MAX)) == ["rekey+"]
    assert acts(bench.fail(ppk_missing=True)) == []
    bench.keys(1)
    assert acts(bench.pass_time(RETRY_MAX)) == ["rekey+"]
    assert acts(bench.fail(ppk_missing=True)) == ["block", "close"]


def test_a_blocked_tunnel_does_not_burn_a_key_a_second_on_a_dead_peer() -> None:
    bench = Bench("require")
    used = 0
    for _ in range(600):
        bench.keys(1, 1.0)
        if bench.machine.attempt_under_way:
            used += 1
            bench.fail()
        bench.pass_time(1.0)
    assert used < 30


def test_require_never_accepts_less() -> None:
    bench = hybrid("require")
    assert {item.mode for _, item in bench.log if isinstance(item, AcceptPpk)} == {PpkMode.REQUIRE}
    assert acts(bench.up("PQC_ONLY", initiated=False))[0] == "close"


# --- off -----------------------------------------------------------------------------------------


def test_off_is_pqc_only_without_alarms_whatever_the_link_does() -> None:
    bench = Bench("off")
    bench.up("PQC_ONLY")
    bench.lost()
    bench.suspect()
    bench.keys(5, 1.0)
    assert acts(bench.pass_time(REKEY_MAX)) == ["rekey-"]
    assert bench.shown == "PQC_ONLY"
    assert bench.alarms == set()
    assert accepted(bench) is PpkMode.OFF


@pytest.mark.parametrize("allowed", [True, False])
def test_classical_only_where_allowed_and_then_with_a_warning(allowed: bool) -> None:
    bench = Bench("off", allow_classical=allowed)
    bench.up("CLASSICAL")
    assert bench.shown == ("CLASSICAL" if allowed else "DOWN")
    assert ("classical" in bench.alarms) is allowed


@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_classical_with_a_qkd_key_is_what_policy_wants_and_still_shown_as_classical(
    policy: str,
) -> None:
    bench = Bench(policy, allow_classical=True)
    bench.healthy()
    assert acts(bench.keys(4, 1.0)) == ["initiate+"]
    assert acts(bench.up("CLASSICAL", keyed=True)) == []
    assert bench.shown == "CLASSICAL"
    assert bench.alarms == {"classical"}
    assert acts(bench.pass_time(REKEY_MIN - 1)) == [], "nothing to return to"
    assert acts(bench.pass_time(2)) == ["rekey+"]
    bench.up("CLASSICAL", keyed=True)
    assert bench.shown == "CLASSICAL"


def test_a_key_the_peer_did_not_have_yet_makes_the_next_one_ripen() -> None:
    bench = Bench("require", retry_max=1.0)
    bench.healthy()
    for wait in (1.0, 2.0, 4.0):
        bench.keys(1)
        bench.fail(ppk_missing=True)
        bench.keys(0)
        bench.pass_time(100)
        assert acts(bench.keys(1)) == []
        assert acts(bench.pass_time(wait - 0.01)) == []
        assert acts(bench.pass_time(0.01)) == ["unblock", "initiate+"]


def test_where_a_key_is_required_the_rekey_begins_before_the_end_of_the_sa() -> None:
    bench = Bench("require")
    bench.healthy()
    bench.keys(1)
    bench.up()
    bench.keys(1)
    assert acts(bench.pass_time(REKEY_MAX - 61)) == []
    assert acts(bench.pass_time(1)) == ["rekey+"]
    bench.fail(ppk_missing=True)
    assert acts(bench.keys(0) + bench.keys(1)) == []
    assert acts(bench.pass_time(2)) == ["rekey+"]
    assert bench.shown == "HYBRID"


def test_classical_that_loses_its_qkd_key_is_a_fallback_and_ends_by_itself() -> None:
    bench = Bench("prefer", allow_classical=True)
    bench.healthy()
    bench.keys(4)
    bench.up("CLASSICAL", keyed=True)
    bench.put(OperatorRekey())
    bench.up("CLASSICAL", keyed=False)  # the peer had none
    assert bench.state == "degraded"
    assert acts(bench.pass_time(DWELL + 1)) == ["rekey+"]
    bench.up("CLASSICAL", keyed=True)
    assert bench.state == "hybrid"


def test_classical_without_a_qkd_key_is_refused_where_one_is_required() -> None:
    bench = Bench("require", allow_classical=True)
    bench.healthy()
    bench.keys(4)
    assert acts(bench.up("CLASSICAL", keyed=False)) == ["close"]


def test_a_qkd_key_is_no_substitute_for_the_operators_word() -> None:
    bench = Bench("prefer")
    bench.healthy()
    bench.keys(4)
    assert acts(bench.up("CLASSICAL", keyed=True)) == ["close"]


def test_classical_keyed_from_a_suspect_link_is_replaced() -> None:
    bench = Bench("prefer", allow_classical=True)
    bench.healthy()
    bench.keys(4)
    bench.up("CLASSICAL", keyed=True)
    assert acts(bench.suspect()) == ["quarantine", "rekey-"]


# --- suspicion -----------------------------------------------------------------------------------


def test_suspicion_quarantines_replaces_and_refuses_until_a_dwell_after_it_cleared() -> None:
    bench = hybrid(keys=4)
    decided = bench.suspect()
    assert QuarantineKeys(since=990.0, reason="QBER") in decided
    assert acts(decided) == ["quarantine", "rekey-"]
    assert accepted(bench) is PpkMode.OFF
    bench.up("PQC_ONLY")
    assert bench.alarms == {"qkd-suspect", "pqc-only"}
    bench.pass_time(5 * DWELL)
    assert acts(bench.healthy()) == ["quarantine"], "keys delivered meanwhile go too"
    assert accepted(bench) is PpkMode.PREFER
    bench.keys(2)
    assert acts(bench.pass_time(DWELL - 0.1)) == []
    assert acts(bench.pass_time(0.1)) == ["rekey+"]
    bench.up("HYBRID")
    assert bench.alarms == set()


def test_under_suspicion_the_responder_leaves_the_first_move_to_the_initiator() -> None:
    bench = hybrid(initiates=False)
    assert acts(bench.suspect()) == ["quarantine"]
    assert acts(bench.pass_time(0.9)) == []
    assert acts(bench.pass_time(0.1)) == ["rekey-"]

    spared = hybrid(initiates=False)
    spared.suspect()
    spared.up("PQC_ONLY", initiated=False)
    assert acts(spared.pass_time(5.0)) == []


def test_suspicion_under_require_blocks_until_a_dwell_after_it_cleared() -> None:
    bench = hybrid("require", keys=4)
    assert acts(bench.suspect()) == ["quarantine", "block", "close"]
    assert acts(bench.up("HYBRID", initiated=False)) == ["close"], "not from a suspect link"
    bench.healthy()
    bench.keys(4)
    assert acts(bench.pass_time(DWELL - 0.1)) == []
    assert acts(bench.pass_time(0.1)) == ["unblock", "initiate+"]


# --- rekeys --------------------------------------------------------------------------------------


def test_with_ample_keys_the_floor_sets_the_pace() -> None:
    bench = hybrid(keys=8, rekey_min=REKEY_MIN)
    bench.keys(8, 5.0)
    assert bench.machine.rekey_due == bench.now + REKEY_MIN
    assert acts(bench.pass_time(REKEY_MIN - 0.1)) == []
    assert acts(bench.pass_time(0.1)) == ["rekey+"]
    assert bench.machine.rekey_due is None, "it is under way"


def test_a_slow_link_sets_the_pace_and_the_reserve_is_kept() -> None:
    rate = 1 / 50.0
    bench = hybrid(keys=1)
    ready, credit, ages = 1, 0.0, []
    up_at = bench.now
    for _ in range(20 * 50):
        credit += rate
        if credit >= 1.0:
            ready, credit = ready + 1, credit - 1.0
        bench.keys(ready, rate)
        if bench.machine.attempt_under_way:
            ready -= 1
            ages.append(bench.now - up_at)
            up_at = bench.now
            bench.up("HYBRID")
            bench.keys(ready, rate)
            assert ready >= 1, "the reserve was touched"
        bench.pass_time(1.0)
    assert len(ages) == pytest.approx(19, abs=2)


def test_the_responder_is_a_backup_well_after_the_ceiling() -> None:
    bench = hybrid(initiates=False, keys=8)
    bench.keys(8, 5.0)
    assert acts(bench.pass_time(1.5 * REKEY_MAX - 0.1)) == []
    assert acts(bench.pass_time(0.1)) == ["rekey+"]


def test_an_operator_rekey_and_a_soft_limit_do_not_wait_for_the_interval() -> None:
    bench = hybrid()
    assert acts(bench.put(OperatorRekey())) == ["rekey+"]
    expiring = hybrid()
    assert acts(expiring.put(SaExpiring())) == ["rekey+"]


# --- operator ------------------------------------------------------------------------------------


def test_terminated_stays_down_until_initiated_again() -> None:
    bench = hybrid(keys=4)
    assert acts(bench.put(OperatorTerminate())) == ["close"]
    assert bench.shown == "DOWN"
    assert acts(bench.pass_time(10_000)) == []
    assert acts(bench.up("HYBRID", initiated=False)) == ["close"], "not even for the peer"
    assert bench.shown == "DOWN"
    assert bench.machine.reason == "terminated by the operator"
    assert bench.alarms == set(), "wanted by the operator"
    assert acts(bench.put(OperatorInitiate())) == ["initiate+"]


def test_an_operator_may_have_a_responder_initiate_once() -> None:
    bench = Bench("off", initiates=False)
    assert acts(bench.put(OperatorInitiate())) == ["initiate-"]
    bench.fail()
    assert acts(bench.pass_time(1000)) == []


def test_a_peer_that_sets_it_up_while_we_do_too_leaves_one_attempt() -> None:
    bench = Bench("off")
    bench.up("PQC_ONLY", initiated=False)
    assert bench.machine.attempt_under_way
    assert bench.shown == "PQC_ONLY"
    bench.up("PQC_ONLY")
    assert not bench.machine.attempt_under_way
