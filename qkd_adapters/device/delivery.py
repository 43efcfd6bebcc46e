"""Alice's side of handing keys over: the hand-over core, and the keys it has not handed over.

Bob's KME is a side of the core like Alice's own; what the core says to it goes to Bob, with the
key of an Offer left out, because Bob has it from the same block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from kms_client.secret import Secret
from qkd_adapters.device.messages import Forget, Message, TellKme
from qkd_adapters.errors import LinkProtocolError
from qkd_adapters.link.handover import DirectionCounters, HandoverCore
from qkd_adapters.link.messages import (
    FromKme,
    FromLink,
    LinkState,
    Offer,
    Rejected,
    decode_from_kme,
)

# Keys that may wait until a KME has room, where a device's table does not say.
MAX_WAITING = 4096
# Keys handed over whose block is remembered, for quarantine.
MAX_REMEMBERED = 65_536

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingKey:
    key_id: str
    key: Secret
    block: int


class Delivery:
    """No I/O of its own: ``tell_kme`` and ``tell_bob`` carry what is to be said.

    ``book`` is told how many keys were handed over, and given up. At most ``buffer`` keys wait
    until both KMEs have room; of more, the oldest are dropped.
    """

    def __init__(
        self,
        *,
        own: str,
        peer: str,
        tell_kme: Callable[[FromLink], None],
        tell_bob: Callable[[Message], None],
        book: Callable[[int, int], None] = lambda _delivered, _discarded: None,
        buffer: int = MAX_WAITING,
    ) -> None:
        self.own = own
        self._buffer = buffer
        self.peer = peer
        self._tell_kme = tell_kme
        self._tell_bob = tell_bob
        self._book = book
        self._core = HandoverCore((own, peer), new_id=self._name_of_next)
        self._waiting: deque[WaitingKey] = deque()
        self._remembered: deque[tuple[int, str]] = deque(maxlen=MAX_REMEMBERED)
        self.overflow = 0
        self.handed_over = 0
        self.quarantined = 0
        self.dropped = 0  # waiting keys that were given up: suspect, or Bob has none

    # --- keys ---

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, keys: Iterable[WaitingKey]) -> None:
        self._waiting.extend(keys)
        excess = [self._waiting.popleft() for _ in range(len(self._waiting) - self._buffer)]
        self.overflow += len(excess)
        self._forget(excess)

    def hand_over(self, now: float) -> None:
        """As many of the waiting keys as both KMEs have room for."""
        while self._waiting:
            key = self._waiting[0]
            if self._core.distribute(key.key, now) is None:
                break
            self._waiting.popleft()
            self._remembered.append((key.block, key.key_id))
            self.handed_over += 1
            self._book(1, 0)
            key.key.wipe()
        self._flush()

    def quarantine(self, since_block: int) -> int:
        """Keys of this block and later are not to be used; how many that newly concerns."""
        suspect = [key for key in self._waiting if key.block >= since_block]
        self._drop(suspect)
        named = [key_id for block, key_id in self._remembered if block >= since_block]
        if named:
            kept = [entry for entry in self._remembered if entry[0] < since_block]
            self._remembered.clear()
            self._remembered.extend(kept)
            self.quarantined += len(named)
            self._core.quarantine(named)
            self._flush()
        return len(named) + len(suspect)

    def drop_blocks(self, blocks: Iterable[int]) -> None:
        """The peer does not have the keys of these blocks."""
        wanted = set(blocks)
        self._drop([key for key in self._waiting if key.block in wanted])

    def drop_all(self) -> None:
        """The peer was restarted and knows none of the keys that wait."""
        self._drop(list(self._waiting))

    # --- what KMEs and Bob say ---

    def own_said(self, message: FromKme, now: float) -> None:
        """Raises LinkProtocolError when the connection is not worth keeping."""
        self._core.handle(self.own, message)
        self.hand_over(now)

    def peer_said(self, body: bytes, now: float) -> None:
        """A message of Bob's KME; one that does not fit is answered with Rejected."""
        try:
            self._core.handle(self.peer, decode_from_kme(body))
        except (LinkProtocolError, msgspec.DecodeError) as error:
            self.reject_peer(str(error))
        self.hand_over(now)

    def reject_peer(self, reason: str) -> None:
        """Bob's KME is to begin anew."""
        self._core.lost(self.peer)
        self._tell_bob(TellKme(body=_encode(Rejected(reason=reason))))
        self._flush()

    def own_lost(self) -> None:
        self._core.lost(self.own)
        self._flush()

    def peer_lost(self) -> None:
        self._core.lost(self.peer)
        self._flush()

    def overdue(self, now: float) -> set[str]:
        return self._core.overdue(now)

    def announce(self, state: LinkState) -> None:
        """Tell both KMEs how the link is."""
        if self._core.connected(self.own):
            self._tell_kme(self._with_peer(state, self.own))
        if self._core.connected(self.peer):
            self._tell_bob(TellKme(body=_encode(self._with_peer(state, self.peer))))

    # --- what status shows ---

    def status(self) -> dict[str, object]:
        return {
            "waiting": self.waiting,
            "handed_over": self.handed_over,
            "quarantined": self.quarantined,
            "overflow": self.overflow,
            "dropped": self.dropped,
            "synced": self._core.synced,
            "kmes": {kme: self._core.connected(kme) for kme in (self.own, self.peer)},
            "directions": [
                {
                    "master": direction.master,
                    "slave": direction.slave,
                    "handed_over": counters.handed_over,
                    "discarded": counters.discarded,
                    "room": {kme: self._core.room(kme, direction) for kme in (self.own, self.peer)},
                }
                for direction in self._core.directions
                for counters in (self._core.counters.get(direction, DirectionCounters()),)
            ],
        }

    # --- inside ---

    def _name_of_next(self) -> str:
        """The core asks for an id only while it hands over the key that waits longest."""
        return self._waiting[0].key_id

    def _with_peer(self, state: LinkState, side: str) -> LinkState:
        return msgspec.structs.replace(state, peer_connected=self._core.peer_connected(side))

    def _flush(self) -> None:
        for side, message in self._core.take_outbox():
            if side == self.own:
                self._tell_kme(message)
                continue
            if isinstance(message, Offer):
                message = msgspec.structs.replace(message, key=b"")  # noqa: PLW2901
            self._tell_bob(TellKme(body=_encode(message)))

    def _drop(self, keys: list[WaitingKey]) -> None:
        gone = {key.key_id for key in keys}
        if gone:
            self._waiting = deque(key for key in self._waiting if key.key_id not in gone)
            self.dropped += len(gone)
            self._forget(keys)

    def _forget(self, keys: list[WaitingKey]) -> None:
        for key in keys:
            key.key.wipe()
        if keys:
            self._book(0, len(keys))
            self._tell_bob(Forget(key_ids=tuple(key.key_id for key in keys)))
