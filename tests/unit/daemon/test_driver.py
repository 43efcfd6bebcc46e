"""The driver's one timer: armed for the earliest deadline, and not anew for each later one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.daemon.driver import Driver
from gateway.ike.endpoint import Endpoint


class Core:
    """An endpoint with a deadline and nothing to say."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.handled: list[float] = []

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timer(self, now: float) -> None:
        self.handled.append(now)

    def take_datagrams(self) -> list[Any]:
        return []

    take_commands = take_events = take_datagrams


class Loop:
    """Where the timer is armed: what was asked for, and whether it was taken back."""

    def __init__(self, core: Core) -> None:
        self.now = 100.0
        self.driver = Driver(
            cast("Endpoint", core),
            send=lambda data, local, remote: None,
            on_event=lambda event: None,
            clock=lambda: self.now,
        )
        self.driver.connect(cast("Any", object()))


def set_deadline(core: Core, loop: Loop, when: float | None) -> asyncio.TimerHandle | None:
    core.deadline = when
    loop.driver.run(lambda: None)
    return loop.driver._loop._timer


async def test_a_later_deadline_leaves_the_timer_and_is_met_all_the_same() -> None:
    core = Core()
    loop = Loop(core)
    first = set_deadline(core, loop, 110.0)
    assert set_deadline(core, loop, 130.0) is first
    assert set_deadline(core, loop, None) is first
    assert set_deadline(core, loop, 130.0) is first
    loop.now = 110.0
    before = asyncio.get_running_loop().time()
    loop.driver._loop._expire()  # too early: nothing is due, and it is armed for what is
    assert core.handled == [110.0]
    again = loop.driver._loop._timer
    assert again is not None
    assert again.when() >= before + 20.0


async def test_an_earlier_deadline_arms_it_anew() -> None:
    core = Core()
    loop = Loop(core)
    first = set_deadline(core, loop, 130.0)
    second = set_deadline(core, loop, 105.0)
    assert first is not None
    assert first.cancelled()
    assert second is not None
    assert second.when() < first.when()


async def test_a_closed_driver_arms_nothing() -> None:
    core = Core()
    loop = Loop(core)
    set_deadline(core, loop, 130.0)
    loop.driver.close()
    assert set_deadline(core, loop, 105.0) is None
