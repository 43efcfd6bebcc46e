"""Worlds one after the other, each with a tape; what came of them; replaying a tape."""

from __future__ import annotations

import json
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.fuzz.attacker import EPISODE
from tests.fuzz.targets import IKE, TARGETS, Target
from tests.fuzz.world import Op

EPISODES = 12  # of one world
LONG_EVERY, LONG = 40, 150  # one world in so many lives so many episodes: what adds up shows
RSS_GROWTH_MAX = 64 << 20  # octets, after the warm-up: Python's heap breathes by some ten MiB
WARM_UP = 5  # worlds


@dataclass
class Failure:
    """An input after which something did not hold; ``tape`` brings it about again."""

    target: str
    world: str
    error: str
    tape: list[Op] = field(repr=False)

    def save(self, path: Path) -> None:
        text = json.dumps(asdict(self), separators=(",", ":"))
        path.write_text(text + "\n")


def replay(path: Path) -> str:
    """What happens now when the tape is played: the error, or nothing."""
    saved = json.loads(path.read_text())
    tape = [Op(kind=op["kind"], args=tuple(op["args"])) for op in saved["tape"]]
    return play(TARGETS[saved["target"]], saved["world"], tape)


def play(target: Target, seed: str, tape: list[Op]) -> str:
    """The error a tape ends in; empty where it passes."""
    try:
        world = target.world(seed, lambda kind, what: None)
        for op in tape:
            world.apply(op)
    except Exception:  # noqa: BLE001  whatever escapes
        return traceback.format_exc()
    return ""


@dataclass
class Campaign:
    """``inputs`` datagrams or frames at worlds named after ``seed``."""

    seed: str
    inputs: int
    target: Target = IKE
    failures_max: int = 5
    done: int = 0
    worlds: int = 0
    reached: dict[str, Counter[str]] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)  # that one datagram caused
    failures: list[Failure] = field(default_factory=list)
    rss_warm: int = 0
    rss_grown: int = 0
    seconds: float = 0.0

    def run(self, progress: Callable[[Campaign], None] = lambda _: None) -> Campaign:
        """Until the inputs are used up, or too much has failed; ``progress`` after each world."""
        begun = time.monotonic()
        while self.done < self.inputs and len(self.failures) < self.failures_max:
            self._world(f"{self.seed}/{self.worlds}")
            self.worlds += 1
            self.seconds = time.monotonic() - begun
            self._weigh()
            progress(self)
        return self

    def _world(self, name: str) -> None:
        tape: list[Op] = []
        before = self.done
        world = self.target.world(name, self._note)
        try:
            attacker = self.target.attacker(world, random.Random(name))
            long = self.worlds % LONG_EVERY == LONG_EVERY - 1
            for _ in range(LONG if long else EPISODES):
                for op in attacker.episode(min(EPISODE, max(1, self.inputs - self.done))):
                    tape.append(op)
                    world.apply(op)
                    self.done = before + world.inputs
                if self.done >= self.inputs:
                    return
        except Exception:  # noqa: BLE001  whatever escapes is what we look for
            self._fail(name, traceback.format_exc(), tape)
        finally:
            for what, value in world.most.items():
                self.most[what] = max(value, self.most.get(what, 0))

    def _note(self, kind: str, what: str) -> None:
        self.reached.setdefault(kind, Counter())[what] += 1

    def _weigh(self) -> None:
        now = rss()
        if self.worlds == WARM_UP:
            self.rss_warm = now
        elif self.worlds > WARM_UP:
            self.rss_grown = max(self.rss_grown, now - self.rss_warm)
            if self.rss_grown > RSS_GROWTH_MAX:
                error = f"{self.rss_grown >> 20} MiB more than after {WARM_UP} worlds"
                self._fail(self.seed, error, [])
                self.rss_warm = now

    def _fail(self, world: str, error: str, tape: list[Op]) -> None:
        name = self.target.name
        self.failures.append(Failure(target=name, world=world, error=error, tape=tape))


def rss() -> int:
    """Octets this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
