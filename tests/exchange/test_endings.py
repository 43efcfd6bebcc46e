"""How IKE SAs end, and how one takes over from another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.crypto.secret import Secret
from gateway.ike.config import PpkMode
from gateway.ike.credentials import SharedKey
from gateway.ike.events import ChildDown
from gateway.ike.registry import ExchangeType as X
from tests.support.ike_pair import Flight, Pair, with_children


def downs(side) -> list[ChildDown]:
    return [event for event in side.events if isinstance(event, ChildDown)]


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_close(name):
    pair = Pair().initiate()
    side = getattr(pair, name)
    # INFORMATIONAL SK{D(IKE)} -->  <-- SK{}
    side.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run()
    pair.check_empty()
    assert side.closed[0].reason == "terminated by the operator"
    peer = pair.sun if name == "moon" else pair.moon
    assert peer.closed[0].reason == "peer deleted the IKE SA"
    assert all(len(downs(one)) == 1 for one in pair.sides)
    pair.check_settled()


def test_close_stops_traffic_at_once_even_if_the_peer_is_silent():
    pair = Pair().initiate()
    pair.fault = lambda flight: []
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run()
    assert not pair.moon.kernel.sas
    assert not pair.moon.closed
    pair.run(30)
    assert not pair.moon.closed[0].peer_lost


def test_close_while_setting_up():
    pair = Pair(fault=lambda flight: [] if flight.number > 2 else [(0.0, flight.data)]).initiate()
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(60)
    assert pair.moon.failures[0].reason == "terminated by the operator"
    pair.check_empty()
    pair.check_settled()


def test_close_during_a_rekey():
    pair = Pair(fault=lambda flight: [(0.05, flight.data)]).initiate()
    pair.run(1)
    pair.rekey()
    pair.run(0.12)
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(60)
    assert pair.moon.failures[0].what == "rekey"
    pair.check_empty()
    pair.check_settled()


def test_liveness():
    pair = Pair().initiate()
    before = len(pair.sent)
    pair.run(31)
    # INFORMATIONAL SK{} -->  <-- SK{}   from one of them; it answers the other's question too
    assert len(pair.sent) - before in (2, 4)
    assert all(flight.header.exchange == X.INFORMATIONAL for flight in pair.sent[before:])
    pair.run(300)
    assert not pair.moon.closed
    pair.check_mirrored()


def test_peer_lost():
    pair = Pair().initiate()
    pair.fault = lambda flight: []
    pair.run(30)
    assert not pair.moon.closed
    pair.run(60)
    for side in pair.sides:
        assert side.closed[0].peer_lost
        assert side.closed[0].reason.startswith("no answer from")
        assert len(downs(side)) == 1
    pair.check_empty()


def test_peer_lost_during_a_rekey_reports_both():
    pair = Pair().initiate()
    pair.fault = lambda flight: []
    pair.rekey()
    pair.run(60)
    assert [one.what for one in pair.moon.failures] == ["rekey"]
    assert pair.moon.closed[0].peer_lost
    pair.check_settled()


def only_until(exchange: X, number: int):
    """moon's requests of this kind from the given one on, and the answers, are lost."""

    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        header = flight.header
        ours = header.response == (flight.sender == "sun")
        late = header.exchange == exchange and header.message_id >= number
        return [] if ours and late else [(0.0, flight.data)]

    return fault


def test_a_wish_has_ended_when_the_child_is_up():
    #   IKE_SA_INIT ... IKE_AUTH -->  <-- ...      ChildUp
    #   INFORMATIONAL SK{} -->                     lost
    #   <-- INFORMATIONAL SK{D(IKE)}               no second end of the same wish
    pair = Pair(toy_kex=True, fault=only_until(X.INFORMATIONAL, 0)).initiate()
    assert len(pair.moon.ups) == 1
    pair.sun.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run()
    assert [one.reason for one in downs(pair.moon)] == ["peer deleted the IKE SA"]
    assert not pair.moon.failures
    pair.check_settled()


def test_a_wish_to_rekey_has_ended_when_the_new_child_is_up():
    pair = Pair(toy_kex=True).initiate()
    # CREATE_CHILD_SA, IKE_FOLLOWUP_KE -->  <-- ...      ChildUp
    # INFORMATIONAL SK{D(old)} -->                       lost
    pair.fault = only_until(X.INFORMATIONAL, 4)
    pair.rekey()
    assert len(pair.moon.ups) == 2
    pair.run(60)
    assert pair.moon.closed[0].peer_lost
    assert not pair.moon.failures
    pair.check_settled()


def test_a_wish_fails_with_the_ike_sa_while_the_child_is_not_up():
    pair = Pair(toy_kex=True, fault=only_until(X.IKE_AUTH, 0)).initiate()
    assert not pair.moon.ups
    pair.run(60)
    assert [(one.what, one.reason) for one in pair.moon.failures] == [
        ("initiate", "no answer from 10.0.23.3")
    ]
    pair.check_settled_at(pair.moon)


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_restarted_peer_takes_over_with_initial_contact(name):
    pair = Pair().initiate()
    crashed = getattr(pair, name)
    other = pair.sun if name == "moon" else pair.moon
    old = [spec.sa_id for spec in other.kernel.inbound()]
    pair.run(3)
    pair.crash(crashed)
    before = len(other.events)
    # IKE_AUTH  SK{..., N(INITIAL_CONTACT)} -->
    pair.initiate(side=crashed)
    assert [type(event).__name__ for event in other.events[before:]] == [
        "IkeEstablished",
        "ChildUp",
        "ChildDown",
        "IkeClosed",
    ]
    assert other.closed[0].reason == "replaced by another IKE SA"
    assert old[0] in other.kernel.sas  # lingers
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled_at(crashed)
    assert all(len(side.facts.ike) == 1 for side in pair.sides)


def test_old_sa_of_a_restarted_peer_stays_until_the_new_one_is_proved():
    """An impostor that says INITIAL_CONTACT with a wrong key takes nothing away."""
    pair = Pair().initiate()
    pair.run(3)
    pair.watch_traffic()
    impostor = Pair(moon={"psk": b"guessed"}, seed="impostor")
    key = impostor.key(at_peer=None)
    impostor.moon.endpoint.initiate("net", ppk=key, now=pair.now)
    saved, pair.moon.endpoint = pair.moon.endpoint, impostor.moon.endpoint
    pair._watching_traffic = False
    pair.run(1)
    pair.moon.endpoint = saved
    assert not pair.sun.closed
    assert len(pair.sun.facts.ike) == 1
    pair.watch_traffic()
    pair.rekey()
    assert len(pair.sun.ups) == 2


def test_new_ike_sa_before_the_old_one_goes():
    pair = Pair().initiate()
    pair.watch_traffic()
    pair.initiate()
    # no INITIAL_CONTACT, and the initiator deletes the old IKE SA when the new one carries
    for side in pair.sides:
        assert len(side.ups) == 2
        assert len(side.facts.ike) == 1
    assert pair.moon.closed[0].reason == "replaced by another IKE SA"
    assert pair.sun.closed[0].reason == "peer deleted the IKE SA"
    assert [one.rekeyed for one in downs(pair.moon)] == [True]
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_peer_that_leaves_the_old_ike_sa_behind():
    """Then we delete it ourselves, late."""
    pair = Pair().initiate()
    first = pair.moon.endpoint._sessions.all()[0]
    pair.watch_traffic()
    first.replace = lambda **_: None
    pair.initiate()
    assert len(pair.sun.facts.ike) == 2
    pair.run(31)
    assert len(pair.sun.facts.ike) == 1
    assert pair.sun.closed[0].reason == "replaced by another IKE SA"
    pair.run(6)
    pair.check_mirrored()


@pytest.mark.parametrize("moon_delay", [0.05, 0.01, 0.2])
@pytest.mark.parametrize("lead", [0.0, 0.03, 0.11])
@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_both_begin_at_the_same_time(seed, lead, moon_delay):
    """Two IKE SAs come up; the one with the lowest nonce is deleted by whoever began it."""

    def slow(flight: Flight) -> list[tuple[float, bytes]]:
        return [(moon_delay if flight.sender == "moon" else 0.05, flight.data)]

    pair = Pair(fault=slow, toy_kex=True, seed=seed)
    pair.moon.endpoint.initiate("net", ppk=pair.key(pair.moon), now=pair.now)
    pair.run(lead)
    pair.sun.endpoint.initiate("net", ppk=pair.key(pair.sun), now=pair.now)
    pair.run(50)
    for side in pair.sides:
        assert len(side.facts.ike) == 1, side.facts.ike
        assert len(side.facts.children) == 1
    assert pair.moon.facts.ike[0].spi_i == pair.sun.facts.ike[0].spi_i
    pair.check_mirrored()
    pair.check_settled()
    pair.watch_traffic()
    pair.run(100)
    pair.rekey()
    pair.run(6)
    pair.check_mirrored()


def test_old_ike_sa_lost_before_the_new_one_has_taken_over():
    """The initiator's last message is lost; the responder moves over when the old SA dies."""

    def no_informational(flight: Flight) -> list[tuple[float, bytes]]:
        late = flight.header.exchange == X.INFORMATIONAL and flight.number > 8
        return [] if late else [(0.0, flight.data)]

    pair = Pair().initiate()
    old, new = pair.sun.ups[0], 1
    pair.fault = no_informational
    pair.initiate()
    assert len(pair.sun.ups) == new
    sa_id = next(one.sa_id for one in pair.sun.kernel.inbound() if one.spi == old.spi_in)
    pair.sun.endpoint.sa_expired(sa_id, hard=True, now=pair.now)
    pair.run()
    assert len(pair.sun.ups) == new + 1
    assert pair.carries(pair.sun)


def test_changed_configuration_closes_what_changed():
    pair = Pair().initiate()
    pair.watch_traffic()
    alike = replace(pair.moon.connection, fragment_size=576)
    alike = with_children(alike, ppk=PpkMode.REQUIRE)
    pair.moon.endpoint.set_connections([alike], pair.now)
    pair.run()
    pair.check_mirrored()
    pair._watching_traffic = False
    other = SharedKey(key=Secret(b"another one"))
    changed = replace(pair.moon.connection, local_auth=other, remote_auth=other)
    pair.moon.endpoint.set_connections([changed], pair.now)
    pair.run()
    assert pair.moon.closed[0].reason == "configuration changed"
    pair.check_empty()


def test_removed_connection():
    pair = Pair().initiate()
    pair.sun.endpoint.set_connections([], pair.now)
    pair.run()
    pair.check_empty()
    assert pair.sun.endpoint.views() == ()
    assert pair.moon.closed


def test_hard_expiry_tells_the_peer():
    pair = Pair().initiate()
    lost = pair.sun.kernel.outbounds()[0].sa_id
    # INFORMATIONAL SK{D(ESP)} from sun -->  <-- SK{}
    pair.sun.endpoint.sa_expired(lost, hard=True, now=pair.now)
    pair.run(6)
    pair.check_empty()
    assert downs(pair.sun)[0].reason == "lifetime ended in the kernel"
    assert downs(pair.moon)[0].reason == "deleted by the peer"
    assert len(pair.moon.facts.ike) == 1


def test_both_close_at_the_same_time():
    pair = Pair(fault=lambda flight: [(0.05, flight.data)]).initiate()
    pair.run(1)
    for side in pair.sides:
        side.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(30)
    pair.check_empty()
    assert all(len(side.closed) == 1 for side in pair.sides)


def test_nothing_stays_behind_in_memory():
    pair = Pair(toy_kex=True).initiate()
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(61)
    for side in pair.sides:
        endpoint = side.endpoint
        assert not endpoint._sessions._by_spi
        assert not endpoint._reception._known
        assert not endpoint._env.desk._open
        assert endpoint.next_deadline() is None
        (tunnel,) = endpoint._tunnels.values()
        assert not tunnel.peering.sessions
        assert not tunnel.children
