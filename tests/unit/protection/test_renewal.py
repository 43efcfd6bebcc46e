"""What a tunnel without an SA does: set up again, wait for traffic, or wait."""

from __future__ import annotations

import itertools

import pytest

from gateway.model import Ended, Renewal
from gateway.protection.decisions import TrapTraffic
from gateway.protection.inputs import (
    OperatorInitiate,
    OperatorTerminate,
    PeerLost,
    SaDown,
    SaExpiring,
    TrafficCeased,
    TrafficWaiting,
)
from tests.support.protection import REKEY_MAX, Bench, acts

WAITS = TrafficWaiting(reason="traffic from 10.1.0.10 to 10.2.0.10 waits")
CEASED = TrafficCeased(reason="no traffic for 300 s")
LOST = SaDown(reason="no answer", ended=Ended.PEER_LOST)
CLOSED = SaDown(reason="deleted by the peer", ended=Ended.BY_PEER)
HERE = SaDown(reason="lifetime ended in the kernel", ended=Ended.HERE)


def trapped(bench: Bench) -> bool:
    said = [item.on for _, item in bench.log if isinstance(item, TrapTraffic)]
    assert all(one is not two for one, two in itertools.pairwise(said))
    return said[-1]


def at_start(start: str, **settings: object) -> Bench:
    return Bench("off", initiates=start == "initiate", on_demand=start == "trap", **settings)


def up(start: str, **settings: object) -> Bench:
    bench = at_start(start, **settings)
    bench.up("PQC_ONLY", initiated=start == "initiate")
    return bench


# --- on demand -------------------------------------------------------------------------------


def test_an_on_demand_tunnel_waits_for_traffic_without_an_alarm() -> None:
    bench = at_start("trap")
    assert acts(bench.pass_time(1e6)) == []
    assert trapped(bench)
    assert bench.alarms == set()
    assert bench.machine.reason == "waiting for traffic"
    assert acts(bench.put(WAITS)) == ["initiate-"]
    assert acts(bench.put(WAITS, WAITS)) == [], "it is being set up already"
    bench.up("PQC_ONLY")
    assert not trapped(bench)
    assert acts(bench.put(WAITS)) == []


@pytest.mark.parametrize("start", ["initiate", "respond"])
def test_other_tunnels_are_not_set_up_by_traffic(start: str) -> None:
    bench = at_start(start)
    bench.fail() if start == "initiate" else None
    assert not trapped(bench)
    assert acts(bench.put(WAITS)) == []


def test_traffic_does_not_get_round_the_back_off() -> None:
    bench = at_start("trap")
    gaps = []
    for _ in range(8):
        begun = bench.now
        decided = bench.put(WAITS)
        while not acts(decided):
            at = bench.machine.next_deadline()
            assert at is not None
            decided = bench.pass_time(at - bench.now)
        gaps.append(bench.now - begun)
        bench.fail()
        assert acts(bench.pass_time(0.0)) == []
        assert trapped(bench), "it is told of traffic again"
    assert gaps == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0]
    assert "tunnel-down" in bench.alarms
    assert acts(bench.pass_time(1e6)) == [], "nobody wants it"


def test_the_end_that_set_an_on_demand_tunnel_up_is_the_first_to_rekey() -> None:
    ours = at_start("trap")
    ours.put(WAITS)
    ours.up("PQC_ONLY")
    assert ours.machine.rekey_due == ours.now + REKEY_MAX
    assert acts(ours.put(SaExpiring())) == ["rekey-"]
    theirs = at_start("trap")
    theirs.up("PQC_ONLY", initiated=False)
    assert theirs.machine.rekey_due == theirs.now + 1.5 * REKEY_MAX
    assert acts(theirs.put(SaExpiring())) == []
    assert acts(theirs.pass_time(1.0)) == ["rekey-"]


def test_a_responder_never_sets_up_and_yet_rekeys_when_the_initiator_does_not() -> None:
    bench = at_start("respond")
    assert acts(bench.pass_time(1e6)) == []
    bench.up("PQC_ONLY", initiated=False)
    assert acts(bench.pass_time(1.5 * REKEY_MAX)) == ["rekey-"]
    bench.down()
    assert acts(bench.pass_time(1e6)) == []


@pytest.mark.parametrize("start", ["trap", "respond"])
def test_an_idle_tunnel_closes_and_is_as_at_the_start(start: str) -> None:
    bench = up(start)
    assert acts(bench.put(CEASED)) == ["close"]
    assert bench.shown == "DOWN"
    assert bench.machine.reason == "no traffic for 300 s"
    assert bench.alarms == set()
    assert trapped(bench) is (start == "trap")
    assert acts(bench.pass_time(1e6)) == []
    assert acts(bench.put(WAITS)) == (["initiate-"] if start == "trap" else [])


def test_nothing_ceases_in_a_tunnel_that_is_down() -> None:
    assert acts(at_start("trap").put(CEASED)) == []


def test_terminated_means_not_set_up_by_traffic_either() -> None:
    bench = up("trap")
    bench.put(OperatorTerminate())
    assert not trapped(bench)
    assert acts(bench.put(WAITS)) == []
    assert acts(bench.pass_time(1e6)) == []
    assert acts(bench.put(OperatorInitiate())) == ["initiate-"]


def test_a_trap_without_a_key_is_blocked_and_laid_again_when_keys_are_back() -> None:
    bench = Bench("require", initiates=False, on_demand=True)
    bench.lost()
    assert bench.shown == "BLOCKED"
    assert not trapped(bench)
    assert acts(bench.put(WAITS)) == []
    bench.healthy()
    assert acts(bench.keys(2)) == ["unblock"]
    assert trapped(bench)
    assert acts(bench.put(WAITS)) == ["initiate+"]


# --- dpd_action and close_action -------------------------------------------------------------

KEYS = {"dpd_action": LOST, "close_action": CLOSED}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("start", ["initiate", "respond", "trap"])
@pytest.mark.parametrize("renewal", [None, *Renewal])
def test_what_follows_the_end_of_an_sa(key: str, start: str, renewal: Renewal | None) -> None:
    default = {"initiate": Renewal.RESTART, "respond": Renewal.NONE, "trap": Renewal.TRAP}[start]
    bench = up(start, **{key: renewal})
    bench.pass_time(100.0)
    begun = acts(bench.put(KEYS[key]))
    match renewal or default:
        case Renewal.RESTART:
            assert begun == ["initiate-"]
            bench.fail()
            assert acts(bench.pass_time(30.0)), "until it is up"
        case Renewal.TRAP:
            assert begun == acts(bench.pass_time(1e6)) == []
            assert trapped(bench)
            assert acts(bench.put(WAITS)) == ["initiate-"]
        case Renewal.NONE:
            assert begun == acts(bench.put(WAITS)) == acts(bench.pass_time(1e6)) == []
            assert acts(bench.put(OperatorInitiate())) == ["initiate-"]
    bench.up("PQC_ONLY")
    assert bench.alarms == set()


@pytest.mark.parametrize("key", KEYS)
def test_each_action_is_for_its_own_case(key: str) -> None:
    other = next(item for name, item in KEYS.items() if name != key)
    for ended in (other, HERE):
        bench = up("initiate", **{key: Renewal.NONE})
        bench.pass_time(100.0)
        assert acts(bench.put(ended)) == ["initiate-"]


def test_a_lost_peer_of_a_childless_ike_sa_counts_as_well() -> None:
    bench = up("initiate", dpd_action=Renewal.NONE)
    assert acts(bench.put(PeerLost(reason="no answer"))) == []
    assert acts(bench.pass_time(1e6)) == []


def test_a_peer_that_closes_an_on_demand_tunnel_is_no_trouble() -> None:
    bench = up("trap")
    bench.put(CLOSED)
    assert bench.alarms == set()
    lost = up("trap")
    lost.put(LOST)
    assert lost.alarms == {"tunnel-down"}


@pytest.mark.parametrize("ended", [LOST, CLOSED, HERE])
def test_terminated_stays_terminated_however_it_ends(ended: SaDown) -> None:
    bench = up("initiate", dpd_action=Renewal.RESTART, close_action=Renewal.RESTART)
    bench.put(OperatorTerminate())
    assert acts(bench.put(ended)) == []
    assert acts(bench.pass_time(1e6)) == []
