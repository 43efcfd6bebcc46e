"""Childless IKE SAs (RFC 6023): held for their own sake, or with Child SAs to come later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.flows import sa_init
from gateway.ike.registry import ExchangeType
from gateway.model import PpkMethod
from tests.support.ike_pair import Pair, child


def childless(**options: object) -> Pair:
    return Pair(toy_kex=True, tunnels=(), ppk=PpkMode.PREFER, **options)


def set_up(pair: Pair, *, ppk: bool = True) -> Pair:
    return pair.initiate(ppk=ppk)  # "net" is the connection's name


def ike_sas(pair: Pair) -> list[int]:
    return [len(side.facts.ike) for side in pair.sides]


def test_an_ike_sa_without_children():
    #   IKE_AUTH   SK{IDi, IDr, AUTH}   -->
    #                                   <--   SK{IDr, AUTH}
    pair = set_up(childless())
    assert ike_sas(pair) == [1, 1]
    assert not pair.moon.failures
    assert not pair.sun.failures
    for side in pair.sides:
        (event,) = side.established
        assert event.connection == "net"
        assert event.ppk_method is PpkMethod.INTERMEDIATE
        assert side.facts.children == ()
        assert side.facts.name == "net"
    pair.check_empty()
    pair.check_settled()


def test_it_lives_is_rekeyed_and_closed():
    pair = set_up(childless())
    pair.run(200)  # liveness
    assert ike_sas(pair) == [1, 1]
    before = pair.moon.facts.ike[0].spi_i
    for side in pair.sides:
        side.endpoint.rekey_ike("net", ppk=pair.key(side), now=pair.now)
        pair.run(60)
    assert ike_sas(pair) == [1, 1]
    assert pair.moon.facts.ike[0].spi_i != before
    assert pair.moon.facts.ike[0].key_id == pair.sun.facts.ike[0].key_id
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(60)
    assert ike_sas(pair) == [0, 0]
    pair.check_settled()


def test_a_new_one_replaces_the_old_one():
    pair = set_up(set_up(childless()))
    pair.run(60)
    assert ike_sas(pair) == [1, 1]
    assert len(pair.moon.established) == 2


@pytest.mark.parametrize("seed", range(4))
def test_both_ends_begin_at_once(seed):
    pair = childless(seed=str(seed))
    for side in pair.sides:
        pair.begin(side=side)
    pair.run(100)
    assert ike_sas(pair) == [1, 1]
    pair.check_settled()


@pytest.mark.parametrize("mode", [PpkMode.REQUIRE, PpkMode.PREFER])
def test_policy_without_a_key(mode):
    pair = set_up(childless(sun={"ppk": mode}), ppk=False)
    assert ike_sas(pair) == ([1, 1] if mode is PpkMode.PREFER else [0, 0])
    if mode is PpkMode.REQUIRE:
        assert pair.moon.failures[0].ppk_missing


def test_a_mode_of_its_own_can_be_set():
    pair = childless()
    pair.moon.endpoint.set_ppk_mode("net", PpkMode.REQUIRE, pair.now)
    set_up(pair, ppk=False)
    (failure,) = pair.moon.failures
    assert (failure.tunnel, failure.what, failure.ppk_missing) == ("net", "initiate", True)


def test_a_peer_that_does_not_know_it(monkeypatch):
    original = sa_init._peer_traits
    monkeypatch.setattr(
        sa_init, "_peer_traits", lambda *args: replace(original(*args), childless=False)
    )
    pair = set_up(childless())
    assert "RFC 6023" in pair.moon.failures[0].reason
    pair.run(60)
    assert ike_sas(pair) == [0, 0]
    pair.check_settled()


def test_the_peer_begins_without_a_child_and_makes_it_later():
    """As strongSwan does with ``childless = force``."""
    pair = Pair(toy_kex=True, report_inbound=True, moon={"tunnels": (), "ppk": PpkMode.PREFER})
    set_up(pair)
    assert not pair.sun.failures
    assert not pair.sun.facts.children
    made = replace(pair.moon.connection, children=(child("moon", "net"),))
    pair.moon.connection = made
    pair.moon.endpoint.set_connections([made], pair.now)
    pair.initiate()
    assert ExchangeType.CREATE_CHILD_SA in list(pair.exchanges())
    pair.check_mirrored()
    assert len(pair.sun.established) == 1


def test_an_ike_sa_for_no_tunnel_takes_no_child():
    """moon has a tunnel, sun has none to this peer."""
    pair = Pair(
        toy_kex=True, moon={"tunnels": ("net",)}, sun={"tunnels": (), "ppk": PpkMode.PREFER}
    )
    pair.initiate()
    assert pair.moon.failures[0].notify == "TS_UNACCEPTABLE"
    pair.run(60)
    pair.check_empty()
