"""Several tunnels over one IKE SA: made, kept apart, moved and closed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.events import ChildDown
from gateway.ike.registry import ExchangeType
from gateway.model import PpkMethod, Protection
from tests.support.ike_pair import Flight, Pair, child

TWO = ("net", "scada")
THREE = ("net", "scada", "voice")
INIT, CHILD = ExchangeType.IKE_SA_INIT, ExchangeType.CREATE_CHILD_SA


def up(*, tunnels: tuple[str, ...] = TWO, **options: object) -> Pair:
    """All tunnels set up by moon, one after the other."""
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=tunnels, **options)
    for tunnel in tunnels:
        pair.initiate(tunnel=tunnel)
    return pair


def ike_sas(pair: Pair) -> list[int]:
    """How many each side has."""
    return [len(side.facts.ike) for side in pair.sides]


def settle(pair: Pair) -> None:
    """Everything that takes its time is over: one IKE SA, one child per tunnel, at both ends."""
    pair.run(100)
    assert ike_sas(pair) == [1, 1]
    pair.check_mirrored()
    pair.check_settled()


def mixed(pair: Pair, tunnel: str) -> object:
    """What keys the newest child of a tunnel; both sides agree about it."""
    ours, theirs = (side.facts_of(tunnel).children[0].mixed for side in pair.sides)
    assert ours == theirs
    return ours


# --- set up ----------------------------------------------------------------------------------


def test_a_second_tunnel_is_made_in_the_ike_sa_there_is():
    #   IKE_SA_INIT, IKE_INTERMEDIATE, IKE_AUTH                     net
    #   CREATE_CHILD_SA{SA, Ni, KE, N(PPK_IDENTITY_KEY), TSi, TSr}  scada, with a key of its own
    pair = up()
    assert list(pair.exchanges()).count(INIT) == 1
    assert [event.tunnel for event in pair.moon.ups] == ["net", "scada"]
    keys = {mixed(pair, tunnel).key_id for tunnel in TWO}
    assert len(keys) == 2
    assert None not in keys
    assert mixed(pair, "scada").ppk_method is PpkMethod.CREATE_CHILD
    assert not mixed(pair, "scada").key_shared
    settle(pair)


def test_each_tunnel_has_keys_and_policies_of_its_own():
    pair = up(tunnels=THREE)
    for side in pair.sides:
        assert set(side.kernel.leads) == set(THREE)
        assert len(set(side.kernel.leads.values())) == len(THREE)
        assert len(set(side.kernel.keys.values())) == 2 * len(THREE)


@pytest.mark.parametrize("tunnels", [TWO, THREE])
def test_tunnels_that_start_at_once_make_one_ike_sa(tunnels):
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=tunnels)
    for tunnel in tunnels:
        pair.begin(tunnel=tunnel)
    pair.run()
    assert list(pair.exchanges()).count(INIT) == 1
    assert len(pair.moon.established) == 1
    assert sorted(event.tunnel for event in pair.moon.ups) == sorted(tunnels)
    settle(pair)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("moons", "suns"),
    [
        (("net",), ("scada",)),
        (("net", "scada"), ("net", "scada")),
        (("net", "scada"), ("scada", "net")),
        (("net", "scada", "voice"), ("voice",)),
    ],
    ids=["one each", "both the same", "the other first", "all and one"],
)
def test_both_ends_start_at_once(moons, suns, seed):
    tunnels = tuple(dict.fromkeys((*moons, *suns)))
    tunnels = tuple(name for name in THREE if name in tunnels)
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=tunnels, seed=str(seed))
    for side, names in zip(pair.sides, (moons, suns), strict=True):
        for tunnel in names:
            pair.begin(side=side, tunnel=tunnel)
    pair.run()
    settle(pair)


def test_what_waited_for_the_ike_sa_gives_way_to_what_the_peer_is_making():
    #   moon                                                       sun
    #   INFORMATIONAL SK{}, end of the set-up; scada waits for it  -->
    #   <-- CREATE_CHILD_SA for scada      --> answered, IKE_FOLLOWUP_KE is to come
    #   <-- INFORMATIONAL SK{}             scada waits no more: it is being made
    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        delay = 0.0
        if flight.sender == "sun" and flight.header.exchange == ExchangeType.INFORMATIONAL:
            delay = 0.4
        elif flight.sender == "sun" and flight.header.exchange == ExchangeType.IKE_FOLLOWUP_KE:
            delay = 0.8
        return [(delay, flight.data)]

    pair = Pair(toy_kex=True, report_inbound=True, tunnels=TWO, fault=fault)
    for tunnel in TWO:
        pair.begin(tunnel=tunnel)
    pair.run()
    pair.initiate(side=pair.sun, tunnel="scada")
    pair.run(2)
    assert [one.reason for one in pair.moon.failures] == ["the peer is making one"]
    assert [one.tunnel for one in pair.moon.ups] == ["net", "scada"]
    settle(pair)


def test_none_is_begun_while_the_peers_request_waits_for_its_key():
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=TWO).initiate()
    pair.moon.hold_fetches = True
    pair.initiate(side=pair.sun, tunnel="scada")
    pair.initiate(tunnel="scada")
    assert [one.reason for one in pair.moon.failures] == ["it is being set up already"]
    pair.moon.deliver_key(pair.moon.fetches[-1], pair.now)
    pair.run(1)
    assert [one.tunnel for one in pair.moon.ups] == ["net", "scada"]
    settle(pair)


def test_the_others_fail_with_the_ike_sa_they_waited_for():
    pair = Pair(toy_kex=True, tunnels=THREE, fault=lambda flight: [])
    for tunnel in THREE:
        pair.begin(tunnel=tunnel)
    pair.run(200)
    assert [(one.tunnel, one.what) for one in pair.moon.failures] == [
        (tunnel, "initiate") for tunnel in THREE
    ]
    assert all("no answer" in one.reason for one in pair.moon.failures)
    pair.check_settled_at(pair.moon)
    pair.check_empty()


def test_one_tunnel_is_not_asked_for_twice():
    pair = Pair(toy_kex=True, tunnels=TWO)
    for tunnel in ("net", "scada", "scada", "net"):
        pair.begin(tunnel=tunnel)
    pair.run()
    assert [one.tunnel for one in pair.moon.failures] == ["scada", "net"]
    settle(pair)


def test_first_child_fails_and_the_ike_sa_serves_the_other():
    strange = {"net": {"remote_networks": (ip_network("192.0.2.0/24"),)}}
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=TWO, moon={"each": strange})
    for tunnel in TWO:
        pair.begin(tunnel=tunnel)
    pair.run(100)
    (failure,) = pair.moon.failures
    assert (failure.tunnel, failure.notify) == ("net", "TS_UNACCEPTABLE")
    assert "192.0.2.0/24" in failure.reason
    assert pair.carries(pair.moon, "scada")
    assert pair.carries(pair.sun, "scada")
    assert ike_sas(pair) == [1, 1]
    pair.check_settled()


def test_first_child_fails_and_nobody_else_needs_the_ike_sa():
    strange = {"net": {"remote_networks": (ip_network("192.0.2.0/24"),)}}
    pair = Pair(toy_kex=True, tunnels=TWO, moon={"each": strange}).initiate()
    pair.run(100)
    assert ike_sas(pair) == [0, 0]
    pair.check_empty()


# --- which tunnel the peer means -------------------------------------------------------------


def test_exact_selectors_come_before_overlapping_ones():
    """sun has a wide tunnel first and a narrow one in it; moon asks for the narrow one."""
    wide = child("sun", "net", remote_networks=(ip_network("10.1.0.0/16"),))
    wide = replace(wide, local_networks=(ip_network("10.2.0.0/16"),))
    pair = Pair(toy_kex=True, tunnels=TWO)
    pair.sun.connection = replace(
        pair.sun.connection, children=(wide, pair.sun.connection.children[1])
    )
    pair.sun.endpoint.set_connections([pair.sun.connection], pair.now)
    pair.initiate(tunnel="scada")
    assert [one.tunnel for one in pair.sun.ups] == ["scada"]
    pair.initiate(tunnel="net")
    assert [one.tunnel for one in pair.sun.ups] == ["scada", "net"]
    assert pair.carries(pair.moon)
    assert pair.carries(pair.sun)


def test_selectors_of_no_tunnel_are_refused_with_all_of_ours_told():
    strange = {"scada": {"remote_networks": (ip_network("192.0.2.0/24"),)}}
    pair = Pair(toy_kex=True, tunnels=TWO, moon={"each": strange}).initiate()
    pair.initiate(tunnel="scada")
    assert pair.moon.failures[0].notify == "TS_UNACCEPTABLE"
    told = pair.sun.failures[0].reason
    assert "192.0.2.0/24" in told
    assert "10.2.0.0/24" in told
    assert "10.2.1.0/24" in told
    assert pair.carries(pair.moon, "net")
    assert ike_sas(pair) == [1, 1]


# --- life ------------------------------------------------------------------------------------


def test_rekeys_of_several_tunnels_at_once():
    pair = up(tunnels=THREE)
    pair.watch_traffic()
    for _ in range(3):
        for side, tunnels in zip(pair.sides, (THREE[:2], THREE[2:]), strict=True):
            for tunnel in tunnels:
                side.endpoint.rekey_child(tunnel, ppk=pair.key(side), now=pair.now)
        pair.run(10)
    assert not pair.moon.failures
    assert not pair.sun.failures
    assert all(mixed(pair, tunnel).protection is Protection.HYBRID for tunnel in THREE)
    settle(pair)


def test_closing_one_tunnel_leaves_the_others():
    pair = up(tunnels=THREE)
    pair.moon.endpoint.close("scada", reason="terminated by the operator", now=pair.now)
    pair.run(10)
    for side in pair.sides:
        assert not side.facts_of("scada").children
        assert [one.tunnel for one in side.of(ChildDown)] == ["scada"]
        assert not side.closed
        assert not side.kernel.inbound("scada")
        assert not side.kernel.outbounds("scada")
    assert all(pair.carries(side, name) for side in pair.sides for name in ("net", "voice"))
    pair.initiate(tunnel="scada")
    settle(pair)


def test_the_ike_sa_goes_with_the_last_tunnel():
    pair = up()
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(10)
    assert ike_sas(pair) == [1, 1]
    pair.moon.endpoint.close("scada", reason="terminated by the operator", now=pair.now)
    pair.run(10)
    assert ike_sas(pair) == [0, 0]
    assert len(pair.moon.closed) == len(pair.sun.closed) == 1
    pair.check_empty()


@pytest.mark.parametrize("closed", TWO)
def test_a_tunnel_closed_while_the_ike_sa_is_set_up(closed):
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=TWO)
    for tunnel in TWO:
        pair.begin(tunnel=tunnel)
    pair.moon.endpoint.close(closed, reason="terminated by the operator", now=pair.now)
    pair.run(100)
    (other,) = set(TWO) - {closed}
    assert [one.tunnel for one in pair.moon.failures] == [closed]
    assert [one.tunnel for one in pair.moon.ups] == [other]
    assert ike_sas(pair) == [1, 1]
    assert not pair.sun.facts_of(closed).children
    pair.check_settled()


@pytest.mark.parametrize("number", range(8))
def test_a_tunnel_closed_in_the_middle_of_its_rekey(number):
    """At any message: nothing is left of it at either end, and the other goes on."""
    pair = up()
    first = len(pair.sent)

    def close(flight):
        if flight.number == first + number:
            pair.moon.endpoint.close("scada", reason="terminated by the operator", now=pair.now)
        return [(0.01, flight.data)]

    pair.fault = close
    pair.rekey(tunnel="scada")
    pair.run(60)
    if len(pair.sent) <= first + number:
        pytest.skip("the rekey has fewer messages")
    for side in pair.sides:
        assert not side.facts_of("scada").children
        assert not side.kernel.inbound("scada")
        assert not side.kernel.reserved
        assert pair.carries(side, "net")
    assert ike_sas(pair) == [1, 1]
    pair.check_settled()


def test_loss_of_the_ike_sa_takes_all_down_and_they_come_back_over_one():
    pair = up(tunnels=THREE)
    pair.crash(pair.sun)
    pair.run(200)
    assert {one.tunnel for one in pair.moon.of(ChildDown)} == set(THREE)
    assert len(pair.moon.closed) == 1
    assert pair.moon.closed[0].peer_lost
    for tunnel in THREE:
        pair.begin(tunnel=tunnel)
    pair.run()
    assert len(pair.sun.established) == 2
    pair.run(100)
    assert ike_sas(pair) == [1, 1]
    pair.check_mirrored()


def test_a_child_lost_in_the_kernel_is_that_tunnels_alone():
    pair = up()
    sa_id = pair.moon.kernel.inbound("scada")[0].sa_id
    pair.moon.endpoint.sa_expired(sa_id, hard=True, now=pair.now)
    pair.run(10)
    assert [one.tunnel for one in pair.sun.of(ChildDown)] == ["scada"]
    assert pair.carries(pair.moon, "net")
    pair.initiate(tunnel="scada")
    settle(pair)


@pytest.mark.parametrize("side", ["moon", "sun"])
def test_a_new_ike_sa_takes_all_tunnels_over_without_a_packet_lost(side):
    """``initiate`` of a tunnel that is up: a new IKE SA, to which the others move."""
    pair = up(tunnels=THREE)
    pair.watch_traffic()
    pair.initiate(side=getattr(pair, side))
    settle(pair)
    assert all(mixed(pair, tunnel).protection is Protection.HYBRID for tunnel in THREE)


def test_no_key_for_a_tunnel_that_must_move():
    pair = up(ppk=PpkMode.REQUIRE)
    pair.moon.take_key = pair.sun.take_key = None
    pair.initiate()
    pair.run(20)
    assert ike_sas(pair) == [2, 2]  # scada's stays for the time being
    assert pair.carries(pair.moon)
    assert pair.carries(pair.sun)
    pair.run(200)
    assert ike_sas(pair) == [1, 1]
    assert {one.what for one in pair.moon.failures} == {"move"}
    assert [one.tunnel for one in pair.moon.of(ChildDown) if not one.rekeyed] == ["scada"]


def test_a_tunnel_is_moved_by_the_end_that_has_a_key():
    pair = up(ppk=PpkMode.REQUIRE)
    pair.watch_traffic()
    pair.moon.take_key = None
    pair.initiate()
    settle(pair)
    assert mixed(pair, "scada").protection is Protection.HYBRID


# --- QKD keys --------------------------------------------------------------------------------


def test_another_vendors_peer_has_one_key_for_all(foreign_peer):
    pair = up()
    assert mixed(pair, "net").key_id == mixed(pair, "scada").key_id
    assert not mixed(pair, "net").key_shared
    assert mixed(pair, "scada").key_shared
    assert mixed(pair, "scada").protection is Protection.HYBRID
    settle(pair)


def test_no_key_is_spent_where_the_ike_sa_has_one(foreign_peer):
    pair = Pair(toy_kex=True, tunnels=TWO)
    assert pair.moon.endpoint.uses_key("scada")
    pair.initiate()
    assert not pair.moon.endpoint.uses_key("scada")
    assert pair.moon.endpoint.uses_key("net")
    pair.initiate(tunnel="scada", ppk=False)
    assert mixed(pair, "scada").key_shared


def test_a_fresh_key_for_another_vendors_peer_moves_all_tunnels(foreign_peer):
    pair = up(tunnels=THREE)
    before = mixed(pair, "net").key_id
    pair.watch_traffic()
    pair.rekey(tunnel="scada")
    settle(pair)
    keys = {mixed(pair, tunnel).key_id for tunnel in THREE}
    assert len(keys) == 1
    assert None not in keys
    assert before not in keys
    assert len(pair.moon.established) == 2


def test_a_rekey_without_fresh_key_has_none(foreign_peer):
    pair = up().rekey(tunnel="scada", ppk=False)
    assert mixed(pair, "scada").protection is Protection.PQC_ONLY
    assert mixed(pair, "net").protection is Protection.HYBRID


def test_one_tunnel_requires_a_key_and_the_other_takes_none():
    each = {"net": {"ppk": PpkMode.OFF}, "scada": {"ppk": PpkMode.REQUIRE}}
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=TWO, each=each)
    pair.initiate(ppk=False)
    pair.initiate(tunnel="scada")
    assert mixed(pair, "net").protection is Protection.PQC_ONLY
    assert mixed(pair, "scada").protection is Protection.HYBRID
    settle(pair)


def test_only_the_child_fails_where_its_tunnel_requires_a_key():
    """moon would do without a key, sun's scada would not, and does not know at first."""
    pair = Pair(toy_kex=True, tunnels=TWO, sun={"each": {"scada": {"ppk": PpkMode.REQUIRE}}})
    for tunnel in ("scada", "net"):
        pair.begin(tunnel=tunnel, ppk=False)
    pair.run(50)
    (failure,) = pair.moon.failures
    assert (failure.tunnel, failure.ppk_missing) == ("scada", True)
    assert [one.tunnel for one in pair.sun.failures] == ["scada"]
    assert pair.carries(pair.moon, "net")
    assert ike_sas(pair) == [1, 1]


def test_where_all_tunnels_require_a_key_the_ike_sa_is_refused():
    pair = Pair(toy_kex=True, tunnels=TWO, sun={"ppk": PpkMode.REQUIRE})
    pair.initiate(ppk=False)
    assert pair.moon.failures[0].ppk_missing
    assert not pair.moon.established


def test_the_key_looked_up_before_the_tunnel_is_known_is_one_that_can_have_keys():
    pair = Pair(toy_kex=True, tunnels=TWO, each={"net": {"ppk": PpkMode.OFF}})
    pair.initiate(tunnel="scada")
    assert [fetch.tunnel for fetch in pair.sun.fetches] == ["scada"]
    assert mixed(pair, "scada").protection is Protection.HYBRID
    pair.check_settled()


# --- configuration ---------------------------------------------------------------------------


def test_reload_adds_changes_and_removes_tunnels_of_a_running_ike_sa():
    pair = up()
    for side in pair.sides:
        more = (*side.connection.children, child(side.name, "voice"))
        side.connection = replace(side.connection, children=more)
        side.endpoint.set_connections([side.connection], pair.now)
    pair.initiate(tunnel="voice")
    settle(pair)
    for side in pair.sides:
        fewer = tuple(one for one in side.connection.children if one.name != "scada")
        side.connection = replace(side.connection, children=fewer)
        side.endpoint.set_connections([side.connection], pair.now)
    settle(pair)
    assert not pair.moon.closed
    assert [facts.name for facts in pair.moon.endpoint.views()] == ["net", "voice"]
