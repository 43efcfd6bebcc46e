"""The same attack steered by coverage: atheris draws where otherwise a seed does.

atheris is not part of the environment (``pip install atheris``; it is built for Linux and
some versions of Python only). Options are libFuzzer's:

    python -m tests.fuzz.guided -max_total_time=600 build/fuzz/guided

One execution is one episode in a world of its own. What escapes is printed by atheris with
the file that brings it about again: ``python -m tests.fuzz.guided FILE``.
"""

from __future__ import annotations

import random
import sys

EPISODE = 24  # inputs; short, so that one change to the data shows in the coverage


class Chooser(random.Random):
    """Chance out of a string of octets; when it is used up, out of a seed."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = data
        self._at = 0

    def getrandbits(self, k: int) -> int:
        size = (k + 7) // 8
        if self._at + size > len(self._data):
            return super().getrandbits(k)
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "big") >> (8 * size - k)

    def random(self) -> float:
        return self.getrandbits(24) / (1 << 24)


def attack(data: bytes) -> None:
    """One episode, drawn from ``data``. Raises whatever must not escape."""
    from tests.fuzz import corpus
    from tests.fuzz.attacker import Attacker
    from tests.fuzz.world import World

    if not data:
        return
    world = World(f"guided {data[0] % 16}")
    attacker = Attacker(world, Chooser(data[1:]), corpus.datagrams(), corpus.templates())
    for op in attacker.episode(EPISODE):
        world.apply(op)


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris, or python -m tests.fuzz")
    with atheris.instrument_imports(include=["gateway"]):
        from tests.fuzz import corpus

        corpus.templates()
        attack(bytes(64))
    atheris.Setup(sys.argv, attack)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
