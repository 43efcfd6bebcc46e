"""How long a rekey waits for its QKD key, with a warm pool and a real KME over mutual TLS."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from pathlib import Path

from gateway.keys.source import TunnelKeys
from kms_client.failover import KmeGroup
from kms_client.pool import PoolSettings
from tests.bench.figures import Figure, quantile
from tests.support.kme_lab import KmeLab

REKEYS = 300
PAUSE = 0.01  # seconds between rekeys: 100 a second, far above any QKD link


async def _measure() -> tuple[list[float], int]:
    waits: list[float] = []
    dry = 0
    with tempfile.TemporaryDirectory(prefix="qb") as directory:
        async with KmeLab(Path(directory)) as lab:
            await lab.filled()
            group = KmeGroup([lab.client("moon")])
            keys = TunnelKeys(
                group=group, peer_sae="sun", settings=PoolSettings(target=8, low_water=6)
            )
            keys.start()
            while keys.view().pool < 8:
                await asyncio.sleep(0.01)
            for _ in range(REKEYS):
                start = time.perf_counter()
                ppk = keys.take()
                if ppk is None:
                    dry += 1
                else:
                    waits.append(time.perf_counter() - start)
                    ppk.key.wipe()
                    keys.settle(ppk.key_id, used=True)
                await asyncio.sleep(PAUSE)
            await keys.stop()
            await group.close()
    return waits, dry


def run() -> list[Figure]:
    logging.disable(logging.WARNING)  # the KMEs of the bench come and go
    waits, dry = asyncio.run(_measure())
    if dry:
        return [Figure(name="rekeys that met an empty pool", value=dry, unit="", aim=0)]
    return [
        Figure(
            name="wait for a QKD key, warm pool, 99 %",
            value=quantile(waits, 0.99) * 1e3,
            unit="ms",
            aim=1.0,
            note=f"{len(waits)} rekeys against a KME over mutual TLS",
        )
    ]
