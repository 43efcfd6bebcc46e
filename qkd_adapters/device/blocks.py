"""Carries one block of the post-processing between its machine and the peer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kms_client.errors import QsgwError
from qkd_adapters.errors import PeerSilentError
from qkd_adapters.postprocessing.blocks import Block, Outcome

# A step of a smaller block takes a few milliseconds, and Cascade has a hundred of them: to go to
# a thread and back costs more than it spares. Detections.
THREAD_FROM = 300_000
# A peer that says nothing for so long in the middle of a block is gone. Seconds.
PEER_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A block that came to an end, and what it cost. Times in seconds."""

    outcome: Outcome
    stall: float  # longest wait for the peer
    busy: float  # our own computing
    took: float  # from start to end


class BlockRunner:
    """Feeds one machine; a large block's computing is done in threads, one call at a time.

    ``run`` must not be cancelled while it computes: the thread would go on by itself.
    """

    def __init__(self, block: Block, detections: int, send: Callable[[bytes], None]) -> None:
        self._block = block
        self._aside = detections >= THREAD_FROM
        self._send = send
        self.heard = b""  # the peer's first message
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()

    def feed(self, data: bytes) -> None:
        self._inbox.put_nowait(data)

    def give_up(self) -> None:
        """There is nobody to talk to any more. ``run`` ends when the step under way does."""
        self._inbox.put_nowait(None)

    async def run(self) -> Run:
        """Raises PostprocessingError, PeerSilentError; the block is abandoned then."""
        began = time.monotonic()
        stall = busy = 0.0
        try:
            busy += await self._step(self._block.start)
            while self._block.outcome is None:
                asked = time.monotonic()
                data = await self._next()
                stall = max(stall, time.monotonic() - asked)
                self.heard = self.heard or data
                busy += await self._step(partial(self._block.handle, data))
        except QsgwError as error:
            self._block.abandon(str(error))
            raise
        return Run(
            outcome=self._block.outcome, stall=stall, busy=busy, took=time.monotonic() - began
        )

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(PEER_TIMEOUT):
                data = await self._inbox.get()
        except TimeoutError:
            raise PeerSilentError(f"the peer said nothing for {PEER_TIMEOUT:g} s") from None
        if data is None:
            raise PeerSilentError("the session ended")
        return data

    async def _step(self, compute: Callable[[], list[bytes]]) -> float:
        began = time.monotonic()
        messages = await asyncio.to_thread(compute) if self._aside else compute()
        for data in messages:
            self._send(data)
        return time.monotonic() - began
