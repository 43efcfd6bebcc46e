"""How long ``qsgw status`` takes for the person who types it, process start included."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.control.server import ControlServer
from gateway.model import Snapshot, StatusEvent
from tests.bench.figures import BIN, Figure, quantile
from tests.support.snapshots import snapshot

RUNS = 25


class _Handler:
    """A daemon with nothing to do but answer."""

    async def snapshot(self) -> Snapshot:
        return snapshot()

    async def initiate(self, tunnel: str) -> str:
        return tunnel

    terminate = rekey = initiate

    async def reload(self) -> str:
        return ""

    async def subscribe(self) -> AsyncIterator[StatusEvent]:
        return
        yield


async def _measure() -> list[float]:
    with tempfile.TemporaryDirectory(prefix="qb") as directory:
        path = Path(directory) / "control.sock"
        server = ControlServer(_Handler(), path=path)
        await server.start()
        times = [await asyncio.to_thread(_once, path) for _ in range(RUNS)]
        await server.stop()
        return times


def _once(path: Path) -> float:
    start = time.perf_counter()
    subprocess.run([BIN / "qsgw", "--socket", path, "status"], check=True, capture_output=True)
    return time.perf_counter() - start


def run() -> list[Figure]:
    times = asyncio.run(_measure())
    return [
        Figure(
            name="qsgw status, wall time, median",
            value=quantile(times, 0.5) * 1e3,
            unit="ms",
            aim=150.0,
            note=f"{RUNS} runs",
        )
    ]
