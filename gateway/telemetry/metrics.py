"""The snapshot as Prometheus metrics, on a small HTTP endpoint.

Names follow prometheus.io/docs/practices/naming: base units, ``_total`` on counters. Labels
are names the operator chose; no SPI, key_ID or address, which would make endless series.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from gateway.errors import QsgwError, StartupError
from gateway.model import (
    Alarm,
    ChildView,
    KmeView,
    Protection,
    Severity,
    Snapshot,
    TunnelView,
)
from gateway.telemetry import metrics_macsec
from gateway.telemetry.families import counter, gauge, seconds
from gateway.telemetry.mqtt import MqttState

log = logging.getLogger("qsgw.metrics")

CACHE_SECONDS = 1.0  # scrapes within this time share one snapshot
SNAPSHOT_TIMEOUT = 5.0  # seconds


def render_metrics(snapshot: Snapshot, mqtt: MqttState | None = None) -> bytes:
    """The metrics in Prometheus' text format 0.0.4."""
    return generate_latest(_Collected(_families(snapshot, mqtt)))


class MetricsServer:
    """Answers GET /metrics."""

    def __init__(
        self,
        *,
        address: str,
        port: int,
        snapshot: Callable[[], Awaitable[Snapshot]],
        mqtt_state: Callable[[], MqttState | None] = lambda: None,
    ) -> None:
        self._address = address
        self._port = port
        self._snapshot = snapshot
        self._mqtt_state = mqtt_state
        self._runner: web.AppRunner | None = None
        self._lock = asyncio.Lock()
        self._cached = b""
        self._cached_at = float("-inf")

    @property
    def port(self) -> int:
        """The port in use; differs from the one asked for when that was 0."""
        addresses = self._runner.addresses if self._runner is not None else []
        return int(addresses[0][1]) if addresses else self._port

    async def start(self) -> None:
        """Listen. Raises StartupError, for one when the port is in use."""
        application = web.Application()
        application.router.add_get("/metrics", self._answer)
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._address, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise StartupError(
                f"[metrics] listen {self._address} port {self._port}: {_why(error)}"
            ) from None
        self._runner = runner

    async def stop(self) -> None:
        """Close the endpoint. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT), self._lock:
                body = await self._current()
        except (QsgwError, TimeoutError) as error:
            log.debug("no metrics: %s", error)
            return web.Response(status=503, text="no snapshot now\n")
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _current(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if now - self._cached_at >= CACHE_SECONDS:
            self._cached = render_metrics(await self._snapshot(), self._mqtt_state())
            self._cached_at = now
        return self._cached


class _Collected(Collector):
    """Families gathered once, in the form ``generate_latest`` takes."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(snapshot: Snapshot, mqtt: MqttState | None) -> Iterator[Metric]:
    yield from _gateway(snapshot)
    yield from _tunnels(snapshot.tunnels, snapshot.time)
    yield from _children(snapshot.tunnels, snapshot.time)
    yield from _keys(snapshot.tunnels)
    yield from metrics_macsec.links(snapshot.macsec, snapshot.time)
    yield from _kmes(snapshot.kmes)
    yield from _alarms(snapshot.alarms)
    if mqtt is not None:
        yield from _mqtt(mqtt)


def _gateway(snapshot: Snapshot) -> Iterator[Metric]:
    build = gauge("build_info", "Version of the daemon.", "version")
    build.add_metric((snapshot.version,), 1)
    start = gauge("start_timestamp_seconds", "When the daemon started.")
    start.add_metric((), seconds(snapshot.started_at))
    drops = counter("ike_dropped", "Datagrams dropped without an answer.", "reason")
    for reason, count in snapshot.drops.items():
        drops.add_metric((reason,), count)
    yield from (build, start, drops)


def _tunnels(tunnels: tuple[TunnelView, ...], now: str) -> Iterator[Metric]:
    protection = gauge(
        "tunnel_protection", "1 for what protects the tunnel now.", "tunnel", "protection"
    )
    since = gauge("tunnel_protection_age_seconds", "How long it has been so.", "tunnel")
    ike = gauge("ike_sas", "Established IKE SAs.", "tunnel")
    rekeys = counter(
        "child_rekeys", "Child SA rekeys by what they brought.", "tunnel", "protection"
    )
    ike_rekeys = counter("ike_rekeys", "IKE SAs that took another one's place.", "tunnel")
    failures = counter("tunnel_failures", "Exchanges that came to nothing.", "tunnel")
    for tunnel in tunnels:
        for state in Protection:
            protection.add_metric((tunnel.name, state.value), int(tunnel.protection is state))
        since.add_metric((tunnel.name,), seconds(now) - seconds(tunnel.since))
        if tunnel.connection == tunnel.name:  # each IKE SA is counted once
            established = tunnel.ike is not None and tunnel.ike.established_at is not None
            ike.add_metric((tunnel.name,), int(established))
            ike_rekeys.add_metric((tunnel.name,), tunnel.ike_rekeys)
        others = tunnel.rekeys - tunnel.rekeys_hybrid - tunnel.rekeys_pqc_only
        for state, count in (
            (Protection.HYBRID, tunnel.rekeys_hybrid),
            (Protection.PQC_ONLY, tunnel.rekeys_pqc_only),
            (Protection.CLASSICAL, others),
        ):
            rekeys.add_metric((tunnel.name, state.value), count)
        failures.add_metric((tunnel.name,), tunnel.failures)
    yield from (protection, since, ike, rekeys, ike_rekeys, failures)


def _children(tunnels: tuple[TunnelView, ...], now: str) -> Iterator[Metric]:
    count = gauge("child_sas", "Child SAs whose ESP SAs are in the kernel.", "tunnel")
    age = gauge("sa_key_age_seconds", "Age of the keys that encrypt now.", "tunnel")
    octets = gauge("sa_bytes", "Octets through the Child SA in use.", "tunnel", "direction")
    packets = gauge("sa_packets", "Packets through the Child SA in use.", "tunnel", "direction")
    for tunnel in tunnels:
        count.add_metric((tunnel.name,), sum(child.in_kernel for child in tunnel.children))
        child = _in_use(tunnel)
        if child is None:
            continue
        age.add_metric((tunnel.name,), seconds(now) - seconds(child.established_at))
        octets.add_metric((tunnel.name, "in"), child.bytes_in)
        octets.add_metric((tunnel.name, "out"), child.bytes_out)
        packets.add_metric((tunnel.name, "in"), child.packets_in)
        packets.add_metric((tunnel.name, "out"), child.packets_out)
    yield from (count, age, octets, packets)


def _in_use(tunnel: TunnelView) -> ChildView | None:
    return next((child for child in tunnel.children if child.carries_outbound), None)


def _keys(tunnels: tuple[TunnelView, ...]) -> Iterator[Metric]:
    ready = gauge("qkd_keys_ready", "QKD keys held here, ready for use.", "tunnel")
    target = gauge("qkd_keys_target", "QKD keys wanted here.", "tunnel")
    stored = gauge("qkd_keys_stored_at_kme", "QKD keys at the KME, as it says.", "tunnel")
    rate = gauge("qkd_keys_per_second", "Measured rate of new QKD keys.", "tunnel")
    used = counter("qkd_keys_used", "QKD keys mixed into an SA.", "tunnel")
    burned = counter("qkd_keys_burned", "QKD keys delivered and not used.", "tunnel")
    reused = counter("qkd_keys_reused", "key_IDs seen twice; must stay 0.", "tunnel")
    for tunnel in tunnels:
        keys = tunnel.keys
        if keys is None:
            continue
        name = (tunnel.name,)
        ready.add_metric(name, keys.pool)
        target.add_metric(name, keys.pool_target)
        if keys.stored_at_kme is not None:
            stored.add_metric(name, keys.stored_at_kme)
        rate.add_metric(name, keys.rate)
        used.add_metric(name, keys.used)
        burned.add_metric(name, keys.burned)
        reused.add_metric(name, keys.reused)
    yield from (ready, target, stored, rate, used, burned, reused)


def _kmes(kmes: tuple[KmeView, ...]) -> Iterator[Metric]:
    healthy = gauge("kme_up", "1 while the KME answers as it should.", "kme")
    active = gauge("kme_active", "1 for a KME that keys come from now.", "kme")
    requests = counter("kme_requests", "Requests to the KME.", "kme")
    failures = counter("kme_failures", "Requests to the KME that failed.", "kme")
    for kme in kmes:
        healthy.add_metric((kme.name,), int(kme.healthy))
        active.add_metric((kme.name,), int(kme.active))
        requests.add_metric((kme.name,), kme.requests)
        failures.add_metric((kme.name,), kme.failures)
    yield from (healthy, active, requests, failures)


def _alarms(alarms: tuple[Alarm, ...]) -> Iterator[Metric]:
    standing = gauge("alarms", "Alarms that hold now.", "severity")
    for severity in Severity:
        count = sum(alarm.severity is severity for alarm in alarms)
        standing.add_metric((severity.value,), count)
    yield standing


def _mqtt(state: MqttState) -> Iterator[Metric]:
    connected = gauge("mqtt_connected", "1 while the MQTT broker is reached.")
    connected.add_metric((), int(state.connected))
    published = counter("mqtt_published", "Messages the MQTT broker acknowledged.")
    published.add_metric((), state.published)
    dropped = counter("mqtt_dropped", "Events lost because the broker was away.")
    dropped.add_metric((), state.dropped)
    yield from (connected, published, dropped)


def _why(error: OSError) -> str:
    # asyncio puts a sentence of its own, with the address, into strerror
    return os.strerror(error.errno) if error.errno else str(error)
