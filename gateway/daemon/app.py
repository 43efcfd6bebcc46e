"""The composition root: builds every part, connects them, starts and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gateway import __version__
from gateway.config.load import load_config
from gateway.config.schema import GatewayConfig, OnStop
from gateway.control.server import ControlServer
from gateway.crypto.rng import SystemRng
from gateway.daemon.bulletin import Bulletin, timestamp
from gateway.daemon.driver import Driver
from gateway.daemon.executor import KernelExecutor, KernelWork
from gateway.daemon.kernel import AUDIT_INTERVAL, KernelKeeper
from gateway.daemon.keylog import KeyLog
from gateway.daemon.macsec.eapol import EapolSocket
from gateway.daemon.macsec.links import WORKER_BEAT, MacsecLinks
from gateway.daemon.notify import Notifier
from gateway.daemon.operator import Operator
from gateway.daemon.outlets import Outlets
from gateway.daemon.roster import Roster
from gateway.daemon.supervise import Supervisor, feed_watchdog
from gateway.daemon.udp import IkeSockets, Peer
from gateway.daemon.views import Viewer
from gateway.dataplane.netlink.macsec import MacsecNetlink
from gateway.dataplane.netlink.xfrm import XfrmDataPlane
from gateway.errors import QsgwError, StartupError
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import Dropped, Event
from gateway.model import SaId, Snapshot, StatusEvent

log = logging.getLogger("qsgw")

OBSERVE_INTERVAL = 1.0  # seconds between looks at key sources and KMEs; changes come at once
CLOSE_TIMEOUT = 3.0  # seconds the peers get to answer our deletes
OBSERVE_PAUSE = 0.05  # seconds at least between two looks: many pools filling are many changes
SNAPSHOT_TRIES = 3  # readings of the kernel until no rekey came between
BEAT_GAP = 15.0  # seconds a supervised loop may be silent


class Gateway:
    """One qsgwd process."""

    def __init__(self, config: GatewayConfig, path: Path, key_log: KeyLog | None) -> None:
        self._config = config
        self._path = path
        self._clock = time.monotonic
        self._started_at = timestamp()
        self._drops: Counter[str] = Counter()
        self._reloading = asyncio.Lock()
        self._services = Notifier()
        self._supervisor = Supervisor(self._clock)
        self._bulletin = Bulletin()
        self._dataplane = XfrmDataPlane(
            ipv6=any(tunnel.local.version == 6 for tunnel in config.tunnels.values())
        )
        self._sockets = IkeSockets(config.gateway.listen, self._receive)
        self._driver = Driver(
            Endpoint(connections=(), rng=SystemRng(), record_keys=key_log is not None),
            send=self._sockets.send,
            on_event=self._on_event,
            clock=self._clock,
        )
        self._keys_changed = asyncio.Event()
        self._roster = Roster(
            dataplane=self._dataplane,
            driver=self._driver,
            bulletin=self._bulletin,
            enqueue=self._enqueue,
            clock=self._clock,
            keys_changed=self._keys_changed.set,
            closed=lambda name, reason: self._links.denied(name, reason),  # noqa: PLW0108  below
        )
        self._links = self._make_links(key_log)
        self._executor = KernelExecutor(
            self._dataplane,
            self._roster.tunnels,
            answer=self._driver.answer,
            inbound_seen=self._inbound_seen,
            key_log=key_log,
            on_refusal=lambda: self._keeper.look_soon(),  # noqa: PLW0108  made below
        )
        self._driver.connect(self._executor)
        self._keeper = KernelKeeper(
            self._dataplane,
            self._roster.tunnels,
            self._driver,
            enqueue=self._enqueue,
            clock=self._clock,
        )
        self._viewer = Viewer(self._clock)
        self._control = ControlServer(
            Operator(self),
            path=config.gateway.control_socket,
            group=config.gateway.control_group,
        )
        self._outlets = Outlets(config, snapshot=self.snapshot, bulletin=self._bulletin)

    def _make_links(self, key_log: KeyLog | None) -> MacsecLinks:
        return MacsecLinks(
            MacsecNetlink(),
            open_socket=EapolSocket,
            endpoint=self._driver.endpoint,
            tunnels=self._roster.tunnels,
            rng=SystemRng(),
            bulletin=self._bulletin,
            key_log=key_log,
            changed=lambda: self._outlets.changed(),  # noqa: PLW0108  made later
            clock=self._clock,
        )

    # --- life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises StartupError where a part cannot start or fails."""
        try:
            await self._start()
            reason = await self._until_told_to_stop()
        finally:
            await self._stop()
        if reason is not None:
            raise StartupError(reason)

    async def _start(self) -> None:
        await self._dataplane.open()
        self._control.claim()  # first what only one daemon can have: then the kernel is ours
        self._sockets.bind()
        await self._links.open(self._config)
        beat = self._supervisor.expect_beats
        working = beat("macsec-worker", WORKER_BEAT + BEAT_GAP)
        self._supervisor.start("macsec-worker", self._links.work(working))
        changes = await self._roster.apply(self._config)
        await self._keeper.take_over()
        await self._links.apply(self._config)
        await self._sockets.open()
        await self._control.start()
        self._supervisor.start("kernel-worker", self._executor.work())
        self._supervisor.start("kernel-events", self._keeper.follow_events())
        audited = beat("kernel-audit", AUDIT_INTERVAL + BEAT_GAP)  # the kernel worker's beat, too
        self._supervisor.start("kernel-audit", self._keeper.audit_for_ever(audited))
        self._supervisor.start("macsec-events", self._links.follow_events())
        self._supervisor.start("observer", self._observe_for_ever())
        await self._outlets.start(self._supervisor)
        interval = self._services.watchdog_interval
        if interval is not None:
            watchdog = feed_watchdog(self._supervisor, self._services.watchdog, interval)
            self._supervisor.start("watchdog", watchdog)
        self._roster.start(changes)
        self._links.take_over()
        self._services.ready(self._status_line())
        self._bulletin.publish("started", f"qsgwd {__version__} is ready")

    async def _until_told_to_stop(self) -> str | None:
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)
        stopping = loop.create_task(told.wait())
        failing = loop.create_task(self._supervisor.wait_failure())
        try:
            await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
            return failing.result() if failing.done() else None
        finally:
            stopping.cancel()
            failing.cancel()

    async def _stop(self) -> None:
        self._services.stopping()
        await self._control.stop()
        if self._config.gateway.on_stop is OnStop.CLOSE:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._links.close()
            await self._close_tunnels()
        self._links.stop()
        await self._roster.stop()
        await self._outlets.stop()
        await self._supervisor.stop()
        self._sockets.close()
        self._driver.close()
        await self._executor.close()
        await self._dataplane.close()
        await self._links.close_plane()

    async def _close_tunnels(self) -> None:
        """Delete every SA, telling the peers; block policies stay."""
        endpoint = self._driver.endpoint
        now = self._clock()

        def close_all() -> None:
            for name in self._roster.tunnels:
                endpoint.close(name, reason="the daemon is stopping", now=now)

        for tunnel in self._roster.tunnels.values():
            tunnel.retire()  # else it would set up again at once
        self._driver.run(close_all)
        for tunnel in self._roster.tunnels.values():
            self._enqueue(tunnel.abandon)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._executor.settle()
                while any(facts.ike for facts in endpoint.views()):
                    await asyncio.sleep(0.05)

    # --- reload ---------------------------------------------------------------------------

    async def reload(self) -> str:
        """Read the configuration again.

        A wrong one, or one this kernel cannot carry out, changes nothing: QsgwError.
        """
        try:
            loaded = load_config(self._path)
        except QsgwError as error:
            self._not_reloaded(error)
            raise
        for warning in loaded.warnings:
            log.warning("%s: %s", self._path, warning)
        config = loaded.config
        fixed = ("gateway", "mqtt", "metrics")
        needs_restart = [
            name for name in fixed if getattr(config, name) != getattr(self._config, name)
        ]
        async with self._reloading:
            try:
                await self._links.open(config)  # the last that may refuse: nothing has changed yet
            except QsgwError as error:
                self._not_reloaded(error)
                raise
            self._config = replace(config, **{name: getattr(self._config, name) for name in fixed})
            changes = await self._roster.apply(config)
            links = await self._links.apply(config)
            self._roster.start(changes)
            self._enqueue(self._keeper.realign)
        parts = [f"{len(changes.fresh)} tunnels new or changed, {len(changes.removed)} removed"]
        if links.fresh or links.removed:
            count, gone = len(links.fresh), len(links.removed)
            parts.append(f"{count} MACsec links new or changed, {gone} removed")
        if needs_restart:
            tables = ", ".join(f"[{name}]" for name in needs_restart)
            parts.append(f"{tables} changed: takes effect after a restart")
        text = "; ".join(parts)
        self._bulletin.publish("reloaded", text)
        return "\n".join([text, *(f"warning: {warning}" for warning in loaded.warnings)])

    def _not_reloaded(self, error: QsgwError) -> None:
        wrong = "; ".join(str(error).splitlines())
        self._bulletin.publish("reload-failed", f"not reloaded: {wrong}", level=logging.ERROR)

    def _reload_on_signal(self) -> None:
        async def reload() -> None:
            self._services.reloading()
            try:
                status = (await self.reload()).partition("\n")[0]
            except QsgwError:
                status = "configuration NOT reloaded"
            self._services.ready(status)

        self._reload_task = asyncio.get_running_loop().create_task(reload())

    # --- between the parts ----------------------------------------------------------------

    # The parts refer to each other in circles; these three close them.

    def _receive(self, data: bytes, local: Peer, remote: Peer) -> None:
        self._driver.receive(data, local, remote)

    def _enqueue(self, work: KernelWork) -> None:
        self._executor.enqueue(work)

    def _inbound_seen(self, sa_id: SaId) -> None:
        now = self._clock()
        self._driver.run(lambda: self._driver.endpoint.inbound_seen(sa_id, now))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Dropped):
            self._drops[event.reason.value] += 1
            log.debug("dropped (%s) from %s: %s", event.reason, event.remote[0], event.detail)
            return
        self._roster.on_event(event)
        self._links.on_event(event)
        self._outlets.changed()

    async def _observe_for_ever(self) -> None:
        beat = self._supervisor.expect_beats("observer", BEAT_GAP)
        while True:
            beat()
            self._keys_changed.clear()
            self._roster.observe()
            self._services.status(self._status_line())
            await asyncio.sleep(OBSERVE_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(OBSERVE_INTERVAL):
                    await self._keys_changed.wait()

    def _carrying(self) -> tuple[tuple[str, int, int], ...]:
        """Which SAs carry traffic, and which one the kernel policies lead into."""
        return tuple(
            (facts.name, child.spi_out, self._roster.tunnels[facts.name].policies.outbound_spi)
            for facts in self._driver.endpoint.views()
            if facts.name in self._roster.tunnels
            for child in facts.children
            if child.carries_outbound
        )

    def _status_line(self) -> str:
        counts = Counter(
            str(tunnel.protection.protection) for tunnel in self._roster.tunnels.values()
        )
        counts.update(str(link.protection) for link in self._links.links.values())
        return (
            ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no tunnels"
        )

    # --- for the operator (daemon/operator.py) --------------------------------------------

    @property
    def roster(self) -> Roster:
        return self._roster

    @property
    def links(self) -> MacsecLinks:
        return self._links

    def subscribe(self) -> AsyncIterator[StatusEvent]:
        return self._bulletin.subscribe()

    async def snapshot(self) -> Snapshot:
        """Everything a user may see, the kernel's part read back now."""
        for _ in range(SNAPSHOT_TRIES):
            before = self._carrying()
            kernel = await self._dataplane.snapshot()
            if self._carrying() == before:  # else a rekey came between: it would look like a loss
                break
        tunnels = tuple(
            self._viewer.tunnel(
                self._roster.config_of(facts.name), self._roster.tunnels[facts.name], facts, kernel
            )
            for facts in self._driver.endpoint.views()
            if facts.name in self._roster.tunnels
        )
        return Snapshot(
            schema=1,
            gateway=self._config.gateway.name,
            version=__version__,
            time=timestamp(),
            started_at=self._started_at,
            tunnels=tunnels,
            kmes=self._roster.kmes(),
            alarms=self._bulletin.alarms,
            drops=dict(self._drops),
            macsec=await self._links.views(self._viewer.wall),
        )
