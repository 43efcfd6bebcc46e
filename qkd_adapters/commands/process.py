"""Commands that are processes: they run until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from kms_client.notify import ServiceManager
from qkd_adapters.logs import set_up_logging

Service = Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]
"""Takes ``ready``, which it sets, and ``stop``, which it obeys."""


def run_service(service: Service) -> int:
    """Run until SIGTERM or SIGINT; tell the service manager when ready."""
    set_up_logging()

    async def run() -> None:
        ready, stop = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, stop.set)
        announcer = asyncio.create_task(_announce(ready))
        try:
            await service(ready, stop)
        finally:
            announcer.cancel()
            ServiceManager().tell("STOPPING=1")

    asyncio.run(run())
    return 0


async def _announce(ready: asyncio.Event) -> None:
    await ready.wait()
    ServiceManager().tell("READY=1")
