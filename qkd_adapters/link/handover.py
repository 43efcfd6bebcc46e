"""How one key reaches two KMEs or neither: the link's protocol core, without I/O or clock.

The link forgets a key as soon as it is handed over; what the stores agree on is settled by
comparing ids. A key is in one of two states at a KME: *pending* (held, not deliverable) and
*available*. It becomes available only after both KMEs hold it. When a KME or the link was
away, both report their ids and what only one of them holds is dropped, except a key whose
delivery to its master the other side just has not been told of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import assert_never
from uuid import uuid4

from kms_client.secret import Secret
from qkd_adapters.errors import LinkProtocolError
from qkd_adapters.link.messages import (
    Accepted,
    Delivered,
    Direction,
    Expired,
    FromKme,
    FromLink,
    Hello,
    Inventory,
    NoticeSeen,
    Offer,
    Quarantine,
    Room,
    Settle,
    Survey,
)

# A connected KME that has not answered an offer for this long is taken for dead. Seconds.
HANDOVER_TIMEOUT = 5.0

MAX_QUARANTINED = 65_536
"""Ids of quarantined keys that are repeated to a KME that was away; the oldest are forgotten.

With 10 keys per second those of two hours, which is longer than a KME keeps a key."""


@dataclass(slots=True)
class _Side:
    """One KME as the link sees it."""

    name: str
    hello: Hello | None = None
    inventory: Inventory | None = None
    room: dict[Direction, int] = field(default_factory=dict)

    def forget(self) -> None:
        self.hello = None
        self.inventory = None
        self.room.clear()


@dataclass(slots=True)
class _Handover:
    direction: Direction
    deadline: float
    waiting: set[str]
    refused: bool = False


@dataclass(slots=True)
class DirectionCounters:
    """Keys of one direction since the link process started."""

    handed_over: int = 0
    discarded: int = 0


class HandoverCore:
    """Two sides, one protocol. ``take_outbox`` gives what is to be sent, in order."""

    def __init__(
        self, sides: tuple[str, str], *, new_id: Callable[[], str] = lambda: str(uuid4())
    ) -> None:
        self._sides = {name: _Side(name) for name in sides}
        self._new_id = new_id
        self._outbox: list[tuple[str, FromLink]] = []
        self._handovers: dict[str, _Handover] = {}
        self._directions: list[Direction] = []
        self._turn = 0
        self._quarantined: dict[str, None] = {}
        self.synced = False
        self.counters: dict[Direction, DirectionCounters] = {}

    # --- what the transport calls ---

    def handle(self, side: str, message: FromKme) -> None:
        """Raises LinkProtocolError when the connection is not worth keeping."""
        me = self._sides[side]
        if me.hello is None and not isinstance(message, Hello):
            raise LinkProtocolError(f"{type(message).__name__} before Hello")
        match message:
            case Hello():
                self._hello(me, message)
            case Inventory():
                self._inventory(me, message)
            case Room():
                direction = Direction(message.master, message.slave)
                me.room[direction] = me.room.get(direction, 0) + message.more
            case Accepted():
                self._accepted(me, message)
            case Delivered() | Expired() | NoticeSeen():
                # Relayed only while both are settled; the sender repeats unseen notices then.
                if self.synced:
                    self._send(self._other(me), message)
            case _:
                assert_never(message)

    def lost(self, side: str) -> None:
        """The connection to this side ended."""
        me = self._sides[side]
        me.forget()
        self.synced = False
        self._directions = []
        self._other(me).inventory = None
        self._abandon_handovers()

    def distribute(self, block: Secret, now: float) -> tuple[str, Direction] | None:
        """Offer a new key to both KMEs; its id and direction, or None if nobody has room."""
        direction = self._next_direction()
        if direction is None:
            return None
        key_id = self._new_id()
        for side in self._sides.values():
            side.room[direction] -= 1
            self._send(
                side,
                Offer(
                    key_id=key_id,
                    master=direction.master,
                    slave=direction.slave,
                    key=block.expose(),
                ),
            )
        self._handovers[key_id] = _Handover(
            direction=direction, deadline=now + HANDOVER_TIMEOUT, waiting=set(self._sides)
        )
        return key_id, direction

    def quarantine(self, key_ids: Iterable[str]) -> None:
        """No KME may give these keys any more, whether handed over or on the way.

        A KME that is away is told when it is back, before it learns what its stock is worth.
        """
        named = tuple(key_ids)
        for key_id in named:
            self._quarantined[key_id] = None
            if key_id in self._handovers:
                self._handovers[key_id].refused = True
        while len(self._quarantined) > MAX_QUARANTINED:
            del self._quarantined[next(iter(self._quarantined))]
        for side in self._sides.values():
            if named and side.hello is not None:
                self._send(side, Quarantine(key_ids=named))

    def overdue(self, now: float) -> set[str]:
        """Sides that left an offer unanswered; the transport closes their connections."""
        late = (handover for handover in self._handovers.values() if handover.deadline <= now)
        return {side for handover in late for side in handover.waiting}

    def take_outbox(self) -> list[tuple[str, FromLink]]:
        outbox, self._outbox = self._outbox, []
        return outbox

    # --- what status shows ---

    def connected(self, side: str) -> bool:
        return self._sides[side].hello is not None

    def peer_connected(self, side: str) -> bool:
        return self._other(self._sides[side]).hello is not None

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions both KMEs serve, once both are connected."""
        return tuple(self._directions)

    def room(self, side: str, direction: Direction) -> int:
        return self._sides[side].room.get(direction, 0)

    # --- inside ---

    def _send(self, side: _Side, message: FromLink) -> None:
        self._outbox.append((side.name, message))

    def _other(self, side: _Side) -> _Side:
        return next(other for other in self._sides.values() if other is not side)

    def _hello(self, me: _Side, hello: Hello) -> None:
        other = self._other(me)
        if me.hello is not None:
            raise LinkProtocolError("second Hello")
        if hello.kme != me.name or hello.peer != other.name:
            raise LinkProtocolError(
                f"this is the link {me.name} - {other.name}, not {hello.kme} - {hello.peer}"
            )
        me.hello = hello
        if other.hello is None:
            return
        served = {(remote, local) for local, remote in other.hello.pairs}
        self._directions = [
            direction
            for local, remote in hello.pairs
            if (local, remote) in served
            for direction in (Direction(local, remote), Direction(remote, local))
        ]
        self._directions.sort()
        for side in (me, other):
            side.inventory = None
            self._send(side, Survey())

    def _inventory(self, me: _Side, inventory: Inventory) -> None:
        me.inventory = inventory
        me.room.clear()
        other = self._other(me)
        if other.inventory is None:
            return
        for own, peer in ((me, other), (other, me)):
            if self._quarantined:
                self._send(own, Quarantine(key_ids=tuple(self._quarantined)))
            self._send(own, _reconcile(own.inventory, peer.inventory))
        me.inventory = other.inventory = None
        self.synced = True

    def _accepted(self, me: _Side, message: Accepted) -> None:
        handover = self._handovers.get(message.key_id)
        if handover is None:
            return  # abandoned meanwhile; its Settle(discard) is on the way
        handover.waiting.discard(me.name)
        handover.refused |= not message.ok
        if handover.waiting:
            return
        del self._handovers[message.key_id]
        key_ids = (message.key_id,)
        verdict = Settle(discard=key_ids) if handover.refused else Settle(commit=key_ids)
        for side in self._sides.values():
            self._send(side, verdict)
        counters = self.counters.setdefault(handover.direction, DirectionCounters())
        if handover.refused:
            counters.discarded += 1
        else:
            counters.handed_over += 1

    def _abandon_handovers(self) -> None:
        key_ids = tuple(self._handovers)
        for handover in self._handovers.values():
            self.counters.setdefault(handover.direction, DirectionCounters()).discarded += 1
        self._handovers.clear()
        if key_ids:
            for side in self._sides.values():
                if side.hello is not None:
                    self._send(side, Settle(discard=key_ids))

    def _next_direction(self) -> Direction | None:
        """Round robin over the directions with room at both sides."""
        if not self.synced:
            return None
        for step in range(len(self._directions)):
            index = (self._turn + step) % len(self._directions)
            direction = self._directions[index]
            if all(side.room.get(direction, 0) > 0 for side in self._sides.values()):
                self._turn = index + 1
                return direction
        return None


def _reconcile(own: Inventory | None, peer: Inventory | None) -> Settle:
    """What one side must do so that both hold the same keys."""
    if own is None or peer is None:
        raise LinkProtocolError("inventory missing")
    known = {*peer.available, *peer.pending, *peer.delivered}
    return Settle(
        commit=tuple(key_id for key_id in own.pending if key_id in known),
        discard=tuple(key_id for key_id in (*own.pending, *own.available) if key_id not in known),
        final=True,
    )
