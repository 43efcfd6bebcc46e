"""Two stores and the link, all messages in our hands: whatever is lost, the stores agree."""

from __future__ import annotations

from collections import deque
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kms_client.secret import Secret
from qkd_adapters.errors import NotEnoughKeysError, QuarantinedKeyError, UnknownKeyError
from qkd_adapters.kme.agent import LinkAgent
from qkd_adapters.link.handover import HandoverCore
from qkd_adapters.link.messages import Direction, FromKme, FromLink
from tests.support.kme_lab import available_ids

MAX_COUNT = 3
LIFETIME = 100.0
SIDES = ("kme-moon", "kme-sun")
PAIRS = {"kme-moon": (("moon", "sun"),), "kme-sun": (("sun", "moon"),)}
DIRECTIONS = (Direction("moon", "sun"), Direction("sun", "moon"))
HOME = {"moon": "kme-moon", "sun": "kme-sun"}


class World:
    """Messages stand in queues until the test moves them."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ids = count(1)
        self._blocks = count(1)
        self.taken: dict[str, tuple[Direction, bytes]] = {}
        self.fetched: set[str] = set()
        self.made: list[str] = []
        self.quarantined: set[str] = set()
        self.to_link: dict[str, deque[FromKme]] = {side: deque() for side in SIDES}
        self.to_kme: dict[str, deque[FromLink]] = {side: deque() for side in SIDES}
        self.up: dict[str, bool] = dict.fromkeys(SIDES, False)
        self.core = self._new_core()
        self.agents = {side: self._new_agent(side) for side in SIDES}
        for side in SIDES:
            self.reconnect(side)

    def _new_core(self) -> HandoverCore:
        return HandoverCore(SIDES, new_id=lambda: f"key-{next(self._ids)}")

    def _new_agent(self, side: str) -> LinkAgent:
        return LinkAgent(
            kme=side,
            peer=SIDES[1 - SIDES.index(side)],
            pairs=PAIRS[side],
            max_count=MAX_COUNT,
            lifetime=LIFETIME,
            clock=lambda: self.now,
        )

    # --- what can happen ---

    def disconnect(self, side: str) -> None:
        """Everything under way is lost."""
        if self.up[side]:
            self.up[side] = False
            self.to_link[side].clear()
            self.to_kme[side].clear()
            self.agents[side].lost("test")
            self.core.lost(side)
            self._collect()

    def reconnect(self, side: str) -> None:
        if not self.up[side]:
            self.up[side] = True
            self.agents[side].established(self.to_link[side].append)

    def restart_kme(self, side: str) -> None:
        self.disconnect(side)
        self.agents[side] = self._new_agent(side)

    def restart_link(self) -> None:
        for side in SIDES:
            self.disconnect(side)
        self.core = self._new_core()

    def make(self) -> None:
        block = Secret(next(self._blocks).to_bytes(32, "big"))
        offered = self.core.distribute(block, self.now)
        if offered is not None:
            self.made.append(offered[0])
        self._collect()

    def quarantine(self, count: int) -> None:
        """The newest so many keys."""
        named = self.made[len(self.made) - count :]
        self.quarantined.update(named)
        self.core.quarantine(named)
        self._collect()

    def step(self, side: str, *, towards_link: bool) -> None:
        """Deliver one message."""
        if towards_link and self.to_link[side]:
            self.core.handle(side, self.to_link[side].popleft())
            self._collect()
        elif not towards_link and self.to_kme[side]:
            self.agents[side].handle(self.to_kme[side].popleft())

    def take(self, direction: Direction, size: int) -> None:
        store = self.agents[HOME[direction.master]].store
        try:
            (key,) = store.take(direction, count=1, size=size)
        except NotEnoughKeysError:
            return
        assert key.key_id not in self.taken, "a key went to the master twice"
        self.taken[key.key_id] = (direction, key.key.expose())

    def fetch(self, key_id: str) -> bool:
        direction, octets = self.taken[key_id]
        store = self.agents[HOME[direction.slave]].store
        try:
            (key,) = store.fetch(direction, [key_id])
        except UnknownKeyError:
            return False
        assert key_id not in self.fetched, "a key went to the slave twice"
        assert key.key.expose() == octets, "the two sides hold different keys"
        self.fetched.add(key_id)
        return True

    def settle(self) -> None:
        """Reconnect and deliver everything."""
        for side in SIDES:
            self.reconnect(side)
        while any(self.to_link.values()) or any(self.to_kme.values()):
            for side in SIDES:
                self.step(side, towards_link=True)
                self.step(side, towards_link=False)

    def _collect(self) -> None:
        for side, message in self.core.take_outbox():
            if self.up[side]:
                self.to_kme[side].append(message)

    # --- what must hold ---

    def check_bounds(self) -> None:
        for agent in self.agents.values():
            for direction in DIRECTIONS:
                assert len(available_ids(agent.store, direction)) <= MAX_COUNT

    def check_accounts(self) -> None:
        """Keys of the block size: what came in is out, gone for a reason, or here."""
        for side, agent in self.agents.items():
            for direction in DIRECTIONS:
                account = agent.store.account(direction)
                ours = HOME[direction.master] == side
                delivered = account.delivered_master if ours else account.delivered_slave
                here = len(available_ids(agent.store, direction)) + agent.store.awaiting(direction)
                gone = account.expired + account.unfetched + account.discarded + account.quarantined
                assert account.stored == delivered + gone + here
                assert account.delivered_suspect <= delivered

    def check_agreement(self) -> None:
        """After settle()."""
        moon, sun = (self.agents[side].store for side in SIDES)
        assert not moon.inventory(()).pending
        assert not sun.inventory(()).pending
        for direction in DIRECTIONS:
            ids = available_ids(moon, direction)
            assert ids == available_ids(sun, direction)
            for side in SIDES:
                assert self.core.room(side, direction) == MAX_COUNT - len(ids)


def apply(world: World, operation: tuple[str, int]) -> None:
    name, number = operation
    side = SIDES[number % 2]
    direction = DIRECTIONS[number // 2 % 2]
    match name:
        case "make":
            world.make()
        case "step":
            world.step(side, towards_link=bool(number & 2))
        case "run":
            for _ in range(number):
                for each in SIDES:
                    world.step(each, towards_link=True)
                    world.step(each, towards_link=False)
        case "take":
            world.take(direction, 256 if number < 8 else 512)
        case "take-one":
            world.take(direction, 256)
        case "quarantine":
            world.quarantine(min(number, len(world.made)))
        case "fetch":
            if world.taken:
                key_ids = [key_id for key_id in world.taken if key_id not in world.fetched]
                if key_ids:
                    world.fetch(key_ids[number % len(key_ids)])
        case "disconnect":
            world.disconnect(side)
        case "reconnect":
            world.reconnect(side)
        case "restart-kme":
            world.restart_kme(side)
        case "restart-link":
            world.restart_link()
        case "age":
            world.now += LIFETIME * 0.6
            for agent in world.agents.values():
                agent.store.expire()
    world.check_bounds()


def operations(*names: str, take: str = "take") -> st.SearchStrategy[list[tuple[str, int]]]:
    # What moves things along stands there several times, or little would ever happen.
    weighted = ["make"] * 3 + ["step"] * 6 + ["run"] * 2 + [take] * 3 + ["fetch", *names]
    operation = st.tuples(st.sampled_from(weighted), st.integers(0, 15))
    # A short history reaches no interesting state, and most lists would be short.
    return st.lists(operation, min_size=60, max_size=150)


def run(history: list[tuple[str, int]]) -> World:
    """A world that starts in agreement, with stock."""
    world = World()
    world.settle()
    for _ in range(MAX_COUNT):
        world.make()
    world.settle()
    for operation in history:
        apply(world, operation)
    world.settle()
    return world


@settings(max_examples=50, deadline=None)
@given(operations("disconnect", "reconnect", "restart-kme", "restart-link", "age", "quarantine"))
def test_stores_agree_after_any_history(history: list[tuple[str, int]]) -> None:
    world = run(history)
    world.check_agreement()


@settings(max_examples=50, deadline=None)
@given(operations("disconnect", "reconnect", "restart-link"))
def test_while_no_kme_restarts_every_delivered_key_reaches_its_slave(
    history: list[tuple[str, int]],
) -> None:
    world = run(history)
    world.check_agreement()
    for key_id in world.taken.keys() - world.fetched:
        assert world.fetch(key_id)


@settings(max_examples=50, deadline=None)
@given(operations("disconnect", "reconnect", "age", "quarantine", "quarantine"))
def test_a_quarantined_key_is_delivered_to_nobody_once_both_kmes_heard_of_it(
    history: list[tuple[str, int]],
) -> None:
    world = run(history)
    world.quarantine(len(world.made) // 2)
    world.settle()
    world.check_agreement()
    for key_id in world.quarantined & world.taken.keys() - world.fetched:
        direction, _ = world.taken[key_id]
        with pytest.raises(QuarantinedKeyError):
            world.agents[HOME[direction.slave]].store.fetch(direction, [key_id])
    for agent in world.agents.values():
        for direction in DIRECTIONS:
            assert not available_ids(agent.store, direction) & world.quarantined


@settings(max_examples=50, deadline=None)
@given(operations("disconnect", "reconnect", "restart-kme", "age", "quarantine", take="take-one"))
def test_accounts_add_up_after_any_history(history: list[tuple[str, int]]) -> None:
    world = run(history)
    world.check_accounts()


@settings(max_examples=20, deadline=None)
@given(operations("disconnect", "reconnect", "restart-kme", "restart-link", "age", "quarantine"))
def test_after_any_history_keys_flow_again(history: list[tuple[str, int]]) -> None:
    world = run(history)
    for _ in range(2 * MAX_COUNT):
        world.make()
        world.settle()
    world.check_agreement()
    for direction in DIRECTIONS:
        assert world.core.room("kme-moon", direction) == 0
        assert len(available_ids(world.agents["kme-moon"].store, direction)) == MAX_COUNT


def test_key_accepted_by_one_side_only_is_never_delivered() -> None:
    world = World()
    world.settle()
    world.make()
    world.step("kme-moon", towards_link=False)  # offer held at moon
    world.step("kme-moon", towards_link=True)  # and accepted
    for direction in DIRECTIONS:
        assert not available_ids(world.agents["kme-moon"].store, direction)
    world.restart_kme("kme-sun")
    world.settle()
    world.check_agreement()
    assert not world.agents["kme-moon"].store.inventory(()).available


def test_offer_left_unanswered_is_overdue() -> None:
    world = World()
    world.settle()
    world.make()
    world.step("kme-moon", towards_link=False)
    world.step("kme-moon", towards_link=True)
    assert world.core.overdue(4.9) == set()
    assert world.core.overdue(5.0) == {"kme-sun"}


def test_directions_take_turns_until_full() -> None:
    world = World()
    world.settle()
    for made in range(1, 2 * MAX_COUNT + 1):
        world.make()
        world.settle()
        store = world.agents["kme-moon"].store
        counts = [len(available_ids(store, direction)) for direction in DIRECTIONS]
        assert sum(counts) == made
        assert abs(counts[0] - counts[1]) <= 1
    assert world.core.distribute(Secret(bytes(32)), 0.0) is None


def stocked() -> World:
    world = World()
    world.settle()
    for _ in range(2 * MAX_COUNT):
        world.make()
        world.settle()
    return world


def test_quarantine_takes_the_named_keys_from_both_stores_and_no_others() -> None:
    world = stocked()
    older, named = world.made[:-2], world.made[-2:]
    world.quarantine(2)
    world.settle()
    world.check_agreement()
    for side in SIDES:
        store = world.agents[side].store
        left = {key_id for each in DIRECTIONS for key_id in available_ids(store, each)}
        assert left == set(older)
        accounts = [store.account(direction) for direction in DIRECTIONS]
        assert sum(account.quarantined for account in accounts) == len(named)
        assert not any(account.delivered_suspect for account in accounts)
    world.check_accounts()


@pytest.mark.parametrize("size", [256, 512])
def test_a_slave_is_refused_a_quarantined_key_that_its_master_has(size: int) -> None:
    """Also where one block of two was suspect, and the notice came before or after."""
    for notice_first in (True, False):
        world = stocked()
        direction = DIRECTIONS[0]
        world.take(direction, size)
        (key_id,) = world.taken
        if notice_first:
            world.settle()
        world.quarantine(len(world.made))
        world.settle()
        slave = world.agents["kme-sun"].store
        assert slave.unannounced(direction, [key_id]) == []  # nobody waits for news of it
        with pytest.raises(QuarantinedKeyError) as caught:
            slave.fetch(direction, [key_id])
        assert caught.value.key_ids == (key_id,)
        assert world.agents["kme-moon"].store.account(direction).delivered_suspect == size // 256
        assert slave.account(direction).delivered_suspect == 0


def test_a_key_both_saes_have_is_counted_once_at_each_end_however_often_it_is_named() -> None:
    world = stocked()
    direction = DIRECTIONS[0]
    world.take(direction, 256)
    world.settle()
    (key_id,) = world.taken
    assert world.fetch(key_id)
    for _ in range(2):
        world.quarantine(len(world.made))
        world.settle()
    for side in SIDES:
        assert world.agents[side].store.account(direction).delivered_suspect == 1
    world.check_accounts()


def test_a_key_on_its_way_when_the_suspicion_comes_is_never_delivered() -> None:
    world = World()
    world.settle()
    world.make()
    world.step("kme-moon", towards_link=False)  # moon holds it, sun was not asked yet
    world.quarantine(1)
    world.settle()
    world.check_agreement()
    assert not world.agents["kme-moon"].store.inventory(()).available
    assert sum(each.discarded for each in world.core.counters.values()) == 1


def test_a_kme_that_was_away_is_told_before_it_gives_another_key() -> None:
    world = stocked()
    world.disconnect("kme-sun")
    world.quarantine(len(world.made))
    world.settle()
    world.check_agreement()
    sun = world.agents["kme-sun"].store
    assert sum(sun.account(each).quarantined for each in DIRECTIONS) == len(world.made)
    assert not any(sun.account(each).discarded for each in DIRECTIONS)


def test_a_key_its_master_has_is_not_kept_for_a_slave_whose_kme_missed_the_quarantine() -> None:
    """Sun's KME was away, and the link forgot what it had quarantined."""
    world = stocked()
    world.disconnect("kme-sun")
    world.take(DIRECTIONS[0], 256)
    world.quarantine(len(world.made))
    world.step("kme-moon", towards_link=False)
    world.restart_link()
    world.settle()
    world.check_agreement()
    (key_id,) = world.taken
    assert not world.fetch(key_id)


@pytest.mark.parametrize("size", [64, 128, 256, 264, 512, 1024])
def test_both_sides_make_the_same_key_of_any_size(size: int) -> None:
    world = World()
    world.settle()
    for _ in range(2 * MAX_COUNT):
        world.make()
        world.settle()
    direction = DIRECTIONS[0]
    world.take(direction, size)
    if size > 256 * MAX_COUNT:
        assert not world.taken
        return
    world.settle()
    (key_id,) = world.taken
    assert len(world.taken[key_id][1]) == size // 8
    assert world.fetch(key_id)
    assert not world.fetch(key_id)
    world.check_agreement()
