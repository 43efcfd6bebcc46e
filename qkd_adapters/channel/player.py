"""The optics in motion: model, drift and attacks of this moment make the next block."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from qkd_adapters.channel.config import ChannelSettings
from qkd_adapters.errors import KmeStartupError
from qkd_adapters.optics import attacks
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.drift import drift
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.sampler import detections, expose
from qkd_adapters.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveAttack:
    attack: attacks.Attack
    since_block: int

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.attack.name,
            "since_block": self.since_block,
            "parameters": {
                each.name: getattr(self.attack, each.name) for each in fields(self.attack)
            },
        }


class Player:
    """Draws blocks one after the other. Block numbers start at 0, as does ``clock``.

    ``clock`` counts seconds of light. A record's ``start`` adds the time of day at which the
    player was made, so that no two runs give records of equal number and start.
    """

    def __init__(self, settings: ChannelSettings) -> None:
        """Raises KmeStartupError."""
        self._seconds = settings.block
        self._rng = np.random.default_rng(settings.seed)
        self._epoch = time.time()
        self._drift_name = settings.drift
        self.block = 0
        self.active: dict[str, ActiveAttack] = {}
        try:
            self.model: LinkModel = preset(settings.preset)
            if settings.loss_db is not None:
                self.model = self.model.with_loss(settings.loss_db)
            self._drift = drift(settings.drift, self._rng, self.model)
        except ValueError as error:
            raise KmeStartupError(str(error)) from error

    @property
    def clock(self) -> float:
        return self.block * self._seconds

    def next(self) -> tuple[Record, Record]:
        """Alice's and Bob's records of the next block."""
        exposure = expose(self.model, self._conditions(), self._seconds, self._rng)
        records = detections(exposure, self._rng, block=self.block, start=self._epoch + self.clock)
        self.block += 1
        return records

    # --- what can be changed; each raises ValueError and changes nothing then ---

    def attack(self, name: str, words: Sequence[str]) -> None:
        """From the next block on; an attack of the same name is replaced."""
        started = attacks.parse(name, words)
        started.apply(self.model, NEUTRAL)
        self.active[name] = ActiveAttack(attack=started, since_block=self.block)

    def stop(self, name: str | None) -> None:
        if name is None:
            self.active.clear()
        elif self.active.pop(name, None) is None:
            raise ValueError(f"no attack {name!r} is under way")

    def set_drift(self, name: str) -> None:
        self._drift = drift(name, self._rng, self.model)
        self._drift_name = name

    def set_loss(self, loss_db: float) -> None:
        self.model = self.model.with_loss(loss_db)

    def status(self) -> dict[str, object]:
        return {
            "model": self.model.name,
            "provenance": self.model.provenance,
            "protocol": self.model.protocol.value,
            "loss_db": round(self.model.loss_db, 3),
            "drift": self._drift_name,
            "block": self.block,
            "block_seconds": self._seconds,
            "clock": self.clock,
            "attacks": [active.as_json() for active in self.active.values()],
        }

    def _conditions(self) -> Conditions:
        conditions = self._drift.conditions(self.clock)
        for active in self.active.values():
            conditions = active.attack.apply(self.model, conditions)
        return conditions
