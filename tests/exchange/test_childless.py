"""Childless IKE SAs (RFC 6023): held for their own sake, or with Child SAs to come later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.errors import NoIkeSaError
from gateway.ike.events import IkeRekeyed
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
    assert not pair.sun.fetches, "a QKD key was spent on it"
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


# --- the IKE SA as what policy protects ----------------------------------------------------------


def rekey(pair: Pair, *, ppk: bool, side: str = "moon", at_peer: bytes | None = b"") -> None:
    ours = getattr(pair, side)
    key = pair.key(ours, at_peer=at_peer) if ppk else None
    ours.endpoint.rekey("net", ppk=key, now=pair.now)
    pair.run(10)


def protection(pair: Pair) -> list[str]:
    return [str(side.endpoint.mixed("net").protection) for side in pair.sides]


def test_only_a_fresh_key_counts():
    """What came with the SK_d of the IKE SA before is named, and is no protection of this one."""
    pair = set_up(childless())
    assert protection(pair) == ["HYBRID"] * 2
    rekey(pair, ppk=False)
    assert protection(pair) == ["PQC_ONLY"] * 2
    assert pair.moon.facts.ike[0].key_id is not None
    assert [event.key_id for event in pair.sun.events if isinstance(event, IkeRekeyed)] == [None]
    rekey(pair, ppk=True, side="sun")
    assert protection(pair) == ["HYBRID"] * 2
    pair.check_settled()


@pytest.mark.parametrize("requires", ["moon", "sun"])
@pytest.mark.parametrize("begins", ["moon", "sun"])
def test_no_rekey_without_a_key_where_one_is_required(requires, begins):
    pair = set_up(childless(**{requires: {"ppk": PpkMode.REQUIRE}}))
    before = pair.moon.facts.ike[0].spi_i
    rekey(pair, ppk=False, side=begins)
    (failure,) = [one for one in getattr(pair, begins).failures if one.what == "rekey-ike"]
    assert failure.ppk_missing
    assert [side.facts.ike[0].spi_i for side in pair.sides] == [before] * 2
    rekey(pair, ppk=True, side=begins)
    assert protection(pair) == ["HYBRID"] * 2
    assert pair.moon.facts.ike[0].spi_i != before


@pytest.mark.parametrize("mode", [PpkMode.PREFER, PpkMode.REQUIRE])
@pytest.mark.parametrize("at_peer", [None, b"another key of thirty-two octets"])
def test_the_peer_has_not_got_the_key(mode, at_peer):
    pair = set_up(childless(moon={"ppk": mode}))
    before = pair.moon.facts.ike[0].spi_i
    rekey(pair, ppk=True, at_peer=at_peer)
    assert pair.moon.settled[-1].refused
    kept = pair.moon.facts.ike[0].spi_i == before
    assert kept is (mode is PpkMode.REQUIRE)
    assert protection(pair) == (["HYBRID"] if kept else ["PQC_ONLY"]) * 2
    assert ike_sas(pair) == [1, 1]
    pair.check_settled()


def test_a_peer_that_takes_no_key_in_create_child_sa(monkeypatch):
    """It gets the fresh key in a new IKE SA, made before the old one is closed."""
    original = sa_init._peer_traits
    monkeypatch.setattr(sa_init, "_peer_traits", lambda *args: replace(original(*args), qsgw=False))
    pair = set_up(childless())
    rekey(pair, ppk=True)
    pair.run(60)
    assert len(pair.moon.established) == 2
    assert protection(pair) == ["HYBRID"] * 2
    assert ike_sas(pair) == [1, 1]
    pair.check_settled()


# --- exported keys -------------------------------------------------------------------------------


def export(pair: Pair, side, *, label=b"label", context=b"context", length=32) -> bytes:
    ike = side.facts.ike[0]
    key = side.endpoint.export_key(
        ike.spi_i, ike.spi_r, label=label, context=context, length=length
    )
    return key.expose()


def test_both_ends_export_the_same_and_for_everything_another():
    pair = set_up(childless())
    asked = [
        {},
        {"label": b"other"},
        {"context": b"other"},
        {"label": b"labelc", "context": b"ontext"},
        {"length": 16},
        {"length": 64},
    ]
    keys = [export(pair, pair.moon, **one) for one in asked]
    assert keys == [export(pair, pair.sun, **one) for one in asked]
    assert [len(key) for key in keys] == [32, 32, 32, 32, 16, 64]
    assert len({key[:16] for key in keys}) == len(keys)


@pytest.mark.parametrize("ppk", [True, False])
def test_a_rekeyed_ike_sa_exports_another_key(ppk):
    pair = set_up(childless())
    before, ike = export(pair, pair.moon), pair.moon.facts.ike[0]
    rekey(pair, ppk=ppk)
    assert export(pair, pair.moon) == export(pair, pair.sun) != before
    with pytest.raises(NoIkeSaError):  # the old one is no more
        pair.moon.endpoint.export_key(ike.spi_i, ike.spi_r, label=b"x", context=b"", length=16)


def test_nothing_is_exported_before_the_peer_has_proved_who_it_is():
    pair = childless()
    pair.fault = lambda flight: (
        [] if flight.header.exchange == ExchangeType.IKE_AUTH else [(0.0, flight.data)]
    )
    pair.begin()
    pair.run(1)
    ike = pair.sun.facts.ike[0]
    with pytest.raises(NoIkeSaError):
        pair.sun.endpoint.export_key(ike.spi_i, ike.spi_r, label=b"x", context=b"", length=16)


@pytest.mark.parametrize(
    "wrong", [{"label": b""}, {"label": bytes(256)}, {"length": 0}, {"length": 1 << 16}]
)
def test_what_cannot_be_exported(wrong):
    pair = set_up(childless())
    with pytest.raises(ValueError, match="octets"):
        export(pair, pair.moon, **wrong)
