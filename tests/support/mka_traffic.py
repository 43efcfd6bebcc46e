"""Frames between the SecYs of a LAN in memory, some of them on the way when SAs come and go."""

from __future__ import annotations

import random
from itertools import permutations

from tests.support.mka_lan import Lan, Secy

INTERVAL = 0.02  # seconds between two frames of one member to another
LATENCY = 0.1  # seconds at most on the way: far above any link, far below the retire time


class Traffic:
    """From everybody to everybody else, without end. ``lost``: the receiver had no SA for it."""

    def __init__(self, lan: Lan, seed: int | str = 0) -> None:
        self._lan = lan
        self._random = random.Random(f"traffic {seed}")
        self.sent = self.lost = 0
        for source, target in permutations(range(len(lan.members)), 2):
            self._again(source, target)

    def _again(self, source: int, target: int) -> None:
        self._lan.at(INTERVAL, lambda: self._send(source, target))

    def _send(self, source: int, target: int) -> None:
        sender, receiver = (self._lan.members[index].secy for index in (source, target))
        self.sent += 1
        an, sak = sender.encoding, sender.sak
        delay = self._random.random() * LATENCY
        self._lan.at(delay, lambda: self._arrive(receiver, sender, an, sak))
        self._again(source, target)

    def _arrive(self, receiver: Secy, sender: Secy, an: int | None, sak: bytes | None) -> None:
        found = None if an is None else receiver.receive.get((sender.sci, an))
        self.lost += sak is None or found != sak
