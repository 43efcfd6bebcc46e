"""When the core says that an IKE SA is old, how often, and what it does if nobody listens."""

from __future__ import annotations

from gateway.ike.events import IkeRekeyDue
from tests.support.ike_pair import Pair, Side

LIFE = 1000.0


def due(side: Side) -> list[bool]:
    return [event.replace for event in side.events if isinstance(event, IkeRekeyDue)]


def test_each_end_draws_its_own_moment():
    moments = set()
    for seed in range(8):
        pair = Pair(toy_kex=True, ike_lifetime=LIFE, seed=str(seed)).initiate()
        pair.run(0.79 * LIFE)
        assert not due(pair.moon)
        while not due(pair.moon):
            pair.run(1)
        moments.add(round((pair.now - 1000.0) / LIFE, 3))
    assert len(moments) > 4
    assert all(0.8 <= moment <= 0.902 for moment in moments)


def test_a_rekey_begins_a_new_life():
    pair = Pair(toy_kex=True, ike_lifetime=LIFE).initiate()
    pair.watch_traffic()
    for _ in range(3):
        pair.run(0.79 * LIFE)
        pair.moon.endpoint.rekey_ike("net", ppk=pair.key(), now=pair.now)
        pair.run()
    assert not due(pair.moon)
    assert not due(pair.sun)
    pair.run(10)
    pair.check_mirrored()


def test_nobody_listens():
    """Said again and again, then as a wish for a new IKE SA, and then the end."""
    pair = Pair(toy_kex=True, ike_lifetime=LIFE).initiate()
    pair.run(LIFE - 1)
    said = due(pair.moon)
    assert 5 < len(said) < 60
    assert said == sorted(said)
    assert said[-1]
    assert not pair.moon.closed
    pair.run(20)
    assert pair.moon.closed
    assert pair.sun.closed
    pair.check_empty()


def test_replaced_before_it_is_closed():
    pair = Pair(toy_kex=True, ike_lifetime=LIFE).initiate()
    pair.watch_traffic()
    pair.run(0.96 * LIFE)
    assert due(pair.moon)[-1]
    pair.initiate()
    pair.run(LIFE / 2)
    assert len(pair.moon.ups) == 2
    assert all(len(side.facts.ike) == 1 for side in pair.sides)
    pair.check_mirrored()


def test_without_a_lifetime_it_is_never_old():
    pair = Pair(toy_kex=True).initiate()
    pair.run(5 * LIFE)
    assert not due(pair.moon)
    pair.check_mirrored()
