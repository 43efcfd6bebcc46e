"""The keys of one KME, in RAM only: available, held for the hand-over, awaiting their slave.

Every key belongs to one direction (master SAE, slave SAE), fixed by the link. A key lives
``lifetime`` from the hand-over until its master asks for it, and as long again until its
slave does. No clock of its own: ``clock`` gives monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

from kms_client.secret import Secret
from qkd_adapters.errors import (
    ForeignKeyError,
    NotEnoughKeysError,
    QuarantinedKeyError,
    UnknownKeyError,
)
from qkd_adapters.kme.accounting import DirectionAccount
from qkd_adapters.kme.memory import Memory
from qkd_adapters.link.messages import (
    BLOCK_BITS,
    Delivered,
    Direction,
    Expired,
    Inventory,
    Notice,
    Room,
)

# The master's side says when a key expired; the slave's side waits this much longer for
# that notice before it drops the key by itself. Seconds.
EXPIRY_GRACE = 60.0
# Keys a master took and whose slave has not asked yet, per direction; then the oldest goes.
MAX_AWAITING = 65_536
# Ids remembered so that a second dec_keys is refused at once instead of waiting for a notice.
MAX_SPENT = 65_536
# Ids remembered of blocks given to an SAE and of keys quarantined: with 10 keys per second,
# those of two hours, which is longer than a key lives.
MAX_REMEMBERED = 65_536

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredKey:
    key_id: str
    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """``parts``: ids of the blocks it was made of, where it went to its master already."""

    key: Secret
    expires: float
    parts: tuple[str, ...] = ()


@dataclass(slots=True)
class _Queue:
    """``local_master``: the master SAE is ours, so we decide when a key expires."""

    local_master: bool
    pending: dict[str, Secret] = field(default_factory=dict)
    available: dict[str, _Held] = field(default_factory=dict)
    awaiting: dict[str, _Held] = field(default_factory=dict)
    account: DirectionAccount = field(default_factory=DirectionAccount)

    def occupied(self) -> int:
        return len(self.pending) + len(self.available)

    def holds(self, key_id: str) -> bool:
        return key_id in self.pending or key_id in self.available or key_id in self.awaiting


class KeyStore:
    """``emit`` receives what the peer KME or the link must be told, in order."""

    def __init__(
        self,
        *,
        pairs: Iterable[tuple[str, str]],
        max_count: int,
        lifetime: float,
        clock: Callable[[], float],
        emit: Callable[[Room | Notice], None],
    ) -> None:
        self._queues: dict[Direction, _Queue] = {}
        for local, remote in pairs:
            self._queues[Direction(local, remote)] = _Queue(local_master=True)
            self._queues[Direction(remote, local)] = _Queue(local_master=False)
        self._max_count = max_count
        self._lifetime = lifetime
        self._clock = clock
        self._emit = emit
        self._spent: Memory[tuple[Direction, str]] = Memory(MAX_SPENT)
        self._given: Memory[tuple[Direction, str]] = Memory(MAX_REMEMBERED)  # blocks
        self._quarantined: Memory[str] = Memory(MAX_REMEMBERED)

    # --- what is here ---

    @property
    def directions(self) -> tuple[Direction, ...]:
        return tuple(self._queues)

    def account(self, direction: Direction) -> DirectionAccount:
        return self._queues[direction].account

    def stored(self, direction: Direction) -> int:
        """Keys the master SAE can have now."""
        self.expire()
        return len(self._queues[direction].available)

    def awaiting(self, direction: Direction) -> int:
        return len(self._queues[direction].awaiting)

    def inventory(self, delivered: Iterable[str]) -> Inventory:
        return Inventory(
            available=tuple(
                key_id for queue in self._queues.values() for key_id in queue.available
            ),
            pending=tuple(key_id for queue in self._queues.values() for key_id in queue.pending),
            # One that is not to be used need not be kept for the slave's sake.
            delivered=tuple(key_id for key_id in delivered if key_id not in self._quarantined),
        )

    def room(self) -> list[Room]:
        """The whole room of every direction, for the end of a survey."""
        return [
            Room(
                master=direction.master,
                slave=direction.slave,
                more=self._max_count - queue.occupied(),
            )
            for direction, queue in self._queues.items()
        ]

    # --- hand-over ---

    def offer(self, direction: Direction, key_id: str, key: Secret) -> bool:
        """Hold a new key, undeliverable. False: no such direction, no room, or a known id."""
        queue = self._queues.get(direction)
        if (
            queue is None
            or queue.occupied() >= self._max_count
            or (direction, key_id) in self._spent
            or key_id in self._quarantined
            or any(other.holds(key_id) for other in self._queues.values())
        ):
            key.wipe()
            return False
        queue.pending[key_id] = key
        return True

    def commit(self, key_ids: Iterable[str]) -> None:
        """Both KMEs hold these: pending keys become available."""
        wanted = set(key_ids)
        expires = self._clock() + self._lifetime
        for queue in self._queues.values():
            grace = 0.0 if queue.local_master else EXPIRY_GRACE
            for key_id in wanted & queue.pending.keys():
                key = queue.pending.pop(key_id)
                queue.available[key_id] = _Held(key=key, expires=expires + grace)
                queue.account.stored += 1

    def discard(self, key_ids: Iterable[str]) -> None:
        """The peer does not hold these: forget them."""
        wanted = set(key_ids)
        for direction, queue in self._queues.items():
            for key_id in wanted & queue.pending.keys():
                queue.pending.pop(key_id).wipe()
                self._freed(direction, 1)
            for key_id in wanted & queue.available.keys():
                queue.available.pop(key_id).key.wipe()
                queue.account.discarded += 1
                self._freed(direction, 1)

    def quarantine(self, key_ids: Iterable[str]) -> None:
        """The link was suspect when it made these: wiped where they are here, refused later.

        Those an SAE has already can only be counted; each counts once however often it is named.
        """
        wanted = set(key_ids)
        for key_id in wanted:
            self._quarantined.add(key_id)
        for direction, queue in self._queues.items():
            for key_id in wanted & queue.pending.keys():
                queue.pending.pop(key_id).wipe()
                self._freed(direction, 1)
            for key_id in wanted & queue.available.keys():
                queue.available.pop(key_id).key.wipe()
                queue.account.quarantined += 1
                self._freed(direction, 1)
            for key_id in _made_of(wanted, queue.awaiting):
                queue.awaiting.pop(key_id).key.wipe()
                queue.account.quarantined += 1
                self._quarantined.add(key_id)
            queue.account.delivered_suspect += sum(
                self._given.remove((direction, key_id)) for key_id in wanted
            )

    # --- the master's side ---

    def take(
        self, direction: Direction, *, count: int, size: int, additional: tuple[str, ...] = ()
    ) -> tuple[DeliveredKey, ...]:
        """Oldest keys first; each is gone from here. Raises NotEnoughKeysError.

        ``size`` in bits. A key of the block size keeps its id; one of another size is made of
        ``ceil(size / 256)`` blocks and gets an id of its own, which the peer learns by notice.
        """
        self.expire()
        queue = self._queues[direction]
        blocks = -(-size // BLOCK_BITS)
        if len(queue.available) < count * blocks:
            raise NotEnoughKeysError(len(queue.available) // blocks, count)
        keys = []
        for _ in range(count):
            parts = tuple(_first(queue.available, blocks))
            key_id = parts[0] if size == BLOCK_BITS else str(uuid4())
            key = _join([queue.available.pop(part).key for part in parts], size)
            keys.append(DeliveredKey(key_id=key_id, key=key))
            for part in parts:
                self._given.add((direction, part))
            self._emit(
                Delivered(
                    key_id=key_id,
                    master=direction.master,
                    slave=direction.slave,
                    parts=parts,
                    size=size,
                    additional=additional,
                )
            )
        queue.account.delivered_master += count
        self._freed(direction, count * blocks)
        return tuple(keys)

    # --- the slave's side ---

    def learn(self, notice: Notice) -> None:
        """Act on what the peer KME did. Repeated notices change nothing."""
        direction = Direction(notice.master, notice.slave)
        queue = self._queues.get(direction)
        if queue is None or queue.local_master:
            return
        # No part can be pending: the link sends the commit before it relays the notice.
        parts = [part for part in notice.parts if part in queue.available]
        keys = [queue.available.pop(part).key for part in parts]
        self._freed(direction, len(parts))
        if isinstance(notice, Expired):
            queue.account.expired += len(parts)
        elif len(parts) == len(notice.parts):
            self._await_slaves(notice, _join(keys, notice.size))
        elif any(part in self._quarantined for part in notice.parts):
            self._quarantined.add(notice.key_id)
            queue.account.quarantined += len(parts)
        else:
            queue.account.discarded += len(parts)
        for key in keys:
            key.wipe()

    def _await_slaves(self, notice: Delivered, key: Secret) -> None:
        """One copy for each slave SAE that is ours."""
        expires = self._clock() + self._lifetime
        for slave in (notice.slave, *notice.additional):
            queue = self._queues.get(Direction(notice.master, slave))
            if queue is not None and not queue.local_master:
                if len(queue.awaiting) >= MAX_AWAITING:
                    queue.awaiting.pop(next(iter(queue.awaiting))).key.wipe()
                    queue.account.unfetched += 1
                queue.awaiting[notice.key_id] = _Held(
                    key=Secret(key.expose()), expires=expires, parts=notice.parts
                )
        key.wipe()

    def unannounced(self, direction: Direction, key_ids: Sequence[str]) -> list[str]:
        """Ids for which a notice from the peer could still change the answer."""
        awaiting = self._queues[direction].awaiting
        return [
            key_id
            for key_id in key_ids
            if key_id not in awaiting
            and key_id not in self._quarantined
            and (direction, key_id) not in self._spent
        ]

    def forget_awaiting(
        self, direction: Direction, *, older_than: float = 0.0, all_but: int = 0
    ) -> None:
        """Drop keys taken by their master ``older_than`` s ago or before, but the newest."""
        queue = self._queues[direction]
        limit = self._clock() + self._lifetime - older_than
        newest = len(queue.awaiting) - all_but
        old = [
            key_id
            for place, (key_id, held) in enumerate(queue.awaiting.items())
            if place < newest and held.expires <= limit
        ]
        for key_id in old:
            queue.awaiting.pop(key_id).key.wipe()
            queue.account.unfetched += 1
            self._spent.add((direction, key_id))

    def fetch(self, direction: Direction, key_ids: Sequence[str]) -> tuple[DeliveredKey, ...]:
        """All of these, once. Raises UnknownKeyError or a kind of it; then none is taken.

        A key of block size may be fetched before the notice of its delivery came, so that the
        stock outlives an outage of the classical channel.
        """
        self.expire()
        queue = self._queues[direction]
        missing = tuple(
            key_id
            for key_id in key_ids
            if key_id not in queue.awaiting and key_id not in queue.available
        )
        if missing:
            withdrawn = tuple(key_id for key_id in missing if key_id in self._quarantined)
            if withdrawn:
                raise QuarantinedKeyError(withdrawn)
            foreign = tuple(
                key_id
                for key_id in missing
                if (direction, key_id) not in self._spent
                and any(
                    other.holds(key_id) for other in self._queues.values() if other is not queue
                )
            )
            raise ForeignKeyError(foreign) if foreign else UnknownKeyError(missing)
        keys = []
        for key_id in key_ids:
            held = queue.awaiting.pop(key_id, None)
            if held is None:
                held = queue.available.pop(key_id)
                self._freed(direction, 1)
            keys.append(DeliveredKey(key_id=key_id, key=held.key))
            self._spent.add((direction, key_id))
            for part in held.parts or (key_id,):
                self._given.add((direction, part))
        queue.account.delivered_slave += len(keys)
        return tuple(keys)

    # --- age ---

    def expire(self) -> None:
        """Forget what is too old and tell the peer KME."""
        now = self._clock()
        for direction, queue in self._queues.items():
            old = _too_old(queue.available, now)
            for key_id in old:
                queue.available.pop(key_id).key.wipe()
            if old:
                queue.account.expired += len(old)
                self._freed(direction, len(old))
                if queue.local_master:
                    self._emit(
                        Expired(
                            key_id=old[0],
                            master=direction.master,
                            slave=direction.slave,
                            parts=tuple(old),
                        )
                    )
            for key_id in _too_old(queue.awaiting, now):
                queue.awaiting.pop(key_id).key.wipe()
                queue.account.unfetched += 1

    def wipe(self) -> None:
        """Overwrite everything; the store is empty afterwards."""
        for queue in self._queues.values():
            for key in queue.pending.values():
                key.wipe()
            for held in (*queue.available.values(), *queue.awaiting.values()):
                held.key.wipe()
            queue.pending.clear()
            queue.available.clear()
            queue.awaiting.clear()

    # --- inside ---

    def _freed(self, direction: Direction, count: int) -> None:
        if count:
            self._emit(Room(master=direction.master, slave=direction.slave, more=count))


def _first(items: dict[str, _T], count: int) -> list[str]:
    """The oldest ``count`` keys of a dict."""
    return [key for key, _ in zip(items, range(count), strict=False)]


def _made_of(blocks: set[str], awaiting: dict[str, _Held]) -> list[str]:
    return [key_id for key_id, held in awaiting.items() if not blocks.isdisjoint(held.parts)]


def _too_old(held: dict[str, _Held], now: float) -> list[str]:
    """Entries stand in the order of their expiry, so the first young one ends the search."""
    old = []
    for key_id, entry in held.items():
        if entry.expires > now:
            break
        old.append(key_id)
    return old


def _join(parts: list[Secret], size: int) -> Secret:
    """One key of ``size`` bits from uniformly random blocks; the blocks are wiped."""
    key = Secret(b"".join(part.expose() for part in parts)[: size // 8])
    for part in parts:
        part.wipe()
    return key
