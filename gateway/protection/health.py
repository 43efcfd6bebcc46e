"""Turns what the key source sees into the health of the quantum side, with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LinkState = Literal["up", "down", "suspect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The key source of one tunnel at one moment. Times are monotonic seconds."""

    at: float
    ready: int  # keys in our pool
    target: int  # keys the pool wants to hold
    rate: float  # keys per second
    stored_at_kme: int | None = None  # None = unknown
    last_delivery: float | None = None  # when the last key came; None = none yet
    last_error: str | None = None  # why the last request failed; None = it did not
    link_state: LinkState | None = None  # as the KME reports the link; None = it does not
    link_reason: str = ""
