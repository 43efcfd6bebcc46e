"""How a process waits for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


async def until_stopped(stop: asyncio.Event, tasks: Iterable[asyncio.Task[None]]) -> None:
    """Until ``stop``; raises what ended one of ``tasks``, which never end by themselves."""
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for task in done - {stopped}:
        task.result()
