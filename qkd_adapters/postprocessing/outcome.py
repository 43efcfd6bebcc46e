"""What goes into a block of one end and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from kms_client.secret import Secret
from qkd_adapters.postprocessing.estimate import Counts, Estimate, Moments


class End(StrEnum):
    SENDER = "sender"  # Alice: sends the light where only one end does
    RECEIVER = "receiver"


class RawBlock(Protocol):
    """What of a record is needed here; ``qkd_adapters.records.Record`` is one."""

    @property
    def block(self) -> int: ...
    @property
    def pulses(self) -> int: ...
    @property
    def columns(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def totals(self) -> Mapping[str, tuple[int, ...]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedKey:
    key_id: str  # canonical lower-case UUID, the same at both ends
    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a block, the same at both ends.

    ``keys`` is empty where ``estimate.reason`` or ``failure`` says why. ``counts`` are there as
    soon as the bases were compared; ``counts.reconciled`` says how far they can be trusted.
    """

    block: int
    keys: tuple[NamedKey, ...]
    estimate: Estimate
    counts: Counts | Moments | None
    failure: str = ""  # verification failed, abandoned: why
    verified: bool = False
    rounds: int = 0  # of parity questions
    efficiency: float = 0.0  # f = leak / (n h2(QBER)); CV: beta
    auth_bits_used: int = 0  # by this end: tags sent and checked
    auth_bits_added: int = 0  # both directions together
