"""What a campaign attacks: the IKE core by its datagrams, the MKA core by its frames."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from tests.fuzz import corpus
from tests.fuzz.attacker import Attacker
from tests.fuzz.mka_attacker import MkaAttacker
from tests.fuzz.mka_world import MkaWorld
from tests.fuzz.world import Op, World

Note = Callable[[str, str], None]


class Attacked(Protocol):
    """Those who are attacked and those around them."""

    inputs: int
    most: dict[str, float]  # that one input caused

    def apply(self, op: Op) -> None:
        """Do one step; raises where something does not hold, or escapes."""


class Attacking(Protocol):
    def episode(self, inputs: int) -> Iterator[Op]:
        """Steps with so many inputs, and rest in the end."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    world: Callable[[str, Note], Attacked]
    attacker: Callable[[Attacked, random.Random], Attacking]


def _ike(world: Attacked, rng: random.Random) -> Attacking:
    assert isinstance(world, World)
    return Attacker(world, rng, corpus.datagrams(), corpus.templates())


def _mka(world: Attacked, rng: random.Random) -> Attacking:
    assert isinstance(world, MkaWorld)
    return MkaAttacker(world, rng, corpus.frames())


IKE: Final = Target("ike", World, _ike)
MKA: Final = Target("mka", MkaWorld, _mka)
TARGETS: Final = {target.name: target for target in (IKE, MKA)}
