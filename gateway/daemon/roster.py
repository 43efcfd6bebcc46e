"""The tunnels of this process: built from the configuration, replaced where a reload differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.config.schema import GatewayConfig, KmeConfig, TunnelConfig
from gateway.daemon import build
from gateway.daemon.bulletin import Bulletin
from gateway.daemon.driver import Driver
from gateway.daemon.executor import KernelWork
from gateway.daemon.kmes import connect, retention
from gateway.daemon.policies import TunnelPolicies
from gateway.daemon.trust import TunnelTrust
from gateway.daemon.tunnel import Tunnel
from gateway.dataplane.port import DataPlane
from gateway.dataplane.reconcile import reqid_for
from gateway.ike.events import (
    AuthHintUnmet,
    ChildDown,
    ChildUp,
    DowngradeSuspected,
    DowngradeSuspicionOver,
    ExchangeFailed,
    IkeClosed,
    IkeEstablished,
    IkeRekeyDue,
    IkeRekeyed,
    PeerPortChanged,
    PpkNotUsed,
)
from gateway.keys.ledger import ClaimedKeys
from gateway.keys.source import TunnelKeys
from gateway.model import KmeView, QkdPolicy, Severity
from gateway.protection.health import HealthMonitor
from gateway.protection.machine import TunnelProtection
from kms_client.failover import Kme, KmeGroup

_KME_ALARMS = ("kme-unreachable", "kme-keys-refused")

KmeKey = tuple[KmeConfig, ...]
Entry = tuple[TunnelConfig, KmeKey]
IkeEvent = (
    IkeEstablished
    | IkeRekeyed
    | IkeRekeyDue
    | IkeClosed
    | PeerPortChanged
    | AuthHintUnmet
    | DowngradeSuspected
    | DowngradeSuspicionOver
)
TunnelEvent = IkeEvent | ChildUp | ChildDown | ExchangeFailed | PpkNotUsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What ``Roster.apply`` did."""

    fresh: tuple[str, ...]  # built anew: new, changed, or heirs
    removed: tuple[str, ...]


class Roster:
    """Owns tunnels and the KME clients they share."""

    def __init__(
        self,
        *,
        dataplane: DataPlane,
        driver: Driver,
        bulletin: Bulletin,
        enqueue: Callable[[KernelWork], None],
        clock: Callable[[], float],
        keys_changed: Callable[[], None],
        closed: Callable[[str, str], None] = lambda _name, _reason: None,
        connect_kme: Callable[[KmeConfig], Kme] = connect,
    ) -> None:
        """``closed``: whom to tell which tunnel policy, or another configuration, ends, and why."""
        self.tunnels: dict[str, Tunnel] = {}
        self._configs: dict[str, Entry] = {}
        self._groups: dict[KmeKey, KmeGroup] = {}
        self._dataplane = dataplane
        self._driver = driver
        self._bulletin = bulletin
        self._enqueue = enqueue
        self._clock = clock
        self._keys_changed = keys_changed
        self._closed = closed
        self._connect_kme = connect_kme
        self._claimed = ClaimedKeys()  # over all tunnels and reloads: one key_ID, one use

    def config_of(self, name: str) -> TunnelConfig:
        return self._configs[name][0]

    async def apply(self, config: GatewayConfig) -> Changes:
        """Make the tunnels be those of ``config``.

        A tunnel whose settings did not change is not touched; one that differs in policy only
        is handed over with its SAs. All of it, the IKE core included, happens in one step, so
        nothing that is under way meets half of it. The caller then calls ``start``.
        """
        wanted = {
            name: (tunnel, tuple(config.kmes[kme] for kme in tunnel.kmes))
            for name, tunnel in config.tunnels.items()
        }
        before = dict(self._configs)
        for name in _changed_kmes(before.values(), wanted.values()):
            self._bulletin.forget(name)  # what is wrong with it now is news, even if it is the same
        old = self._take_out(before, wanted)
        fresh = [name for name in wanted if name not in self.tunnels]
        for name in fresh:
            self._add(wanted[name], before.get(name), old.get(name))
        self._connect(config)
        for name in old:  # kernel work queued for the old one was done for its successor
            if name in wanted and not _is_heir(before[name], wanted[name]):
                self._enqueue(self.tunnels[name].policies.block)
        for tunnel in old.values():
            await tunnel.stop()
        await self._close_unused_groups()
        return Changes(
            fresh=tuple(fresh), removed=tuple(name for name in old if name not in wanted)
        )

    def start(self, changes: Changes) -> None:
        """Set the tunnels in motion that ``apply`` has built."""
        for name in changes.fresh:
            self.tunnels[name].start()

    async def stop(self) -> None:
        """Stop every tunnel, wiping its keys; the kernel is left as it is."""
        for tunnel in self.tunnels.values():
            await tunnel.stop()
        for group in self._groups.values():
            await group.close()

    def on_event(self, event: TunnelEvent) -> None:
        """Something happened in the IKE core: the tunnel it is about is told.

        What is about a whole connection goes to the tunnel that gives it its name.
        """
        match event:
            case (
                IkeEstablished(connection=name)
                | IkeRekeyed(connection=name)
                | IkeRekeyDue(connection=name)
                | IkeClosed(connection=name)
                | PeerPortChanged(connection=name)
                | AuthHintUnmet(connection=name)
                | DowngradeSuspected(connection=name)
                | DowngradeSuspicionOver(connection=name)
            ):
                tunnel = self.tunnels.get(name)
            case _:
                tunnel = self.tunnels.get(event.tunnel)
        if tunnel is not None:
            tunnel.on_event(event)

    def observe(self) -> None:
        """Look at every key source and KME; raise and clear what follows from that."""
        for tunnel in self.tunnels.values():
            tunnel.observe_keys()
            tunnel.trust.watch()
        views = self.kmes()
        for view in views:
            if view.healthy:
                self._bulletin.clear_alarm("kme-unreachable", view.name)
            else:
                text = f"KME {view.name}: {view.last_error or 'does not answer'}"
                self._bulletin.raise_alarm("kme-unreachable", Severity.WARNING, view.name, text)
            if view.refused_by:
                peers = ", ".join(view.refused_by)
                text = f"KME {view.name}: its keys are not taken by {peers}; others are asked first"
                self._bulletin.raise_alarm("kme-keys-refused", Severity.WARNING, view.name, text)
            else:
                self._bulletin.clear_alarm("kme-keys-refused", view.name)
        in_use = {view.name for view in views}
        for alarm in self._bulletin.alarms:
            if alarm.id in _KME_ALARMS and alarm.subject not in in_use:
                self._bulletin.clear_alarm(alarm.id, alarm.subject)

    def kmes(self) -> tuple[KmeView, ...]:
        """Every KME once; one that several groups share is shown by the worst of them."""
        refused_by: dict[str, set[str]] = {}
        for name, tunnel in self.tunnels.items():
            for kme in tunnel.keys.refused_kmes if tunnel.keys is not None else ():
                refused_by.setdefault(kme, set()).add(self._configs[name][0].peer_sae)
        views: dict[str, KmeView] = {}
        for group in self._groups.values():
            for health in group.health():
                known = views.get(health.name)
                if known is not None and not known.healthy:
                    continue
                views[health.name] = KmeView(
                    name=health.name,
                    url=health.url,
                    healthy=health.healthy,
                    active=health.active,
                    last_error=health.last_error,
                    requests=health.requests,
                    failures=health.failures,
                    refused_by=tuple(sorted(refused_by.get(health.name, ()))),
                )
        return tuple(views.values())

    def _take_out(
        self, before: Mapping[str, Entry], wanted: Mapping[str, Entry]
    ) -> dict[str, Tunnel]:
        """Tunnels that go or change. Without an heir, nothing may lead into their SAs now."""
        old: dict[str, Tunnel] = {}
        for name, entry in before.items():
            if wanted.get(name) == entry:
                continue
            old[name] = self.tunnels.pop(name)
            del self._configs[name]
            self._bulletin.clear_subject(name)
            old[name].retire()
            if not _is_heir(entry, wanted.get(name)):  # guard policies stay until new ones are laid
                self._closed(name, "the configuration changed")
                self._enqueue(old[name].abandon)
        return old

    def _add(self, entry: Entry, before: Entry | None, old: Tunnel | None) -> None:
        """Build a tunnel; an heir takes over what it can."""
        name = entry[0].name
        keys: TunnelKeys | None = None
        if old is not None and _same_keys(before, entry):
            keys = old.give_keys()
        self._configs[name] = entry
        self.tunnels[name] = self._build(*entry, keys=keys)
        if old is not None and _is_heir(before, entry):
            self.tunnels[name].inherit(old)

    def _connect(self, config: GatewayConfig) -> None:
        """Give the IKE core the new connections; a mode that policy has set by now stays."""
        connections = build.connections(config.tunnels, lambda name: self.tunnels[name].accepted)
        now = self._clock()
        self._driver.run(lambda: self._driver.endpoint.set_connections(connections, now))

    def _build(self, config: TunnelConfig, kmes: KmeKey, *, keys: TunnelKeys | None) -> Tunnel:
        reqid = reqid_for(config.name)
        keys = keys or self._keys(config, kmes)
        return Tunnel(
            name=config.name,
            local=config.local,
            remote=config.remote,
            reqid=reqid,
            networks=(config.local_subnets, config.remote_subnets),
            limits=build.sa_limits(config),
            idle_timeout=config.idle_timeout,
            childless=config.childless,
            protection=TunnelProtection(build.protection_settings(config), now=self._clock()),
            health=HealthMonitor() if keys is not None else None,
            keys=keys,
            policies=TunnelPolicies(
                self._dataplane,
                tunnel=config.name,
                reqid=reqid,
                local=config.local,
                remote=config.remote,
                local_networks=config.local_subnets,
                remote_networks=config.remote_subnets,
                mode=config.mode,
            ),
            dataplane=self._dataplane,
            driver=self._driver,
            bulletin=self._bulletin,
            trust=self._trust(config),
            kernel=self._enqueue,
            closed=partial(self._closed, config.name),
            clock=self._clock,
        )

    def _trust(self, config: TunnelConfig) -> TunnelTrust:
        def close(reason: str) -> None:
            now = self._clock()
            endpoint = self._driver.endpoint
            name = config.connection
            self._driver.run(lambda: endpoint.close_connection(name, reason=reason, now=now))

        return TunnelTrust(
            tunnel=config.name,
            authorities=build.authorities(config),
            own=config.own_certificate,
            bulletin=self._bulletin,
            close=close,
        )

    def _keys(self, config: TunnelConfig, kmes: KmeKey) -> TunnelKeys | None:
        if config.qkd is QkdPolicy.OFF or not kmes:
            return None
        group = self._groups.get(kmes)
        if group is None:
            group = KmeGroup([self._connect_kme(kme) for kme in kmes], clock=self._clock)
            self._groups[kmes] = group
        return TunnelKeys(
            group=group,
            peer_sae=config.peer_sae,
            settings=build.pool_settings(config, retention=_shortest_retention(kmes)),
            claimed=self._claimed,
            clock=self._clock,
            on_change=self._keys_changed,
            on_refused=lambda: self._drop_keys_for(config.peer_sae),
        )

    def _drop_keys_for(self, peer_sae: str) -> None:
        """The peer did not take a key; which tunnel it looked it up for is its own affair."""
        for tunnel in self.tunnels.values():
            if tunnel.keys is not None and tunnel.keys.peer_sae == peer_sae:
                tunnel.keys.drop()

    async def _close_unused_groups(self) -> None:
        used = {kmes for _, kmes in self._configs.values()}
        for kmes in [kmes for kmes in self._groups if kmes not in used]:
            await self._groups.pop(kmes).close()


def _is_heir(one: Entry | None, other: Entry | None) -> bool:
    """Whether a tunnel goes on with the SAs it had: only its policy changes."""
    return one is not None and other is not None and build.same_peer(one[0], other[0])


def _same_keys(one: Entry | None, other: Entry) -> bool:
    """Whether the same pool serves both: a changed rekey interval costs no QKD keys."""
    return one is not None and _key_source(*one) == _key_source(*other)


def _key_source(config: TunnelConfig, kmes: KmeKey) -> tuple[object, ...]:
    return kmes, config.peer_sae, config.pool_target, config.qkd is QkdPolicy.OFF


def _shortest_retention(kmes: KmeKey) -> float | None:
    known = [seconds for kme in kmes if (seconds := retention(kme)) is not None]
    return min(known, default=None)


def _changed_kmes(before: Iterable[Entry], after: Iterable[Entry]) -> tuple[str, ...]:
    """Names of the KMEs that are configured otherwise than before."""
    known = {kme.name: kme for _, kmes in before for kme in kmes}
    wanted = {kme.name: kme for _, kmes in after for kme in kmes}
    return tuple(name for name, kme in wanted.items() if known.get(name) != kme)
