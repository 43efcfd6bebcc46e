"""One block of one end, from the raw record to named keys, as a state machine without I/O.

The transport makes one ``LinkEnd`` per end of a link and keeps it, asks it for a block per record
and carries octets:

    end = LinkEnd(end=End.SENDER, settings=settings, psk=psk, rng=rng)
    block = end.block(record)              # SenderBlock or ReceiverBlock, by ``end``
    for data in block.start():
        send(data)
    while block.outcome is None:
        for data in block.handle(receive()):
            send(data)

Every ``bytes`` is one message (at most ``messages.MAX_MESSAGE`` octets) and must arrive once and
in order. ``handle`` raises PostprocessingError when the block is lost; the transport then calls
``block.abandon(why)``, drops the connection, and after the next connect exchanges
``end.inventory()`` and gives the peer's to ``end.align()`` before the next block; ``align``
returns the numbers of blocks whose keys the peer does not have. Both ends work at the same block.

``handle`` and ``start`` compute for up to some tenths of a second per million sifted bits: an
event loop runs them in a thread.
"""

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
    """What became of a block; at both ends the same but for the end's own ``raw_ones``.

    ``keys`` is empty where ``estimate.reason`` or ``failure`` says why.
    """

    block: int
    keys: tuple[NamedKey, ...]
    estimate: Estimate
    counts: Counts | Moments | None  # None: the block ended before reconciliation
    failure: str = ""  # verification failed, abandoned: why
    verified: bool = False
    rounds: int = 0  # of parity questions
    efficiency: float = 0.0  # f = leak / (n h2(QBER)); CV: beta
    auth_bits_used: int = 0  # tags of this block, both directions
    auth_bits_added: int = 0
