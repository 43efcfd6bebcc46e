"""Two habits of this package's background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def pause(
    seconds: float, wake: asyncio.Event, *, sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Until woken, at most ``seconds``; ``wake`` is clear afterwards."""
    timer = asyncio.ensure_future(sleep(seconds))
    woken = asyncio.ensure_future(wake.wait())
    try:
        await asyncio.wait({timer, woken}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        woken.cancel()
        wake.clear()


def start(work: Awaitable[None], *, name: str) -> asyncio.Task[None]:
    """A task that does not end by itself: if it does, the loop's exception handler is told."""
    task = asyncio.ensure_future(work)
    assert isinstance(task, asyncio.Task)
    task.set_name(name)
    task.add_done_callback(_report_crash)
    return task


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler(
            {"message": f"task ended: {task.get_name()}", "exception": error, "task": task}
        )
