"""Every flight of every exchange lost, doubled, or late in turn: the end is always the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.ike.registry import ExchangeType as X
from gateway.model import Protection
from tests.support.ike_pair import Fault, Flight, Pair

HANDSHAKE = 8  # datagrams: four exchanges
REKEY = 6  # three exchanges


def lose(number: int) -> Fault:
    return lambda flight: [] if flight.number == number else [(0.0, flight.data)]


def double(number: int) -> Fault:
    return lambda flight: [(0.0, flight.data)] * (2 if flight.number == number else 1)


def delay(number: int) -> Fault:
    """So late that its repetition, and what that brings about, is there first."""
    return lambda flight: [(3.0 if flight.number == number else 0.0, flight.data)]


def echo(number: int) -> Fault:
    """Comes again when everything is over."""
    return lambda flight: [(0.0, flight.data), *([(4.0, flight.data)] * (flight.number == number))]


FAULTS = [lose, double, delay, echo]


def check_one_of_each(pair: Pair, children: int) -> None:
    for side in pair.sides:
        assert len(side.established) == 1
        assert len(side.facts.ike) == 1
        assert [up.mixed.protection for up in side.ups] == [Protection.HYBRID] * children
        assert not side.failures
        assert not side.closed
    pair.check_mirrored()
    pair.check_settled()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(HANDSHAKE))
def test_handshake(number, fault):
    pair = Pair(fault=fault(number), toy_kex=True).initiate()
    pair.run(20)
    check_one_of_each(pair, 1)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(HANDSHAKE))
def test_handshake_with_ppk_in_auth(number, fault, rfc8784_only):
    pair = Pair(fault=fault(number), toy_kex=True).initiate()
    pair.run(20)
    check_one_of_each(pair, 1)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(14))
def test_handshake_in_fragments(number, fault):
    pair = Pair(fault=fault(number), toy_kex=True, fragment_size=576).initiate()
    pair.run(20)
    check_one_of_each(pair, 1)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(12))
def test_handshake_with_cookie_and_another_key_exchange(number, fault):
    pair = Pair(
        fault=fault(number),
        toy_kex=True,
        cookie_threshold=0,
        moon={"ike": ("aes256gcm16-prfsha384-x25519-ecp384-ke1_mlkem768",)},
        sun={"ike": ("aes256gcm16-prfsha384-ecp384-ke1_mlkem768",)},
    ).initiate()
    pair.run(20)
    check_one_of_each(pair, 1)


@pytest.mark.parametrize("report_inbound", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(REKEY))
def test_rekey(number, fault, report_inbound):
    pair = Pair(toy_kex=True, report_inbound=report_inbound).initiate()
    pair.fault = fault(number + HANDSHAKE)
    pair.watch_traffic()
    pair.rekey()
    pair.run(20)
    check_one_of_each(pair, 2)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(REKEY))
def test_rekey_by_the_responder(number, fault):
    pair = Pair(toy_kex=True).initiate()
    pair.fault = fault(number + HANDSHAKE)
    pair.watch_traffic()
    pair.rekey(side=pair.sun)
    pair.run(20)
    check_one_of_each(pair, 2)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(HANDSHAKE + 2))
def test_new_ike_sa_in_place_of_the_old(number, fault):
    """Make before break: a second IKE SA, then the Delete of the first."""
    pair = Pair(toy_kex=True).initiate()
    pair.fault = fault(number + HANDSHAKE)
    pair.watch_traffic()
    pair.initiate()
    pair.run(20)
    for side in pair.sides:
        assert len(side.ups) == 2
        assert len(side.facts.ike) == 1
        assert [one.peer_lost for one in side.closed] == [False]
        assert not side.failures
    pair.check_mirrored()
    pair.check_settled()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(2))
def test_delete(number, fault):
    pair = Pair(toy_kex=True).initiate()
    pair.fault = fault(number + HANDSHAKE)
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(20)
    pair.check_empty()
    for side in pair.sides:
        assert len(side.closed) == 1
        assert not side.closed[0].peer_lost
        assert not side.facts.ike


BIG = {
    "ike": ("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",),
    "esp": ("aes256gcm16-ecp384-ke1_mlkem1024-ke2_mlkem768-esn",),
}
SMALL = {"fragment_size": 576}


def every_flight(begin: Callable[[], Pair], act: Callable[[Pair], object], fault) -> list[Pair]:
    """``act`` once for every datagram it sends, each time with that one at fault."""
    pair = begin()
    first = len(pair.sent)
    act(pair)
    pairs = []
    for number in range(first, len(pair.sent)):
        pair = begin()
        pair.fault = fault(number)
        act(pair)
        pair.run(20)
        pairs.append(pair)
    return pairs


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("how", [BIG, {**BIG, **SMALL}], ids=["1280", "576"])
def test_p384_and_ml_kem_1024(how, fault):
    """IKE_SA_INIT, IKE_INTERMEDIATE in fragments, IKE_AUTH, INFORMATIONAL."""
    pairs = every_flight(lambda: Pair(toy_kex=True, **how), Pair.initiate, fault)
    assert len(pairs) >= 10
    for pair in pairs:
        assert pair.sun.established[0].key_exchanges == ("P-384", "ML-KEM-1024")
        check_one_of_each(pair, 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_ppk_in_auth_in_fragments(fault, rfc8784_only):
    for pair in every_flight(lambda: Pair(toy_kex=True, **SMALL), Pair.initiate, fault):
        check_one_of_each(pair, 1)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["moon", "sun"])
def test_rekey_with_two_followups_in_fragments(name, fault):
    def begin() -> Pair:
        pair = Pair(toy_kex=True, **BIG, **SMALL).initiate()
        pair.watch_traffic()
        return pair

    pairs = every_flight(begin, lambda pair: pair.rekey(side=getattr(pair, name)), fault)
    assert len(pairs) >= 18
    for pair in pairs:
        assert list(pair.exchanges(name))[-4:] == [
            X.CREATE_CHILD_SA,
            X.IKE_FOLLOWUP_KE,
            X.IKE_FOLLOWUP_KE,
            X.INFORMATIONAL,
        ]
        check_one_of_each(pair, 2)


@pytest.mark.parametrize("fault", FAULTS)
def test_liveness(fault):
    """One question lost is asked again; the tunnel is not disturbed."""
    pairs = every_flight(lambda: Pair(toy_kex=True).initiate(), lambda pair: pair.run(31), fault)
    assert len(pairs) >= 2
    for pair in pairs:
        check_one_of_each(pair, 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_delete_of_a_child(fault):
    """The kernel's lifetime ended at one side: INFORMATIONAL SK{D(ESP)}."""

    def expire(pair: Pair) -> None:
        sa_id = pair.sun.kernel.inbound()[0].sa_id
        pair.sun.endpoint.sa_expired(sa_id, hard=True, now=pair.now)
        pair.run()

    for pair in every_flight(lambda: Pair(toy_kex=True).initiate(), expire, fault):
        pair.check_empty()
        assert not any(side.closed for side in pair.sides)
        pair.rekey()
        assert len(pair.moon.ups) == len(pair.sun.ups) == 2
        pair.check_mirrored()


@pytest.mark.parametrize("number", range(HANDSHAKE))
def test_wire_goes_dead(number):
    """From some flight on nothing arrives: nothing may be left behind in the end."""

    def dead(flight: Flight) -> list[tuple[float, bytes]]:
        return [] if flight.number >= number else [(0.0, flight.data)]

    pair = Pair(fault=dead, toy_kex=True).initiate()
    pair.run(200)
    pair.check_empty()
    pair.check_settled()
    for side in pair.sides:
        assert not side.facts.ike


@pytest.mark.parametrize("number", range(REKEY))
def test_wire_goes_dead_during_a_rekey(number):
    pair = Pair(toy_kex=True).initiate()

    def dead(flight: Flight) -> list[tuple[float, bytes]]:
        return [] if flight.number >= number + HANDSHAKE else [(0.0, flight.data)]

    pair.fault = dead
    pair.rekey()
    pair.run(200)
    pair.check_empty()
    pair.check_settled()
    for side in pair.sides:
        assert len(side.closed) == 1
        assert side.closed[0].peer_lost
