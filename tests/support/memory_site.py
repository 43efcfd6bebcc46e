"""Two whole gateways but for sockets, TLS and kernel: daemon parts on memory data planes.

A wire with delay joins their IKE sockets, two fake KMEs share keys as a quantum link would,
and packets are sent through both data planes, so a test can say that none was lost.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

from gateway.config.schema import (
    GatewayConfig,
    GatewaySettings,
    KmeConfig,
    OnStop,
    Start,
    TunnelConfig,
)
from gateway.crypto.secret import Secret
from gateway.daemon import build
from gateway.daemon.bulletin import Bulletin
from gateway.daemon.driver import Driver
from gateway.daemon.executor import KernelExecutor
from gateway.daemon.kernel import KernelKeeper
from gateway.daemon.roster import Roster
from gateway.dataplane.memory import Fate, MemoryDataPlane, carry
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import Dropped, Event
from gateway.model import Protection, QkdPolicy, StatusEvent
from kms_client.models import QkdKey
from tests.support.fake_kme import FakeKme

MOON, SUN = ip_address("10.0.12.1"), ip_address("10.0.23.3")
ALICE, BOB = ip_address("10.1.0.10"), ip_address("10.2.0.10")
WIRE_DELAY = 0.005  # seconds one way


class SeededRng:
    """Reproducible bytes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class QuantumPair:
    """Two KMEs that hold the same keys: what one hands out as master, the other has for its SAE."""

    def __init__(self) -> None:
        self.kmes = {"moon": _PairedKme("kme-moon"), "sun": _PairedKme("kme-sun")}
        self.kmes["moon"].twin = self.kmes["sun"]
        self.kmes["sun"].twin = self.kmes["moon"]

    def cut(self) -> None:
        for kme in self.kmes.values():
            kme.stored = 0

    def heal(self, keys: int = 1000) -> None:
        for kme in self.kmes.values():
            kme.stored = keys


class _PairedKme(FakeKme):
    twin: _PairedKme | None = None

    def _make(self, size: int) -> QkdKey:
        key = super()._make(size)
        assert self.twin is not None
        self.twin.for_us[key.key_id] = key.key.expose()
        return key


class MemoryGateway:
    """The daemon's parts as ``daemon.app`` connects them, without sockets."""

    def __init__(
        self,
        config: GatewayConfig,
        kme: FakeKme,
        *,
        seed: int,
        dataplane: MemoryDataPlane | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.config = config
        self.seed = seed
        self.clock = loop.time
        self.dataplane = dataplane or MemoryDataPlane(now=loop.time)
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
            connect_kme=lambda _: kme,
        )
        self.executor = KernelExecutor(
            self.dataplane,
            self.roster.tunnels,
            answer=self.driver.answer,
            inbound_seen=lambda sa_id: self.driver.run(
                lambda: self.driver.endpoint.inbound_seen(sa_id, loop.time())
            ),
            key_log=None,
        )
        self.driver.connect(self.executor)
        self.keeper = KernelKeeper(
            self.dataplane,
            self.roster.tunnels,
            self.driver,
            enqueue=self.executor.enqueue,
            clock=loop.time,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def tunnel(self):
        (tunnel,) = self.roster.tunnels.values()
        return tunnel

    @property
    def protection(self) -> Protection:
        return self.tunnel.protection.protection

    def protections(self) -> list[str]:
        """The sequence of protections shown, from the first SA on."""
        return [str(event.fields["new"]) for event in self.seen if event.type == "protection"]

    def happened(self, event_type: str) -> list[StatusEvent]:
        return [event for event in self.seen if event.type == event_type]

    async def start(self) -> None:
        await self.dataplane.open()
        changes = await self.roster.apply(self.config)
        connections = [build.connection(tunnel) for tunnel in self.config.tunnels.values()]
        self.driver.run(lambda: self.driver.endpoint.set_connections(connections, self.clock()))
        await self.keeper.take_over()
        create = asyncio.get_running_loop().create_task
        self._tasks = [
            create(self.executor.work()),
            create(self.keeper.follow_events()),
            create(self.keeper.audit_for_ever(lambda: None)),
            create(self._observe()),
        ]
        self.roster.start(changes)

    async def reload(self, config: GatewayConfig) -> None:
        """As ``Gateway.reload``."""
        self.config = config
        changes = await self.roster.apply(config)
        connections = [build.connection(tunnel) for tunnel in config.tunnels.values()]
        self.driver.run(lambda: self.driver.endpoint.set_connections(connections, self.clock()))
        self.roster.start(changes)
        self.executor.enqueue(self.keeper.realign)

    async def stop(self) -> None:
        """As SIGTERM with on_stop = "keep", or a crash: the kernel stays as it is."""
        await self.roster.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.executor.close()
        self.driver.close()

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
        assert self.wire is not None
        self.wire.send(data, local, remote)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Dropped):
            self.drops[event.reason] += 1
        else:
            self.roster.tunnels[event.tunnel].on_event(event)


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
        if gateway is not None:
            gateway.driver.receive(data, remote, local)


class MemorySite:
    """moon and sun, one tunnel between them."""

    def __init__(self, **tunnel: object) -> None:
        self.link = QuantumPair()
        self.wire = Wire()
        self._settings = tunnel
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

    def start_traffic(self) -> None:
        """A packet each way every 10 ms, its fate counted."""

        async def send_for_ever() -> None:
            while True:
                self.send_both_ways()
                await asyncio.sleep(0.01)

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
        """Stop a gateway as a crash would, and start it again on the same kernel."""
        old: MemoryGateway = getattr(self, name)
        await old.stop()
        fresh = self._gateway(name, seed=old.seed + 10, dataplane=old.dataplane)
        setattr(self, name, fresh)
        await fresh.start()

    def _gateway(
        self, name: str, *, seed: int, dataplane: MemoryDataPlane | None = None
    ) -> MemoryGateway:
        config = site_config(name, **self._settings)
        gateway = MemoryGateway(config, self.link.kmes[name], seed=seed, dataplane=dataplane)
        gateway.wire = self.wire
        self.wire.gateways[MOON if name == "moon" else SUN] = gateway
        return gateway


def site_config(name: str, **changes: object) -> GatewayConfig:
    """The configuration of one side; ``changes`` go into its tunnel."""
    moon = name == "moon"
    peer = "sun" if moon else "moon"
    networks = (ip_network("10.1.0.0/24"),), (ip_network("10.2.0.0/24"),)
    settings: dict[str, object] = {
        "name": peer,
        "local": MOON if moon else SUN,
        "remote": SUN if moon else MOON,
        "local_id": f"{name}.example",
        "remote_id": f"{peer}.example",
        "psk": Secret(b"a pre-shared key of good length"),
        "local_subnets": networks[0 if moon else 1],
        "remote_subnets": networks[1 if moon else 0],
        "start": Start.INITIATE if moon else Start.RESPOND,
        "qkd": QkdPolicy.PREFER,
        "kmes": ("primary",),
        "peer_sae": peer,
        "pool_target": 4,
        "restore_dwell": 20.0,
        "degraded_max": None,
        "rekey_min": 30.0,
        "rekey_max": 60.0,
        "key_reserve": 1,
        "ike": ("aes256gcm16-prfsha512-x25519-ke1_mlkem768",),
        "esp": ("aes256gcm16-x25519-ke1_mlkem768-esn",),
        "allow_classical": False,
        "liveness": 30.0,
        "retransmit_base": None,
    }
    kme = KmeConfig(
        name="primary",
        url="https://kme.test",
        ca=Path("/nonexistent/ca.pem"),
        certificate=Path("/nonexistent/cert.pem"),
        key=Path("/nonexistent/key.pem"),
        timeout=3.0,
    )
    return GatewayConfig(
        file=Path("/nonexistent/qsgw.toml"),
        gateway=GatewaySettings(
            name=name,
            listen=(MOON if moon else SUN,),
            sae_id=name,
            control_socket=Path("/nonexistent/control.sock"),
            control_group=None,
            on_stop=OnStop.KEEP,
        ),
        mqtt=None,
        metrics=None,
        kmes={"primary": kme},
        tunnels={peer: TunnelConfig(**{**settings, **changes})},  # type: ignore[arg-type]
    )
