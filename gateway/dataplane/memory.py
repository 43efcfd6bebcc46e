"""A data plane in memory: the kernel's rules without a kernel, and a watch over ours.

It refuses what the kernel refuses, and it notices what the kernel would carry out although it
must not happen: a packet in the clear, traffic sent into a hole, a key in use twice. Such a
thing is a mistake of the caller, so it raises InvariantViolation, which nothing catches.

The content outlives ``close``, as in a kernel: a second daemon can be started on it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.crypto.secret import Secret
from gateway.dataplane.port import EventsLost, KernelEvent, SaExpired, TrafficWaiting
from gateway.dataplane.reconcile import PolicyKey, is_our_reqid, is_pin, policy_key
from gateway.errors import DataplaneError
from gateway.model import (
    Direction,
    IpAddress,
    KernelSnapshot,
    PolicyAction,
    PolicySpec,
    SaId,
    SaLifetime,
    SaSpec,
    SaState,
    UdpEncap,
)

FIRST_SPI = 0xC000_0001
ACQUIRE_EXPIRES = 30.0  # seconds; net.core.xfrm_acq_expires
PACKET_SIZE = 100  # octets, for the byte counters


class InvariantViolation(AssertionError):  # noqa: N818 - it is not an error of the kernel
    """The caller did what must never be done."""


class Fate(StrEnum):
    PROTECTED = "protected"
    DROPPED = "dropped"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmission:
    """What became of one packet."""

    fate: Fate
    sa: SaSpec | None = None  # the outbound SA that carries it, where PROTECTED
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class _Sa:
    spec: SaSpec
    added_at: int
    order: int
    packets: int = 0
    dying: bool = False  # the soft limit was told of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reservation:
    source: IpAddress
    reqid: int
    added_at: int


class MemoryDataPlane:
    """Implements ``gateway.dataplane.port.DataPlane``, with synchronous inspectors beside it.

    ``now`` stamps SAs with Unix seconds. With ``strict`` off, violations are only recorded.
    """

    def __init__(self, *, now: Callable[[], float] = lambda: 0.0, strict: bool = True) -> None:
        self.violations: list[str] = []
        self.fallbacks = 0  # inbound SAs installed without a reservation
        self._now = now
        self._strict = strict
        self._open = False
        self._sas: dict[SaId, _Sa] = {}
        self._reservations: dict[SaId, _Reservation] = {}
        self._policies: dict[PolicyKey, PolicySpec] = {}
        self._retired: set[str] = set()
        self._keys: dict[bytes, SaId] = {}  # by digest: what each was installed for
        self._installed = 0
        self._next_spi = FIRST_SPI
        self._refusals: dict[str, DataplaneError] = {}
        self._told: dict[int, float] = {}  # reqid -> until when the kernel tells no second time
        self._events: asyncio.Queue[KernelEvent | None] = asyncio.Queue()

    # --- the port ----------------------------------------------------------------------------

    async def open(self) -> None:
        self._open = True
        self._events = asyncio.Queue()

    async def close(self) -> None:
        self._open = False
        self._events.put_nowait(None)

    async def allocate_spi(self, source: IpAddress, destination: IpAddress, reqid: int) -> int:
        self._enter("allocate_spi")
        sa_id = SaId(destination, self._next_spi)
        self._next_spi += 1
        self._reservations[sa_id] = _Reservation(
            source=source, reqid=reqid, added_at=int(self._now())
        )
        return sa_id.spi

    async def install_sa(self, sa: SaSpec) -> None:
        self._enter("install_sa")
        if sa.direction is Direction.FORWARD:
            raise DataplaneError("an SA is inbound or outbound", errno.EINVAL)
        known = self._sas.get(sa.sa_id)
        if known is not None and sa.direction is known.spec.direction is Direction.INBOUND:
            if (known.spec.key, known.spec.esn, known.spec.mode) != (sa.key, sa.esn, sa.mode):
                self._violated(f"SPI {sa.spi:08x} keeps its key, and is to have another")
            known.spec = replace(known.spec, lifetime=sa.lifetime, encap=sa.encap)
            return
        if known is not None:
            self._violated(f"SPI {sa.spi:08x} to {sa.destination} installed twice")
            raise DataplaneError(f"SA {sa.spi:08x}: File exists (EEXIST)", errno.EEXIST)
        digest = hashlib.sha256(sa.key.expose()).digest()
        again = sa.direction is Direction.INBOUND and self._keys.get(digest) == sa.sa_id
        if digest in self._keys and not again:
            # AES-GCM with one key and a restarted counter gives away plaintext and the hash key.
            self._violated(f"SA {sa.spi:08x}: this key was installed before")
        self._keys[digest] = sa.sa_id
        if sa.direction is Direction.INBOUND and not self._reservations.pop(sa.sa_id, None):
            self.fallbacks += 1
        if sa.direction is Direction.OUTBOUND:
            self._told.pop(sa.reqid, None)
        self._installed += 1
        held = replace(sa, key=Secret(sa.key.expose()))  # a kernel copies; the caller wipes its own
        self._sas[sa.sa_id] = _Sa(spec=held, added_at=int(self._now()), order=self._installed)

    async def update_encap(self, sa_id: SaId, encap: UdpEncap) -> None:
        self._enter("update_encap")
        known = self._sas.get(sa_id)
        if known is None:
            return
        if known.spec.encap is None:
            raise DataplaneError(f"SA {sa_id.spi:08x} is not in UDP (EINVAL)", errno.EINVAL)
        known.spec = replace(known.spec, encap=encap)

    async def remove_sa(self, sa_id: SaId) -> None:
        self._enter("remove_sa")
        self._reservations.pop(sa_id, None)
        if sa_id not in self._sas:
            return
        for policy in self._policies.values():
            pinned = is_pin(policy) and policy.outbound_spi == sa_id.spi
            if pinned and policy.tunnel_destination == sa_id.destination:
                if not self._blocked(policy):
                    self._violated(
                        f"blackhole: SA {sa_id.spi:08x} removed while {policy.source} ->"
                        f" {policy.destination} is pinned to it"
                    )
                break
        del self._sas[sa_id]

    async def set_policy(self, policy: PolicySpec) -> None:
        self._enter("set_policy")
        destination = policy.tunnel_destination
        if policy.action is PolicyAction.PROTECT:
            if destination is None or policy.tunnel_source is None:
                raise DataplaneError("a PROTECT policy needs tunnel addresses", errno.EINVAL)
            if policy.outbound_spi and SaId(destination, policy.outbound_spi) not in self._sas:
                self._violated(
                    f"{policy.source} -> {policy.destination} pinned to SA"
                    f" {policy.outbound_spi:08x}, which is not there"
                )
        self._retired.discard(policy.tunnel)
        self._policies[policy_key(policy)] = policy

    async def remove_policy(self, policy: PolicySpec) -> None:
        self._enter("remove_policy")
        gone = self._policies.pop(policy_key(policy), None)
        if gone is not None and gone.tunnel not in self._retired and not self._covered(gone):
            self._violated(
                f"the last policy {gone.direction.value} {gone.source} -> {gone.destination} was"
                f" removed while tunnel {gone.tunnel} exists"
            )

    async def read_sa(self, sa_id: SaId) -> SaState | None:
        self._enter("read_sa")
        return next((sa for sa in self._states() if sa.sa_id == sa_id), None)

    async def snapshot(self) -> KernelSnapshot:
        self._enter("snapshot")
        return KernelSnapshot(
            sas=tuple(sa for sa in self._states() if is_our_reqid(sa.reqid)),
            policies=tuple(replace(policy, tunnel="") for policy in self._policies.values()),
        )

    async def events(self) -> AsyncIterator[KernelEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    # --- what is in it -----------------------------------------------------------------------

    @property
    def sas(self) -> tuple[SaSpec, ...]:
        """In the order they were installed."""
        return tuple(sa.spec for sa in self._sas.values())

    @property
    def reservations(self) -> tuple[SaId, ...]:
        return tuple(self._reservations)

    @property
    def policies(self) -> tuple[PolicySpec, ...]:
        """With the names of their tunnels, which a kernel does not know."""
        return tuple(self._policies.values())

    def pins(self, tunnel: str) -> set[int]:
        """The SPIs the outbound policies of a tunnel name; 0 is none."""
        return {
            policy.outbound_spi
            for policy in self._policies.values()
            if policy.tunnel == tunnel and is_pin(policy)
        }

    # --- packets -----------------------------------------------------------------------------

    def transmit(self, source: IpAddress, destination: IpAddress) -> Transmission:
        """Send a packet out of the protected network. Counts on the SA that carries it."""
        policy = self._match(Direction.OUTBOUND, source, destination)
        if policy is None:
            return Transmission(fate=Fate.CLEAR, reason="no policy")
        if policy.action is PolicyAction.BLOCK:
            return Transmission(fate=Fate.DROPPED, reason="blocked")
        found = self._outbound(policy)
        if found is None:
            if self._told.get(policy.reqid, 0.0) <= self._now():
                self._told[policy.reqid] = self._now() + ACQUIRE_EXPIRES
                waiting = TrafficWaiting(reqid=policy.reqid, source=source, destination=destination)
                self.emit(waiting)
            return Transmission(fate=Fate.DROPPED, reason="no SA")
        if self._used_up(found):
            return Transmission(fate=Fate.DROPPED, reason="hard limit")
        found.packets += 1
        return Transmission(fate=Fate.PROTECTED, sa=found.spec)

    def receive(
        self, sent: SaSpec, source: IpAddress, destination: IpAddress, *, forward: bool = True
    ) -> Transmission:
        """Take in a packet the peer sent through ``sent``; ``forward``: not for this host."""
        found = self._sas.get(sent.sa_id)
        if found is None or found.spec.direction is not Direction.INBOUND:
            return Transmission(fate=Fate.DROPPED, reason=f"no inbound SA {sent.spi:08x}")
        if found.spec.key != sent.key or found.spec.esn != sent.esn:
            return Transmission(fate=Fate.DROPPED, reason="integrity check failed")
        direction = Direction.FORWARD if forward else Direction.INBOUND
        policy = self._match(direction, source, destination)
        if policy is not None and policy.reqid != found.spec.reqid:  # a block policy has none
            return Transmission(fate=Fate.DROPPED, reason="policy does not allow this SA")
        if policy is not None and policy.mode is not found.spec.mode:
            return Transmission(fate=Fate.DROPPED, reason="policy wants another mode")
        if self._used_up(found):
            return Transmission(fate=Fate.DROPPED, reason="hard limit")
        found.packets += 1
        return Transmission(fate=Fate.PROTECTED, sa=found.spec)

    def receive_clear(
        self, source: IpAddress, destination: IpAddress, *, forward: bool = True
    ) -> Transmission:
        """A packet that came without ESP."""
        direction = Direction.FORWARD if forward else Direction.INBOUND
        if self._match(direction, source, destination) is None:
            return Transmission(fate=Fate.CLEAR, reason="no policy")
        return Transmission(fate=Fate.DROPPED, reason="policy wants ESP")

    # --- what a kernel does by itself --------------------------------------------------------

    def emit(self, event: KernelEvent) -> None:
        self._events.put_nowait(event)

    def lose_events(self) -> None:
        self.emit(EventsLost())

    def expire(self, sa_id: SaId, *, hard: bool) -> None:
        """A lifetime ends, or a reservation: with ``hard`` the SA is gone."""
        known = self._sas.get(sa_id)
        reqid = known.spec.reqid if known is not None else self._reservations[sa_id].reqid
        if hard:
            self._sas.pop(sa_id, None)
            self._reservations.pop(sa_id, None)
        self.emit(SaExpired(sa_id=sa_id, reqid=reqid, hard=hard))

    def refuse(self, verb: str, error: DataplaneError) -> None:
        """Let the next call of this verb of the port fail."""
        self._refusals[verb] = error

    def retire(self, tunnel: str) -> None:
        """The operator took this tunnel out: from now on its policies may go."""
        self._retired.add(tunnel)

    # -----------------------------------------------------------------------------------------

    def _enter(self, verb: str) -> None:
        if not self._open:
            raise DataplaneError(f"{verb}: the data plane is not open", errno.EBADF)
        refusal = self._refusals.pop(verb, None)
        if refusal is not None:
            raise refusal

    def _violated(self, what: str) -> None:
        self.violations.append(what)
        if self._strict:
            raise InvariantViolation(what)

    def _states(self) -> list[SaState]:
        states = [
            _state(sa_id, sa.spec.source, sa.spec.reqid, sa.added_at, sa=sa)
            for sa_id, sa in self._sas.items()
        ]
        states += [
            _state(sa_id, larval.source, larval.reqid, larval.added_at, sa=None)
            for sa_id, larval in self._reservations.items()
        ]
        return states

    def _match(
        self, direction: Direction, source: IpAddress, destination: IpAddress
    ) -> PolicySpec | None:
        matching = [
            policy
            for policy in self._policies.values()
            if policy.direction is direction
            and source in policy.source
            and destination in policy.destination
        ]
        return min(matching, key=lambda policy: policy.priority, default=None)

    def _outbound(self, policy: PolicySpec) -> _Sa | None:
        """The kernel's choice: the pinned SA, or without a pin the newest of the reqid."""
        candidates = [
            sa
            for sa in self._sas.values()
            if sa.spec.direction is Direction.OUTBOUND
            and sa.spec.reqid == policy.reqid
            and (sa.spec.source, sa.spec.destination)
            == (policy.tunnel_source, policy.tunnel_destination)
            and policy.outbound_spi in (0, sa.spec.spi)
            and policy.mode is sa.spec.mode
        ]
        return max(candidates, key=lambda sa: sa.order, default=None)

    def _used_up(self, sa: _Sa) -> bool:
        """As the kernel looks at limits: when a packet comes, before it is counted."""
        limits, octets = sa.spec.lifetime, sa.packets * PACKET_SIZE
        if _reached(limits.hard_bytes, octets) or _reached(limits.hard_packets, sa.packets):
            self.expire(sa.spec.sa_id, hard=True)
            return True
        soft = _reached(limits.soft_bytes, octets) or _reached(limits.soft_packets, sa.packets)
        if soft and not sa.dying:
            sa.dying = True
            self.expire(sa.spec.sa_id, hard=False)
        return False

    def _blocked(self, policy: PolicySpec) -> bool:
        return any(
            other.action is PolicyAction.BLOCK
            and other.priority < policy.priority
            and _same_selector(other, policy)
            for other in self._policies.values()
        )

    def _covered(self, policy: PolicySpec) -> bool:
        return any(_same_selector(other, policy) for other in self._policies.values())


def carry(
    sender: MemoryDataPlane,
    receiver: MemoryDataPlane,
    source: IpAddress,
    destination: IpAddress,
    *,
    forward: bool = True,
) -> Transmission:
    """One packet from end to end: PROTECTED only if both sides agree on the SA."""
    sent = sender.transmit(source, destination)
    match sent.fate:
        case Fate.PROTECTED if sent.sa is not None:
            return receiver.receive(sent.sa, source, destination, forward=forward)
        case Fate.CLEAR:
            return receiver.receive_clear(source, destination, forward=forward)
        case _:
            return sent


def _reached(limit: int | None, count: int) -> bool:
    return limit is not None and count >= limit


def _same_selector(one: PolicySpec, other: PolicySpec) -> bool:
    return policy_key(one)[:3] == policy_key(other)[:3]


def _state(sa_id: SaId, source: IpAddress, reqid: int, added_at: int, *, sa: _Sa | None) -> SaState:
    return SaState(
        sa_id=sa_id,
        source=source,
        reqid=reqid,
        larval=sa is None,
        esn=sa is not None and sa.spec.esn,
        bytes=0 if sa is None else sa.packets * PACKET_SIZE,
        packets=0 if sa is None else sa.packets,
        replay_drops=0,
        integrity_failures=0,
        added_at=added_at,
        lifetime=SaLifetime() if sa is None else sa.spec.lifetime,
    )
