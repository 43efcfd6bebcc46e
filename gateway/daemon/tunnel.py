"""One tunnel at run time: carries its policy's decisions out and tells it what happened.

Nothing is decided here. ``protection`` says when and with what, ``ike`` how; this is the
wiring between them, the key source, the kernel policies and the bulletin.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import assert_never

from gateway.daemon.bulletin import Bulletin
from gateway.daemon.driver import Driver
from gateway.daemon.executor import KernelWork
from gateway.daemon.idle import IdleWatch
from gateway.daemon.lifetimes import SaLimits
from gateway.daemon.orphans import Orphans
from gateway.daemon.policies import TunnelPolicies
from gateway.daemon.tally import TunnelTally
from gateway.daemon.trust import TunnelTrust
from gateway.daemon.tunnel_events import Networks, TunnelEvents
from gateway.dataplane.port import DataPlane
from gateway.errors import NoKeyError
from gateway.ike.commands import ActivateOutbound, InstallChild
from gateway.ike.config import PpkMode
from gateway.ike.events import ChildUp, Event, IkeEstablished
from gateway.ike.identity import Identity
from gateway.ike.views import ChildFacts
from gateway.keys.source import TunnelKeys
from gateway.model import (
    IpAddress,
    KernelSnapshot,
    KeyId,
    Ppk,
    Protection,
    SaId,
    SaLifetime,
)
from gateway.pki.trust import Trusted
from gateway.protection.alarms import FOLLOWED
from gateway.protection.decisions import (
    AcceptPpk,
    Block,
    ClearAlarm,
    CloseTunnel,
    Decision,
    Initiate,
    ProtectionChanged,
    QuarantineKeys,
    RaiseAlarm,
    Rekey,
    TrapTraffic,
    Unblock,
)
from gateway.protection.health import HealthMonitor
from gateway.protection.inputs import (
    AttemptFailed,
    Input,
    OperatorInitiate,
    OperatorRekey,
    OperatorTerminate,
    SaUp,
    TrafficCeased,
)
from gateway.protection.machine import TunnelProtection

PPK_FETCH_TIMEOUT = 9.0  # seconds; a hanging KME and its twin, below the core's PPK_TIMEOUT


class Tunnel:
    """Brings one tunnel's policy, keys, kernel policies and IKE connection together."""

    def __init__(
        self,
        *,
        name: str,
        local: IpAddress,
        remote: IpAddress,
        reqid: int,
        networks: tuple[Networks, Networks],
        limits: SaLimits,
        idle_timeout: float | None,
        childless: bool,
        protection: TunnelProtection,
        health: HealthMonitor | None,
        keys: TunnelKeys | None,
        policies: TunnelPolicies,
        dataplane: DataPlane,
        driver: Driver,
        bulletin: Bulletin,
        trust: TunnelTrust,
        kernel: Callable[[KernelWork], None],
        closed: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """``closed`` is told why, whenever policy ends what there is of the tunnel."""
        self.name = name
        self.local = local
        self.remote = remote
        self.reqid = reqid
        self._childless = childless  # a connection without tunnels: its IKE SA is protected
        self._limits = limits
        self._idle_timeout = idle_timeout
        self._idle = None if idle_timeout is None else IdleWatch(idle_timeout)
        self.protection = protection
        self.keys = keys
        self.policies = policies
        self.trust = trust
        self.orphans = Orphans(dataplane, remote=remote, kernel=kernel)
        self._health = health
        self._driver = driver
        self._bulletin = bulletin
        self._kernel = kernel
        self._closed = closed
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.accepted: PpkMode | None = None  # what policy last told the IKE core to accept
        self._terminated = False  # by the operator, before the reload that made this one
        self._closing = False
        self.events = TunnelEvents(
            name=name,
            networks=networks,
            childless=childless,
            protection=protection,
            endpoint=driver.endpoint,
            bulletin=bulletin,
            kernel=kernel,
            feed=self.feed,
            ike_rekey_due=lambda event: self.rekey_ike(replace=event.replace),
        )

    @property
    def tally(self) -> TunnelTally:
        return self.events.tally

    # --- life -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: the policy's first deadline is at once."""
        if self.keys is not None:
            self.keys.start()
        mixed = self._driver.endpoint.mixed(self.name)
        if mixed is not None:  # a reload: SAs go on under changed settings
            self.feed(
                SaUp(
                    protection=mixed.protection,
                    keyed=mixed.key_id is not None,
                    offered_ppk=False,
                    initiated=False,
                )
            )
        elif self._terminated:
            self.feed(OperatorTerminate())
        elif self.orphans.sa_ids:
            # Our peer does not know that we lost the IKE SA; make a new one before it notices.
            self.feed(OperatorInitiate(reason="taking over from an earlier run"))
        self._arm()

    def inherit(self, old: Tunnel) -> None:
        """Take the place of a tunnel whose SAs go on under changed settings (a reload)."""
        self.policies = old.policies
        self.orphans = old.orphans
        self.trust.inherit(old.trust)
        self.events.inherit(old.events)
        self._terminated = old.protection.stopped
        self.protection.inherit(old.protection, self._clock())

    def give_keys(self) -> TunnelKeys | None:
        """The key source, warm pool and all, for an heir."""
        keys, self.keys = self.keys, None
        return keys

    def retire(self) -> None:
        """Decide nothing any more."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def stop(self) -> None:
        """Stop deciding and wipe the keys held. Kernel and peer are left as they are."""
        self.retire()
        if self.keys is not None:
            await self.keys.stop()

    # --- inputs ---------------------------------------------------------------------------

    def feed(self, item: Input) -> None:
        """Tell the policy something and carry out what it decides."""
        if self._closing:
            return
        if isinstance(item, OperatorInitiate | OperatorRekey | OperatorTerminate):
            self._bulletin.forget(self.name)  # whoever asks wants to see what comes of it
        self._carry_out(self.protection.handle(item, self._clock()))

    def observe_keys(self) -> None:
        """Look at the key source and report stock and health to the policy."""
        if self.keys is None or self._health is None:
            return
        for change in self._health.observe(self.keys.observe()):
            self.feed(change)

    def watch_idle(self, kernel: KernelSnapshot) -> None:
        """Look whether traffic has ceased. Part of the audit."""
        if self._idle is not None and self._idle.ceased(self.in_use(), kernel, self._clock()):
            self.feed(TrafficCeased(reason=f"no traffic for {self._idle_timeout:g} s"))

    def on_event(self, event: Event) -> None:
        """Something happened in the IKE core."""
        if isinstance(event, ChildUp):
            self.orphans.retire()
        elif isinstance(event, IkeEstablished):
            self.trust.accept(event.remote_certificates, event.remote_id)
        self.events.take(event)

    def carrying(self) -> ChildFacts | None:
        """The child that carries our traffic, as the IKE core believes."""
        children = self._driver.endpoint.children(self.name)
        return next((each for each in children if each.carries_outbound), None)

    def in_use(self) -> frozenset[SaId]:
        """The SAs of the child that carries our traffic; none without one."""
        child = self.carrying()
        if child is None:
            return frozenset()
        return frozenset((SaId(self.local, child.spi_in), SaId(self.remote, child.spi_out)))

    async def abandon(self) -> None:
        """Nothing leads into an SA any more, and what an earlier run left goes as well."""
        try:
            await self.policies.block()
        finally:
            await self.orphans.drop()

    # --- decisions ------------------------------------------------------------------------

    def _carry_out(self, decisions: tuple[Decision, ...]) -> None:
        alarmed = any(isinstance(item, RaiseAlarm) and item.id in FOLLOWED for item in decisions)
        for decision in decisions:
            self._act(decision, alarmed=alarmed)
        self._arm()

    def _protection_changed(self, change: ProtectionChanged, *, alarmed: bool) -> None:
        """``alarmed``: the alarm that comes with it gives the same reason."""
        level = logging.INFO if change.new is Protection.HYBRID else logging.WARNING
        self._bulletin.forget(self.name)
        self._bulletin.publish(
            "protection",
            f"{change.old} -> {change.new}: {change.reason}",
            tunnel=self.name,
            level=logging.DEBUG if alarmed else level,
            old=change.old.value,
            new=change.new.value,
        )

    def _act(self, decision: Decision, *, alarmed: bool) -> None:
        match decision:
            case Initiate(with_ppk=with_ppk):
                self._attempt(with_ppk=with_ppk, rekey=False)
            case Rekey(with_ppk=with_ppk):
                self._attempt(with_ppk=with_ppk, rekey=True)
            case CloseTunnel(reason=reason):
                self._closed(reason)  # first what carries traffic without the IKE SA
                now = self._clock()
                self._driver.run(
                    lambda: self._driver.endpoint.close(self.name, reason=reason, now=now)
                )
                self._kernel(self.abandon)
            case Block(reason=reason):
                self._kernel(self.policies.block)
                effect = "no IKE SA" if self._childless else "traffic is dropped"
                self._bulletin.publish(
                    "blocked",
                    f"{effect}: {reason}",
                    tunnel=self.name,
                    level=logging.DEBUG,  # the alarm says it
                )
            case Unblock(reason=reason):
                self._bulletin.publish("unblocked", reason, tunnel=self.name, level=logging.DEBUG)
            case TrapTraffic(on=on):
                self._kernel(self.policies.trap if on else self.policies.untrap)
            case AcceptPpk(mode=mode):
                self.accepted = mode
                now = self._clock()
                self._driver.run(lambda: self._driver.endpoint.set_ppk_mode(self.name, mode, now))
            case QuarantineKeys(since=since, reason=reason):
                dropped = self.keys.quarantine(since) if self.keys is not None else 0
                self._bulletin.publish(
                    "keys-quarantined",
                    f"{dropped} QKD keys dropped: {reason}",
                    tunnel=self.name,
                    level=logging.WARNING,
                    keys=dropped,
                )
            case RaiseAlarm(id=alarm_id, severity=severity, text=text):
                self._bulletin.raise_alarm(alarm_id, severity, self.name, text)
            case ClearAlarm(id=alarm_id):
                self._bulletin.clear_alarm(alarm_id, self.name)
            case ProtectionChanged():
                self._protection_changed(decision, alarmed=alarmed)
            case _:
                assert_never(decision)

    def _attempt(self, *, with_ppk: bool, rekey: bool) -> None:
        ppk: Ppk | None = None
        endpoint = self._driver.endpoint
        if with_ppk and (rekey or endpoint.uses_key(self.name)):
            ppk = self.keys.take() if self.keys is not None else None
            if ppk is None:
                reason = "no QKD key in the pool"
                self.feed(AttemptFailed(reason=reason, ppk_missing=True, rekey=rekey))
                return
        self.events.offered = with_ppk
        now = self._clock()
        start = endpoint.rekey if rekey else endpoint.initiate
        self._driver.run(lambda: start(self.name, ppk=ppk, now=now))

    def rekey_ike(self, *, replace: bool = False) -> None:
        """Replace the IKE SA, by a rekey or by a new one. A QKD key goes in if policy has one.

        No decision of ``protection``, as what the children are keyed with stays as it is; but of
        a connection without tunnels it is the rekey that policy decides.
        """
        if self._closing:
            return
        if self._childless:
            self.feed(OperatorRekey())
            return
        endpoint, now = self._driver.endpoint, self._clock()
        usable = replace or endpoint.takes_fresh_ppk(self.name)
        ppk: Ppk | None = None
        if usable and self.keys is not None and self.protection.spare_key(now):
            ppk = self.keys.take()
        start = endpoint.initiate if replace else endpoint.rekey_ike
        self._driver.run(lambda: start(self.name, ppk=ppk, now=now))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.protection.next_deadline()
        if deadline is None or self._closing:
            return
        delay = max(0.0, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._carry_out(self.protection.handle_timer(self._clock()))

    # --- what the executor needs (executor.TunnelSide) ------------------------------------

    async def fetch_ppk(self, key_id: KeyId) -> Ppk:
        if self.keys is None:
            raise NoKeyError(self.name)
        if not self.protection.admit_peer_key(self._clock()):
            raise NoKeyError(self.name, reason="not wanted so soon after a suspicion")
        return await self.keys.fetch(key_id, PPK_FETCH_TIMEOUT)

    def take_ppk(self) -> Ppk | None:
        """A key for a Child SA that the IKE core makes by itself, as policy would have it."""
        if self.keys is None or not self.protection.trusts_keys(self._clock()):
            return None
        return self.keys.take()

    def settle_ppk(self, key_id: KeyId, *, used: bool, refused: bool) -> None:
        if self.keys is not None:
            self.keys.settle(key_id, used=used, refused=refused)

    def sa_lifetime(self, *, esn: bool) -> SaLifetime:
        """Limits for the SAs of a new child."""
        return self._limits.draw(esn=esn, random=random.random)

    def check_certificates(self, chain: tuple[bytes, ...], identity: Identity) -> Trusted:
        return self.trust.check(chain, identity)

    async def admit_inbound(self, command: InstallChild) -> None:
        await self.policies.admit_inbound(command)

    async def steer_outbound(self, command: ActivateOutbound) -> None:
        await self.policies.steer_outbound(
            command.spi, command.local_networks, command.remote_networks, command.mode
        )

    async def release(self, sa_ids: tuple[SaId, ...]) -> None:
        """These SAs are about to go: nothing may lead into one of them any more."""
        if not self.policies.leads_into(sa_ids):
            return
        carrying = self.carrying()
        if carrying is None or SaId(self.remote, carrying.spi_out) in sa_ids:
            await self.policies.block_outbound()
        else:  # a move to one of these was overtaken by its end
            await self._steer_to(carrying)

    async def _steer_to(self, child: ChildFacts) -> None:
        await self.policies.steer_outbound(
            child.spi_out, child.local_networks, child.remote_networks, child.mode
        )

    async def steer_back(self) -> None:
        """Have traffic leave where the IKE core believes it does. Part of the audit."""
        carrying = self.carrying()
        if carrying is not None and self.policies.outbound_spi != carrying.spi_out:
            await self._steer_to(carrying)
