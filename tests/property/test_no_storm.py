"""Whatever happened, it comes to rest: one IKE SA per peer, one Child SA per tunnel, silence.

Both ends set up, rekey and close what they like, one of them may start anew with nothing in
hand, and the wire loses, repeats and delays. Then the wire is good and each end asks for what
the policy would ask for: tunnels that are down are set up. From then on there is nothing but
liveness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike.events import ChildUp, ExchangeFailed, IkeRekeyed
from gateway.ike.flows import sa_init
from gateway.ike.registry import ExchangeType
from gateway.ike.service import Service
from gateway.ike.tunnel import Tunnel
from gateway.model import Role
from tests.support.ike_kernel import slow_kernel
from tests.support.ike_pair import TUNNELS, Flight, Pair, Side

QUIET = 400.0  # longer than any repetition, grace and retry
LIVENESS = 30.0
LOOKS = 5  # at the silence, in intervals of liveness

FATE = st.sampled_from([[0.0], [0.0], [0.0], [0.02], [0.4], [2.5], [0.0, 0.3], [0.0, 12.0], []])
UNEVEN = (0.001, 0.005, 0.02, 0.06, 0.5)  # seconds: no command takes as long as the one before
CHILD_WISHES = ("initiate", "rekey")
traits = sa_init._peer_traits


class Step(NamedTuple):
    verb: str
    whose: int
    tunnel: int
    pause: float  # seconds until the next


VERBS = ("initiate", "initiate", "rekey", "plain", "ike", "ike", "close", "restart", "expire")
STEP = st.builds(
    Step,
    st.sampled_from(VERBS),
    st.integers(0, 1),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.0, 0.01, 0.1, 1.0, 2.0, 8.0, 40.0]),
)


def foreign(*args: object) -> sa_init.PeerTraits:
    """Without our Vendor ID: a fresh QKD key goes in a new IKE SA."""
    return replace(traits(*args), qsgw=False)  # type: ignore[arg-type]


class Storm:
    """A pair, and what was asked of each side and has not ended yet."""

    def __init__(self, count: int, fates: list[list[float]], seed: str, *, toy: bool = True):
        self.pair = Pair(
            toy_kex=toy, report_inbound=True, tunnels=TUNNELS[:count], seed=seed, witnessed=False
        )
        self.pair.fault = self._fault
        self._fates = fates
        self.asked: Counter[tuple[str, str, str]] = Counter()  # side, tunnel, what
        self.moves: Counter[tuple[int, str]] = Counter()  # side's endpoint, tunnel
        self.since: dict[str, int] = {"moon": 0, "sun": 0}  # first event of this life

    def slow_kernels(self, times: Sequence[float], seed: int) -> None:
        """Each takes its commands one after the other, and one of these times for each."""
        for side in self.pair.sides:
            draw = Random(f"{side.name} {seed}").choice
            slow_kernel(side, lambda _, draw=draw: draw(times))

    def _fault(self, flight: Flight) -> list[tuple[float, bytes]]:
        number = flight.number
        delays = self._fates[number] if number < len(self._fates) else [0.0]
        return [(delay, flight.data) for delay in delays]

    def calm(self) -> None:
        self._fates = []

    def do(self, step: Step) -> None:
        pair, side = self.pair, self.pair.sides[step.whose]
        tunnel = side.tunnels[step.tunnel % len(side.tunnels)]
        endpoint, now = side.endpoint, pair.now
        match step.verb:
            case "initiate":
                self.asked[side.name, tunnel, "initiate"] += 1
                endpoint.initiate(tunnel, ppk=pair.key(side), now=now)
            case "rekey" | "plain":
                self.asked[side.name, tunnel, "rekey"] += 1
                key = pair.key(side) if step.verb == "rekey" else None
                endpoint.rekey_child(tunnel, ppk=key, now=now)
            case "ike":
                self.asked[side.name, tunnel, "rekey-ike"] += 1
                key = pair.key(side) if endpoint.takes_fresh_ppk(tunnel) else None
                endpoint.rekey_ike(tunnel, ppk=key, now=now)
            case "close":
                endpoint.close(tunnel, reason="terminated by the operator", now=now)
            case "expire":
                for spec in side.kernel.inbound(tunnel)[:1]:
                    endpoint.sa_expired(spec.sa_id, hard=True, now=now)
            case _:
                pair.run(0.001)  # its random numbers are others every time
                pair.crash(side)
                for asked in [one for one in self.asked if one[0] == side.name]:
                    del self.asked[asked]
                self.since[side.name] = len(side.events)
        pair._drain()
        if step.pause:
            pair.run(step.pause)

    def revive(self) -> None:
        """As the policy does: what is down is set up, by either end."""
        for _ in range(3):
            down = [
                one
                for one in self.pair.sides
                for facts in one.endpoint.views()
                if not facts.children
            ]
            if not down:
                return
            for whose, side in enumerate(self.pair.sides):
                for number, tunnel in enumerate(side.tunnels):
                    if not side.facts_of(tunnel).children:
                        self.do(Step("initiate", whose, number, 0.0))
            self.pair.run(QUIET)

    # --- what must hold --------------------------------------------------------------------

    def check(self) -> None:
        pair = self.pair
        pair.check_settled()
        pair.check_mirrored()
        ikes = [[(one.spi_i, one.spi_r) for one in side.facts.ike] for side in pair.sides]
        assert [len(one) for one in ikes] == [1, 1], ikes
        assert ikes[0] == ikes[1]
        for side in pair.sides:
            assert [one.state for one in side.facts.ike] == ["established"]
            assert len(side.kernel.sas) == 2 * len(side.tunnels), side.name
            for tunnel in side.tunnels:
                (child,) = side.facts_of(tunnel).children
                assert child.carries_outbound
                assert {child.spi_in, child.spi_out} == {
                    sa_id.spi for sa_id, spec in side.kernel.sas.items() if spec.tunnel == tunnel
                }
            for session in side.endpoint._sessions.all():
                assert not session.sa.pending
                assert not session._tasks._running
            self._check_wishes(side)
        self._check_silence()

    def _check_wishes(self, side: Side) -> None:
        """What was asked for ended in ChildUp, IkeRekeyed or ExchangeFailed, and only once."""
        events = side.events[self.since[side.name] :]
        ours = [one for one in events if getattr(one, "role", None) is Role.INITIATOR]
        failed = [one for one in events if isinstance(one, ExchangeFailed)]
        for tunnel in side.tunnels:
            ends = sum(isinstance(one, ChildUp) and one.tunnel == tunnel for one in ours)
            ends += sum(one.tunnel == tunnel and one.what in CHILD_WISHES for one in failed)
            asked = sum(self.asked[side.name, tunnel, what] for what in CHILD_WISHES)
            moves = self.moves[id(side.endpoint), tunnel]  # nobody asked for these
            assert asked <= ends <= asked + moves, (side.name, tunnel, asked, ends, moves)
        ends = sum(isinstance(one, IkeRekeyed) for one in ours)
        ends += sum(one.what == "rekey-ike" for one in failed)
        asked = sum(self.asked[side.name, tunnel, "rekey-ike"] for tunnel in side.tunnels)
        assert ends == asked, (side.name, "rekey-ike", asked, ends)

    def _check_silence(self) -> None:
        pair = self.pair
        since = len(pair.sent)
        pair.run(LOOKS * LIVENESS)
        sent = pair.sent[since:]
        assert {one.header.exchange for one in sent} <= {ExchangeType.INFORMATIONAL}
        assert len(sent) <= 4 * (LOOKS + 1), "more than liveness: request and answer, both ways"


def weather(
    steps: list[Step],
    count: int,
    fates: list[list[float]],
    seed: int,
    *,
    alien: bool,
    kernel: Sequence[float] = (),
    draw: int = 0,
):
    """``kernel``: the seconds a command may take; ``draw``: the seed they are drawn by."""
    storm = Storm(count, fates, str(seed))
    if kernel:
        storm.slow_kernels(kernel, draw)
    move = Service.move

    def counted(service: Service, tunnel: Tunnel, now: float) -> None:
        endpoints = [side.endpoint for side in storm.pair.sides]
        (ours,) = (one for one in endpoints if one._env is service._sa.env)
        storm.moves[id(ours), tunnel.name] += 1
        move(service, tunnel, now)

    with (
        patch.object(sa_init, "_peer_traits", foreign if alien else traits),
        patch.object(Service, "move", counted),
    ):
        for step in steps:
            storm.do(step)
        storm.calm()
        storm.pair.run(QUIET)
        storm.revive()
        storm.check()


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(STEP, min_size=1, max_size=10),
    count=st.integers(1, 3),
    fates=st.lists(FATE, max_size=60),
    seed=st.integers(0, 3),
    alien=st.booleans(),
    kernel=st.sampled_from([(), (0.003,), (0.03,), UNEVEN]),
    draw=st.integers(0, 99),
)
def test_it_comes_to_rest(steps, count, fates, seed, *, alien, kernel, draw):
    weather(steps, count, fates, seed, alien=alien, kernel=kernel, draw=draw)


@settings(max_examples=40, deadline=None)
@given(
    starts=st.lists(
        st.builds(Step, st.just("initiate"), st.integers(0, 1), st.integers(0, 2), st.just(0.0)),
        min_size=2,
        max_size=6,
    ),
    delays=st.lists(st.sampled_from([[0.001], [0.005], [0.02], [0.05]]), min_size=60, max_size=60),
    kernel=st.sampled_from([(0.001,), (0.005,), (0.02,), (0.06,), UNEVEN]),
    draw=st.integers(0, 99),
)
def test_both_ends_start_everything(starts, delays, kernel, draw):
    """Every message takes its own time: what the other end is at is seldom known."""
    weather(starts, 3, delays, 0, alien=False, kernel=kernel, draw=draw)
