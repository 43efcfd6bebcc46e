"""Two ends in memory, and records of a link as plain as can be (the optics are not needed here)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kms_client.secret import Secret
from qkd_adapters.postprocessing.blocks import Block, End, LinkEnd
from qkd_adapters.postprocessing.settings import Settings

PSK_OCTETS = 1024

Tamper = Callable[[End, int, bytes], bytes]
"""Who sends, number of the message, message -> message that arrives."""


class SeededRng:
    """Repeatable, for tests only."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def random_bytes(self, count: int) -> bytes:
        return self._random.bytes(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    block: int
    pulses: int
    columns: Mapping[str, NDArray[Any]]
    totals: Mapping[str, tuple[int, ...]]


def ends(settings: Settings, *, seed: int = 1, psk: bytes | None = None) -> tuple[LinkEnd, LinkEnd]:
    """Sender and receiver with the same pre-shared key."""
    key = psk or np.random.default_rng(7).bytes(PSK_OCTETS)
    sender, receiver = (
        LinkEnd(end=end, settings=settings, psk=Secret(key), rng=SeededRng(seed + number))
        for number, end in enumerate((End.SENDER, End.RECEIVER))
    )
    return sender, receiver


def carry(sender: Block, receiver: Block, tamper: Tamper | None = None) -> int:
    """Carry messages until both are over; octets carried."""
    queues = {End.SENDER: receiver.start(), End.RECEIVER: sender.start()}  # by who receives
    blocks = {End.SENDER: sender, End.RECEIVER: receiver}
    other = {End.SENDER: End.RECEIVER, End.RECEIVER: End.SENDER}
    number = octets = 0
    while any(queues.values()):
        for end, queue in queues.items():
            while queue:
                data = queue.pop(0)
                if tamper is not None:
                    data = tamper(other[end], number, data)
                number += 1
                octets += len(data)
                queues[other[end]] += blocks[end].handle(data)
    return octets


@cache
def decoy_records(
    *,
    clicks: int,
    qber: float,
    block: int = 0,
    pulses: int = 10**10,
    eta: float = 1e-3,
    y0: float = 1e-7,
    p_z: float = 0.75,
    intensities: tuple[float, ...] = (0.5, 0.1),
    probabilities: tuple[float, ...] = (0.7, 0.3),
    seed: int = 0,
) -> tuple[Raw, Raw]:
    """Sender's and receiver's record of a BB84 link with that error rate in both bases."""
    random = np.random.default_rng(seed)
    gains = np.array(
        [
            p * (1 - (1 - y0) * np.exp(-eta * m))
            for m, p in zip(intensities, probabilities, strict=True)
        ]
    )
    index = np.unique(random.integers(0, pulses, clicks))
    count = len(index)
    intensity = random.choice(len(intensities), size=count, p=gains / gains.sum())
    basis, other_basis = ((random.random(count) > p_z).astype(np.uint8) for _ in range(2))
    bit = random.integers(0, 2, count, dtype=np.uint8)
    flipped = bit ^ (random.random(count) < qber)
    other = np.where(basis == other_basis, flipped, random.integers(0, 2, count))
    sent = [tuple(round(pulses * p * share) for p in probabilities) for share in (p_z, 1 - p_z)]
    sender = Raw(
        block=block,
        pulses=pulses,
        columns={
            "index": index.astype(np.uint64),
            "basis": basis,
            "bit": bit,
            "intensity": intensity.astype(np.uint8),
        },
        totals={"sent_z": sent[0], "sent_x": sent[1]},
    )
    receiver = Raw(
        block=block,
        pulses=pulses,
        columns={
            "index": index.astype(np.uint64),
            "basis": other_basis,
            "bit": other.astype(np.uint8),
        },
        totals={"double": (0,)},
    )
    return sender, receiver
