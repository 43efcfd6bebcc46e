"""Randomness and key exchanges for tests: reproducible, and quick where that is wanted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from gateway.crypto.algorithms import KeMethod
from gateway.crypto.secret import Secret


class SeededRng:
    """Reproducible octets."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def random_bytes(self, count: int) -> bytes:
        self._count += 1
        stream = hashlib.shake_256(self._seed + self._count.to_bytes(8, "big"))
        return stream.digest(count)


@dataclass(frozen=True)
class _ToyInitiator:
    public: bytes

    def finish(self, peer: bytes) -> Secret:
        return Secret(hashlib.sha256(self.public + peer).digest())


class ToyKex:
    """A key exchange without any security, reproducible and quick; sizes are real."""

    _SIZES: ClassVar = {KeMethod.ML_KEM_768: (1184, 1088), KeMethod.ML_KEM_1024: (1568, 1568)}

    def __init__(self, rng: SeededRng) -> None:
        self._rng = rng

    def supports(self, method: int) -> bool:
        return method != KeMethod.NONE

    def initiate(self, method: KeMethod) -> _ToyInitiator:
        return _ToyInitiator(self._rng.random_bytes(self._SIZES.get(method, (32, 32))[0]))

    def respond(self, method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
        ours = self._rng.random_bytes(self._SIZES.get(method, (32, 32))[1])
        return ours, Secret(hashlib.sha256(peer + ours).digest())
