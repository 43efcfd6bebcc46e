"""A half-dead daemon must end, and the watchdog must starve when nothing moves."""

from __future__ import annotations

import asyncio

from gateway.daemon.supervise import Supervisor, feed_watchdog
from tests.support.virtual_loop import run_virtually


async def fail() -> None:
    raise RuntimeError("broken")


async def go_on() -> None:
    await asyncio.get_running_loop().create_future()


def supervisor() -> Supervisor:
    return Supervisor(asyncio.get_running_loop().time)


def test_the_first_vital_task_to_fail_is_named() -> None:
    async def scenario() -> str:
        watched = supervisor()
        watched.start("steady", go_on())
        watched.start("shaky", fail())
        reason = await watched.wait_failure()
        await watched.stop()
        return reason

    assert "shaky" in run_virtually(scenario())


def test_a_vital_task_that_just_returns_is_a_failure_too() -> None:
    async def scenario() -> str:
        watched = supervisor()
        watched.start("short", asyncio.sleep(1))
        return await watched.wait_failure()

    assert run_virtually(scenario()) == "task short ended"


def test_a_task_that_is_not_vital_may_fail() -> None:
    async def scenario() -> bool:
        watched = supervisor()
        watched.start("mqtt", fail(), vital=False)
        waiting = asyncio.ensure_future(watched.wait_failure())
        await asyncio.sleep(5)
        done = waiting.done()
        waiting.cancel()
        return done

    assert run_virtually(scenario()) is False


def test_stopping_is_not_a_failure() -> None:
    async def scenario() -> bool:
        watched = supervisor()
        watched.start("steady", go_on())
        waiting = asyncio.ensure_future(watched.wait_failure())
        await watched.stop()
        await asyncio.sleep(1)
        done = waiting.done()
        waiting.cancel()
        return done

    assert run_virtually(scenario()) is False


def test_the_watchdog_is_fed_only_while_every_loop_beats() -> None:
    async def scenario() -> tuple[int, int]:
        watched = supervisor()
        beat = watched.expect_beats("loop", gap=10)
        pings: list[None] = []
        task = asyncio.ensure_future(feed_watchdog(watched, lambda: pings.append(None), 5))
        for _ in range(6):
            await asyncio.sleep(5)
            beat()
        alive = len(pings)
        await asyncio.sleep(100)
        task.cancel()
        return alive, len(pings)

    alive, afterwards = run_virtually(scenario())
    assert alive >= 5
    assert afterwards <= alive + 3  # the gap allows two, and one may fall on the edge
