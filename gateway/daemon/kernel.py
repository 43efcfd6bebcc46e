"""Keeps the kernel as the tunnels need it: at start, on its events, and by looking again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import assert_never

from gateway.daemon.driver import Driver
from gateway.daemon.executor import KernelWork
from gateway.daemon.tunnel import Tunnel
from gateway.dataplane.port import DataPlane, EventsLost, PeerMoved, SaExpired, TrafficWaiting
from gateway.dataplane.reconcile import Plan, is_pin, plan
from gateway.errors import DataplaneError
from gateway.ike.states import ChildState
from gateway.ike.views import TunnelFacts
from gateway.model import IpAddress, KernelSnapshot, PolicyAction, PolicySpec, SaId, SaState
from gateway.protection import inputs

log = logging.getLogger("qsgw.kernel")

AUDIT_INTERVAL = 10.0  # seconds between two comparisons of what we believe with what is
AFTER_REFUSAL = 1.0  # seconds until the look after the kernel refused something


class KernelKeeper:
    """Reconciles policies and SAs with the tunnels of this process.

    Its work goes through the executor's queue (``enqueue``), so it never sees the kernel
    half-way through a rekey's steps.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        tunnels: Mapping[str, Tunnel],
        driver: Driver,
        *,
        enqueue: Callable[[KernelWork], None],
        clock: Callable[[], float],
    ) -> None:
        self._dataplane = dataplane
        self._tunnels = tunnels
        self._driver = driver
        self._enqueue = enqueue
        self._clock = clock
        self._look = asyncio.Event()
        self._strays: frozenset[SaId] = frozenset()  # nobody's, at the last audit
        self._trouble = ""  # why the last audit failed

    async def take_over(self) -> None:
        """At start: guard policies first, then adopt what an earlier run left running."""
        for tunnel in self._tunnels.values():
            await tunnel.policies.lay_guard()
        snapshot = await self._dataplane.snapshot()
        for tunnel in self._tunnels.values():
            _adopt(tunnel, snapshot)
        changes = plan(self._desired(), snapshot)
        for sa_id in changes.sas_to_remove:
            await self._dataplane.remove_sa(sa_id)
        await self._lay(changes)

    async def realign(self) -> None:
        """Lay what the tunnels need, then take away what no tunnel needs: never a gap."""
        await self._lay(plan(self._desired(), await self._dataplane.snapshot()))

    async def _lay(self, changes: Plan) -> None:
        for policy in changes.to_set:
            await self._dataplane.set_policy(policy)
        for policy in changes.to_remove:
            await self._dataplane.remove_policy(policy)

    async def follow_events(self) -> None:
        """React to the kernel, for ever."""
        async for event in self._dataplane.events():
            match event:
                case SaExpired(sa_id=sa_id, reqid=reqid, hard=hard):
                    self._expired(sa_id, reqid, hard=hard)
                case EventsLost():
                    log.warning("kernel events were lost: reading everything back")
                    self._enqueue(self._audit)
                    self._enqueue(self._look_at_limits)
                case TrafficWaiting():
                    self._waiting(event)
                case PeerMoved(sa_id=sa_id, address=address, port=port):
                    self._moved(sa_id, (address, port))
                case _:
                    assert_never(event)

    def look_soon(self) -> None:
        """The kernel refused something: what it holds may differ from what is meant."""
        self._look.set()

    async def audit_for_ever(self, beat: Callable[[], None]) -> None:
        """Compare at intervals: somebody may have flushed SAs or policies behind our back.

        Beats each time the kernel worker has done an audit, so it beats only while that works.
        """
        while True:
            beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(AUDIT_INTERVAL):
                    await self._look.wait()
                    await asyncio.sleep(AFTER_REFUSAL)
            self._look.clear()
            done = asyncio.Event()
            self._enqueue(partial(self._audit_and_tell, done))
            await done.wait()

    async def _audit_and_tell(self, done: asyncio.Event) -> None:
        try:
            await self._audit()
            self._trouble = ""
        except DataplaneError as error:
            if str(error) != self._trouble:  # told once, tried again each time
                log.error("kernel could not be compared with what is meant: %s", error)
            self._trouble = str(error)
        finally:
            done.set()

    async def _audit(self) -> None:
        snapshot = await self._dataplane.snapshot()
        changes = plan(self._desired(), snapshot, self._believed())
        for policy in changes.to_set:
            log.warning("%s: policy was missing or changed in the kernel: set", policy.tunnel)
            await self._dataplane.set_policy(policy)
        for policy in changes.to_remove:
            log.warning("policy %s -> %s is nobody's: removed", policy.source, policy.destination)
            await self._dataplane.remove_policy(policy)
        for sa_id in changes.missing_sas:
            log.warning("%s: SA %08x is gone from the kernel", self._owner(sa_id), sa_id.spi)
            self._gone(sa_id)
        for tunnel in self._tunnels.values():
            await tunnel.steer_back()
            tunnel.watch_idle(snapshot)
        self._move_what_waits()
        await self._clear_away(snapshot)

    def _move_what_waits(self) -> None:
        """Where traffic could not be moved to the SA a tunnel has: tell the core to try again."""
        for facts in self._driver.endpoint.views():
            tunnel = self._tunnels.get(facts.name)
            if tunnel is None or any(child.carries_outbound for child in facts.children):
                continue
            for child in facts.children:
                if child.state == ChildState.INSTALLED:
                    self._seen(SaId(tunnel.local, child.spi_in))
                    break

    async def _clear_away(self, snapshot: KernelSnapshot) -> None:
        """Remove SAs that were nobody's at two audits in a row: their removal was refused."""
        known = {sa_id for tunnel in self._tunnels.values() for sa_id in tunnel.orphans.sa_ids}
        for facts in self._driver.endpoint.views():
            if facts.name in self._tunnels:
                known |= _sas_of(self._tunnels[facts.name], facts) | set(facts.early)
        found = {sa.sa_id for sa in snapshot.sas if not sa.larval and sa.sa_id not in known}
        old, self._strays = self._strays & found, frozenset(found)
        if found - old:
            self._look.set()  # the second look comes soon
        refused: DataplaneError | None = None
        for sa_id in old:
            log.warning("SA %08x is nobody's: removed", sa_id.spi)
            try:
                for tunnel in self._tunnels.values():
                    await tunnel.release((sa_id,))
                await self._dataplane.remove_sa(sa_id)
            except DataplaneError as error:
                refused = error
        if refused is not None:
            raise refused

    def _desired(self) -> list[PolicySpec]:
        return [policy for tunnel in self._tunnels.values() for policy in tunnel.policies.desired]

    def _believed(self) -> frozenset[SaId]:
        """SAs of Child SAs that are up, and those an earlier run left us."""
        ids: set[SaId] = set()
        for facts in self._driver.endpoint.views():
            tunnel = self._tunnels.get(facts.name)
            if tunnel is None:
                continue
            for child in facts.children:
                ids.add(SaId(tunnel.local, child.spi_in))
                if child.carries_outbound:  # a replaced child keeps its inbound half for a while
                    ids.add(SaId(tunnel.remote, child.spi_out))
        return frozenset(ids)

    def _owner(self, sa_id: SaId) -> str | None:
        """The tunnel that uses this SA, for a message."""
        for facts in self._driver.endpoint.views():
            tunnel = self._tunnels.get(facts.name)
            if tunnel is not None and sa_id in _sas_of(tunnel, facts):
                return facts.name
        return None

    def _expired(self, sa_id: SaId, reqid: int, *, hard: bool) -> None:
        tunnel = next((item for item in self._tunnels.values() if item.reqid == reqid), None)
        if tunnel is None:
            return
        if hard:
            if self._owner(sa_id) is not None:  # else a reservation, or one already replaced
                log.warning("%s: SA %08x reached its hard lifetime", tunnel.name, sa_id.spi)
            self._gone(sa_id)
        elif sa_id in tunnel.in_use():  # else it is being replaced as it is
            tunnel.feed(inputs.SaExpiring())

    def _waiting(self, event: TrafficWaiting) -> None:
        """Policy is asked only where a trap is laid, and tells no second time while it sets up."""
        for tunnel in self._tunnels.values():
            if tunnel.reqid == event.reqid:
                reason = f"traffic from {event.source} to {event.destination} waits"
                tunnel.feed(inputs.TrafficWaiting(reason=reason))

    async def _look_at_limits(self) -> None:
        """The kernel tells of a soft limit once; the telling may have been lost."""
        snapshot = await self._dataplane.snapshot()
        for tunnel in self._tunnels.values():
            in_use = tunnel.in_use()
            if any(_past_soft_limit(sa) for sa in snapshot.sas if sa.sa_id in in_use):
                tunnel.feed(inputs.SaExpiring())

    def _seen(self, sa_id: SaId) -> None:
        now = self._clock()
        self._driver.run(lambda: self._driver.endpoint.inbound_seen(sa_id, now))

    def _moved(self, sa_id: SaId, source: tuple[IpAddress, int]) -> None:
        now = self._clock()
        self._driver.run(lambda: self._driver.endpoint.peer_moved(sa_id, source, now))

    def _gone(self, sa_id: SaId) -> None:
        now = self._clock()
        self._driver.run(lambda: self._driver.endpoint.sa_expired(sa_id, hard=True, now=now))


def _sas_of(tunnel: Tunnel, facts: TunnelFacts) -> set[SaId]:
    return {
        sa_id
        for child in facts.children
        for sa_id in (SaId(tunnel.local, child.spi_in), SaId(tunnel.remote, child.spi_out))
    }


def _past_soft_limit(sa: SaState) -> bool:
    octets, packets = sa.lifetime.soft_bytes, sa.lifetime.soft_packets
    return (octets is not None and sa.bytes >= octets) or (
        packets is not None and sa.packets >= packets
    )


def _adopt(tunnel: Tunnel, snapshot: KernelSnapshot) -> None:
    """Keep an earlier run's SAs carrying traffic until a new Child SA does."""
    sas = [sa for sa in snapshot.sas if sa.reqid == tunnel.reqid and not sa.larval]
    spis = {sa.sa_id.spi for sa in sas}
    policies = [
        policy
        for policy in snapshot.policies
        if policy.action is PolicyAction.PROTECT and policy.reqid == tunnel.reqid
    ]
    if any(is_pin(policy) and policy.outbound_spi in spis for policy in policies):
        tunnel.policies.adopt(policies)
        log.info("%s: taking over %d SAs of an earlier run", tunnel.name, len(sas))
    tunnel.orphans.sa_ids = tuple(sa.sa_id for sa in sas)
