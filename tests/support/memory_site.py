"""Two whole gateways but for sockets, TLS and kernel: daemon parts on memory data planes.

A wire with delay joins their IKE sockets, two fake KMEs share keys as a quantum link would,
and packets are sent through both data planes, so a test can say that none was lost.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Self

from gateway.config.schema import GatewayConfig
from gateway.daemon.bulletin import Bulletin
from gateway.daemon.driver import Driver
from gateway.daemon.executor import KernelExecutor
from gateway.daemon.kernel import KernelKeeper
from gateway.daemon.macsec.links import MacsecLinks
from gateway.daemon.roster import Roster
from gateway.daemon.tunnel import Tunnel
from gateway.dataplane.macsec_memory import MemoryMacsec
from gateway.dataplane.memory import Fate, MemoryDataPlane, carry
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import Dropped, Event
from gateway.model import Protection, StatusEvent
from kms_client.failover import Kme
from tests.support.memory_lan import MemoryLan
from tests.support.quantum_pair import QuantumPair
from tests.support.site_config import MOON, SUN, site_config

ALICE, BOB = ip_address("10.1.0.10"), ip_address("10.2.0.10")
WIRE_DELAY = 0.005  # seconds one way


class SeededRng:
    """Reproducible bytes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class MemoryGateway:
    """The daemon's parts as ``daemon.app`` connects them, without sockets."""

    def __init__(
        self,
        config: GatewayConfig,
        kmes: Mapping[str, Kme],
        *,
        seed: int,
        dataplane: MemoryDataPlane,
        macsec: MemoryMacsec,
        lan: MemoryLan,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.config = config
        self.seed = seed
        self.clock = loop.time
        self.dataplane = dataplane
        self.bulletin = Bulletin()
        self.seen: list[StatusEvent] = []
        self.bulletin.listen(self.seen.append)
        self.drops: Counter[str] = Counter()
        self.wire: Wire | None = None
        self.driver = Driver(
            Endpoint(connections=(), rng=SeededRng(seed)),
            send=self._send,
            on_event=self._on_event,
            clock=loop.time,
        )
        self.roster = Roster(
            dataplane=self.dataplane,
            driver=self.driver,
            bulletin=self.bulletin,
            enqueue=lambda work: self.executor.enqueue(work),  # noqa: PLW0108  made below
            clock=loop.time,
            keys_changed=lambda: loop.call_soon(self.roster.observe),
            closed=lambda name, reason: self.links.denied(name, reason),  # noqa: PLW0108
            connect_kme=lambda entry: kmes[entry.name],
        )
        self.executor = KernelExecutor(
            self.dataplane,
            self.roster.tunnels,
            answer=self.driver.answer,
            inbound_seen=lambda sa_id: self.driver.run(
                lambda: self.driver.endpoint.inbound_seen(sa_id, loop.time())
            ),
            key_log=None,
            on_refusal=lambda: self.keeper.look_soon(),  # noqa: PLW0108  made below
        )
        self.driver.connect(self.executor)
        self.keeper = KernelKeeper(
            self.dataplane,
            self.roster.tunnels,
            self.driver,
            enqueue=self.executor.enqueue,
            clock=loop.time,
        )
        self.macsec = macsec
        self.changes: list[float] = []  # when something of a link was to be shown anew
        self.links = MacsecLinks(
            macsec,
            open_socket=lan.opener(config.gateway.name),
            endpoint=self.driver.endpoint,
            tunnels=self.roster.tunnels,
            rng=SeededRng(seed + 100),
            bulletin=self.bulletin,
            key_log=None,
            changed=lambda: self.changes.append(loop.time()),
            clock=loop.time,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def tunnel(self) -> Tunnel:
        """The first one: the one that shares nobody's IKE SA."""
        return next(iter(self.roster.tunnels.values()))

    def protection_of(self, tunnel: str) -> Protection:
        return self.roster.tunnels[tunnel].protection.protection

    @property
    def protection(self) -> Protection:
        return self.tunnel.protection.protection

    def protections(self) -> list[str]:
        """The sequence of protections shown of the tunnels, from the first SA on."""
        return [
            str(event.fields["new"])
            for event in self.seen
            if event.type == "protection" and event.tunnel in self.roster.tunnels
        ]

    def happened(self, event_type: str) -> list[StatusEvent]:
        return [event for event in self.seen if event.type == event_type]

    async def start(self) -> None:
        await self.dataplane.open()
        changes = await self.roster.apply(self.config)
        await self.keeper.take_over()
        create = asyncio.get_running_loop().create_task
        await self.links.open(self.config)
        self._tasks = [
            create(self.executor.work()),
            create(self.keeper.follow_events()),
            create(self.keeper.audit_for_ever(lambda: None)),
            create(self._observe()),
            create(self.links.work(lambda: None)),
            create(self.links.follow_events()),
        ]
        await self.links.apply(self.config)
        self.roster.start(changes)
        self.links.take_over()

    async def reload(self, config: GatewayConfig) -> None:
        """As ``Gateway.reload``."""
        self.config = config
        await self.links.open(config)
        changes = await self.roster.apply(config)
        await self.links.apply(config)
        self.roster.start(changes)
        self.executor.enqueue(self.keeper.realign)

    async def stop(self) -> None:
        """As SIGTERM with on_stop = "keep": the kernel stays as it is."""
        self.links.stop()
        await self.roster.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.driver.close()
        await self.executor.close()
        await self.links.close_plane()

    async def crash(self) -> None:
        """As SIGKILL: what was queued or under way is never done, nobody is told."""
        self.wire = None
        self.driver.close()
        for tunnel in self.roster.tunnels.values():
            tunnel.retire()
        for link in self.links.links.values():
            link._drop_station()  # without a last word
            link.stop()
        for task in self._tasks:
            task.cancel()
        await self.stop()  # for the tasks of the process that is no more

    def check_tasks(self) -> None:
        """Raise what a task of the daemon died of."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _observe(self) -> None:
        while True:
            self.roster.observe()
            await asyncio.sleep(1.0)

    def _send(self, data: bytes, local: object, remote: object) -> None:
        if self.wire is not None:
            self.wire.send(data, local, remote)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Dropped):
            self.drops[event.reason] += 1
        else:
            self.roster.on_event(event)
            self.links.on_event(event)


class Wire:
    """Delivers datagrams by destination address; ``loses`` says which get lost."""

    def __init__(self) -> None:
        self.gateways: dict[object, MemoryGateway] = {}
        self.loses = lambda _data: False
        self.sent = 0

    def send(self, data: bytes, local, remote) -> None:
        self.sent += 1
        if not self.loses(data):
            asyncio.get_running_loop().call_later(WIRE_DELAY, self._deliver, data, local, remote)

    def _deliver(self, data: bytes, local, remote) -> None:
        gateway = self.gateways.get(remote[0])
        if gateway is not None and gateway.wire is self:
            gateway.driver.receive(data, remote, local)


class MemorySite:
    """moon and sun, one tunnel between them. Settings for one side go into ``moon``, ``sun``.

    ``link`` joins the KMEs named primary, ``second`` those named secondary: twins with the same
    keys, or with ``twins=False`` a pair of their own.
    """

    def __init__(
        self,
        *,
        moon: Mapping[str, object] | None = None,
        sun: Mapping[str, object] | None = None,
        kernel: Callable[[], MemoryDataPlane] | None = None,
        twins: bool = True,
        **tunnel: object,
    ) -> None:
        self.link = QuantumPair()
        self.second = QuantumPair("second", twin=self.link if twins else None)
        self.wire = Wire()
        self.settings = {"moon": {**tunnel, **(moon or {})}, "sun": {**tunnel, **(sun or {})}}
        self._kernel = kernel or (lambda: MemoryDataPlane(now=asyncio.get_running_loop().time))
        self.lan = MemoryLan()
        self.moon = self._gateway("moon", seed=1)
        self.sun = self._gateway("sun", seed=2)
        self.fates: Counter[str] = Counter()
        self.losses: list[tuple[float, str, str]] = []  # when, sent by whom, why
        self._traffic: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.sun.start()
        await self.moon.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._traffic is not None:
            self._traffic.cancel()
        await self.moon.stop()
        await self.sun.stop()

    async def until(self, holds, limit: float = 600.0) -> float:
        """Wait until something holds; returns the (virtual) seconds it took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not holds():
            for gateway in (self.moon, self.sun):
                gateway.check_tasks()
            if loop.time() - start > limit:
                raise AssertionError(
                    f"not within {limit:g} s; moon: {self.moon.tunnel.protection.reason}, "
                    f"sun: {self.sun.tunnel.protection.reason}"
                )
            await asyncio.sleep(0.1)
        return loop.time() - start

    async def until_both(self, protection: Protection, limit: float = 600.0) -> float:
        return await self.until(
            lambda: self.moon.protection is protection and self.sun.protection is protection, limit
        )

    def start_traffic(self, every: float = 0.01) -> None:
        """A packet each way every ``every`` seconds, its fate counted."""

        async def send_for_ever() -> None:
            while True:
                self.send_both_ways()
                await asyncio.sleep(every)

        self._traffic = asyncio.get_running_loop().create_task(send_for_ever())

    def send_both_ways(self) -> None:
        for sender, receiver, source, destination in (
            (self.moon, self.sun, ALICE, BOB),
            (self.sun, self.moon, BOB, ALICE),
        ):
            outcome = carry(sender.dataplane, receiver.dataplane, source, destination)
            self.fates[outcome.fate] += 1
            if outcome.fate is Fate.DROPPED:
                now = asyncio.get_running_loop().time()
                self.losses.append((round(now, 3), sender.config.gateway.name, outcome.reason))

    @property
    def lost(self) -> int:
        return self.fates[Fate.DROPPED]

    @property
    def leaked(self) -> int:
        return self.fates[Fate.CLEAR]

    async def restart(self, name: str) -> None:
        """Kill a gateway and start it again on the same kernel."""
        await self.kill(name)
        await self.bring_back(name)

    async def kill(self, name: str) -> None:
        await getattr(self, name).crash()

    async def bring_back(self, name: str) -> None:
        old: MemoryGateway = getattr(self, name)
        fresh = self._gateway(name, seed=old.seed + 10, dataplane=old.dataplane, macsec=old.macsec)
        setattr(self, name, fresh)
        await fresh.start()

    async def reload(self, name: str, **changes: object) -> None:
        """Change settings of one side's tunnel while it runs."""
        self.settings[name] |= changes
        await getattr(self, name).reload(site_config(name, **self.settings[name]))

    def kmes_of(self, name: str) -> Mapping[str, Kme]:
        """The KMEs of one side, by the name they have in its configuration."""
        return {"primary": self.link.kmes[name], "secondary": self.second.kmes[name]}

    def _gateway(
        self,
        name: str,
        *,
        seed: int,
        dataplane: MemoryDataPlane | None = None,
        macsec: MemoryMacsec | None = None,
    ) -> MemoryGateway:
        config = site_config(name, **self.settings[name])
        gateway = MemoryGateway(
            config,
            self.kmes_of(name),
            seed=seed,
            dataplane=dataplane or self._kernel(),
            macsec=macsec or self.lan.plane(name),
            lan=self.lan,
        )
        gateway.wire = self.wire
        self.wire.gateways[MOON if name == "moon" else SUN] = gateway
        return gateway
