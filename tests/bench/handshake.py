"""CPU time of a full hybrid handshake and of a child rekey, both ends in this process.

Real cryptography, no sockets and no kernel: what the protocol itself costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.ike import limits
from tests.bench.figures import Figure, quantile
from tests.bench.unwatched import Unwatched

RUNS = 60
SUITES = {
    "X25519 + ML-KEM-768": {
        "ike": ("aes256gcm16-prfsha512-x25519-ke1_mlkem768",),
        "esp": ("aes256gcm16-x25519-ke1_mlkem768-esn",),
    },
    "P-384 + ML-KEM-1024": {
        "ike": ("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",),
        "esp": ("aes256gcm16-ecp384-ke1_mlkem1024-esn",),
    },
}
AIMED_AT = "X25519 + ML-KEM-768"
HANDSHAKE_AIM, REKEY_AIM = 5.0, 3.0  # ms


def _milliseconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


def run() -> list[Figure]:
    figures = []
    for name, suite in SUITES.items():
        handshakes, rekeys = [], []
        for number in range(RUNS):
            pair = Unwatched(seed=f"bench {number}", witnessed=False, **suite)
            handshakes.append(_milliseconds(pair.initiate))
            pair.check_mirrored()
            rekeys.append(_milliseconds(pair.rekey))
            pair.run(limits.LINGER + 1)  # the replaced SAs go
            pair.check_mirrored()
        aimed = name == AIMED_AT
        figures += [
            Figure(
                name=f"handshake, {name} + PPK",
                value=quantile(handshakes, 0.5),
                unit="ms CPU",
                aim=HANDSHAKE_AIM if aimed else None,
                note="both ends in memory, median",
            ),
            Figure(
                name=f"child rekey, {name} + PPK",
                value=quantile(rekeys, 0.5),
                unit="ms CPU",
                aim=REKEY_AIM if aimed else None,
                note="both ends in memory, median",
            ),
        ]
    return figures
