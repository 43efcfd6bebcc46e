"""Several tunnels, any wire, any order of wishes: in the end both sides have the same.

At most one IKE SA, and one Child SA per tunnel, at both ends; every key settled once.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike.config import PpkMode
from gateway.ike.flows import sa_init
from tests.support.ike_pair import TUNNELS, Flight, Pair

FATE = st.sampled_from([[0.0], [0.0], [0.0], [0.02], [0.4], [0.0, 0.3], []])
WISH = st.tuples(
    st.sampled_from(["initiate", "rekey", "plain", "close", "expire", "crash"]),
    st.integers(0, 1),  # whose
    st.integers(0, 2),  # which tunnel's
    st.sampled_from([0.0, 0.0, 0.01, 0.1, 2.0, 8.0]),  # seconds until the next
)
MODES = st.lists(st.sampled_from(PpkMode), min_size=3, max_size=3)
traits = sa_init._peer_traits


def foreign(*args: object) -> sa_init.PeerTraits:
    return replace(traits(*args), qsgw=False)  # type: ignore[arg-type]


def wish(pair: Pair, verb: str, whose: int, number: int) -> None:
    side = pair.sides[whose]
    tunnel = side.tunnels[number % len(side.tunnels)]
    now = pair.now
    match verb:
        case "initiate":
            side.endpoint.initiate(tunnel, ppk=pair.key(side), now=now)
        case "rekey" | "plain":
            key = pair.key(side) if verb == "rekey" else None
            side.endpoint.rekey_child(tunnel, ppk=key, now=now)
        case "close":
            side.endpoint.close(tunnel, reason="terminated by the operator", now=now)
        case "expire":
            for spec in side.kernel.inbound(tunnel)[:1]:
                side.endpoint.sa_expired(spec.sa_id, hard=True, now=now)
        case _:
            pair.crash(side)


def check_agreement(pair: Pair) -> None:
    pair.check_settled()
    for tunnel in pair.moon.tunnels:
        ours, theirs = (side.facts_of(tunnel).children for side in pair.sides)
        assert len(ours) <= 1, (tunnel, ours)
        assert len(ours) == len(theirs), (tunnel, ours, theirs)
        if ours:
            assert (ours[0].spi_in, ours[0].spi_out) == (theirs[0].spi_out, theirs[0].spi_in)
            assert ours[0].mixed == theirs[0].mixed
            assert pair.carries(pair.moon, tunnel)
            assert pair.carries(pair.sun, tunnel)
    for side in pair.sides:
        children = sum(len(side.facts_of(tunnel).children) for tunnel in side.tunnels)
        assert len(side.kernel.sas) == 2 * children, side.name
        assert not side.kernel.reserved, side.name
        assert len(side.facts.ike) <= 1, (side.name, side.facts.ike)


def live(count: int, wishes: list[tuple[str, int, int, float]], fates: list, **options) -> Pair:
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=TUNNELS[:count], **options)

    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        delays = fates[flight.number] if flight.number < len(fates) else [0.0]
        return [(delay, flight.data) for delay in delays]

    pair.fault = fault
    for verb, whose, number, pause in wishes:
        wish(pair, verb, whose, number)
        pair.run(pause) if pause else pair._drain()
    pair.run(400)
    return pair


@settings(max_examples=120, deadline=None)
@given(
    count=st.integers(1, 3),
    wishes=st.lists(WISH, min_size=1, max_size=10),
    fates=st.lists(FATE, max_size=60),
    modes=st.tuples(MODES, MODES),
    is_foreign=st.booleans(),
)
def test_any_life_of_several_tunnels(count, wishes, fates, modes, is_foreign):
    sides = [
        {"each": {name: {"ppk": mode} for name, mode in zip(TUNNELS, each, strict=True)}}
        for each in modes
    ]
    with patch.object(sa_init, "_peer_traits", foreign if is_foreign else traits):
        check_agreement(live(count, wishes, fates, moon=sides[0], sun=sides[1]))


@settings(max_examples=60, deadline=None)
@given(
    order=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=6),
    fates=st.lists(st.sampled_from([[0.0], [0.01], [0.02], [0.3]]), max_size=60),
    is_foreign=st.booleans(),
    seed=st.integers(0, 3),
)
def test_any_start_of_several_tunnels(order, fates, is_foreign, seed):
    """Whoever begins what: all that was begun is up in the end, over one IKE SA."""
    wishes = [("initiate", whose, number, 0.0) for whose, number in order]
    with patch.object(sa_init, "_peer_traits", foreign if is_foreign else traits):
        pair = live(3, wishes, fates, seed=str(seed))
    check_agreement(pair)
    for _, number in order:
        assert pair.moon.facts_of(TUNNELS[number]).children, TUNNELS[number]
