"""Whatever the wire does, the two ends agree in the end, or have nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike.config import PpkMode
from gateway.ike.registry import ExchangeType
from tests.support.ike_pair import Flight, Pair

FATE = st.sampled_from(
    [
        [0.0],
        [0.0],
        [0.0],
        [0.05],
        [],
        [0.0, 0.0],
        [0.0, 2.5],
        [1.7],
        [4.0],
    ]
)
ACTIONS = st.sampled_from(
    [
        *("rekey moon", "rekey sun", "ike moon", "ike sun", "initiate moon", "initiate sun"),
        *("plain", "wait", "expire", "close"),
    ]
)


def chance(fates: list[list[float]], pair: list[Pair]):
    """Each datagram meets the next fate; when they are used up the wire is good."""

    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        delays = fates[flight.number] if flight.number < len(fates) else [0.0]
        return [(delay, flight.data) for delay in delays]

    return fault


def act(pair: Pair, action: str) -> None:
    verb, _, name = action.partition(" ")
    side = pair.sun if name == "sun" else pair.moon
    match verb:
        case "rekey":
            pair.rekey(side=side)
        case "ike":
            side.endpoint.rekey_ike("net", ppk=pair.key(side), now=pair.now)
            pair.run()
        case "initiate":
            pair.initiate(side=side)
        case "plain":
            pair.rekey(ppk=False)
        case "expire":
            for spec in pair.moon.kernel.inbound()[:1]:
                pair.moon.endpoint.sa_expired(spec.sa_id, hard=True, now=pair.now)
        case "close":
            pair.sun.endpoint.close("net", reason="terminated by the operator", now=pair.now)
        case _:
            pair.run(0.5)


def check_agreement(pair: Pair) -> None:
    """At most one SA pair, the same at both ends; every key settled once; nothing half-done."""
    pair.check_settled()
    children = [side.facts.children for side in pair.sides]
    assert len(children[0]) <= 1, children[0]
    assert len(children[1]) <= 1, children[1]
    if children[0] or children[1]:
        pair.check_mirrored()
    else:
        pair.check_empty()
    ikes = [[(one.spi_i, one.spi_r) for one in side.facts.ike] for side in pair.sides]
    assert len(ikes[0]) <= 1
    assert ikes[0] == ikes[1]


def check_quiet(pair: Pair) -> None:
    """Nothing goes on being sent but liveness."""
    since = len(pair.sent)
    pair.run(120)
    assert {flight.header.exchange for flight in pair.sent[since:]} <= {ExchangeType.INFORMATIONAL}
    assert len(pair.sent) - since <= 4 * 6


@settings(max_examples=60, deadline=None)
@given(fates=st.lists(FATE, max_size=24), seed=st.integers(0, 3))
def test_handshake_under_any_schedule(fates, seed):
    pair = Pair(toy_kex=True, seed=str(seed), report_inbound=bool(seed % 2))
    pair.fault = chance(fates, [pair])
    pair.initiate()
    pair.run(150)
    check_agreement(pair)
    if len(fates) < 4:  # few enough that giving up would be wrong
        assert pair.moon.facts.children


@settings(max_examples=100, deadline=None)
@given(
    fates=st.lists(FATE, max_size=60),
    actions=st.lists(ACTIONS, max_size=6),
    modes=st.tuples(st.sampled_from(PpkMode), st.sampled_from(PpkMode)),
    pauses=st.lists(st.sampled_from([0.0, 0.1, 1.0, 6.0]), min_size=6, max_size=6),
    fragment_size=st.sampled_from([576, 1280]),
)
def test_a_life_under_any_schedule(fates, actions, modes, pauses, fragment_size):
    pair = Pair(toy_kex=True, fragment_size=fragment_size)
    pair.initiate()
    pair.fault = chance([[0.0]] * 8 + fates, [pair])
    for side, mode in zip(pair.sides, modes, strict=True):
        side.endpoint.set_ppk_mode("net", mode, pair.now)
    for action, pause in zip(actions, pauses, strict=False):
        act(pair, action)
        pair.run(pause)
    pair.run(250)
    check_agreement(pair)
    check_quiet(pair)


@settings(max_examples=40, deadline=None)
@given(
    fates=st.lists(st.sampled_from([[0.0], [0.02], [0.0, 0.3], [0.4]]), max_size=40),
    sides=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=4),
)
def test_no_packet_is_lost_while_every_message_arrives(fates, sides):
    pair = Pair(toy_kex=True, report_inbound=True).initiate()
    pair.run(1)
    pair.fault = chance([[0.0]] * 8 + fates, [pair])
    pair.watch_traffic()
    for moon, ike in sides:
        act(pair, f"{'ike' if ike else 'rekey'} {'moon' if moon else 'sun'}")
        pair.run(8)
    check_agreement(pair)
