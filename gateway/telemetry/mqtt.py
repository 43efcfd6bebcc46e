"""Publishes the gateway's state to an MQTT broker. Publish only: no commands come in this way.

    <prefix>/<gateway>/availability    "online" | "offline", retained; the last will too
    <prefix>/<gateway>/status          the whole snapshot, retained
    <prefix>/<gateway>/tunnel/<name>   one tunnel, retained; emptied when the tunnel is removed
    <prefix>/<gateway>/macsec/<name>   one MACsec link, likewise
    <prefix>/<gateway>/event/<type>    what happened, not retained

All with QoS 1. Everything retained is published again after every reconnect. The broker can
be away, slow or hostile: this module has a task of its own, time-outs and bounded memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import aiomqtt

from gateway.config import units
from gateway.config.schema import MqttConfig
from gateway.errors import CredentialError, QsgwError
from gateway.model import Snapshot, StatusEvent
from gateway.telemetry.payloads import PARTS, event_payload, snapshot_payloads

log = logging.getLogger("qsgw.mqtt")
client_log = logging.getLogger("qsgw.mqtt.client")
client_log.setLevel(logging.CRITICAL)  # it logs every retry; we log every change

QOS = 1
EVENTS_MAX = 256  # events waiting for the broker; then the oldest are dropped
LEFTOVERS_MAX = 1024  # tunnels and links, past ones included, whose topics we keep in mind
CALL_TIMEOUT = 5.0  # seconds for the broker to acknowledge
STOP_TIMEOUT = 2.0  # seconds for the farewell
KEEPALIVE = 30  # seconds; the broker publishes our will after one and a half of them
SNAPSHOT_GAP = 1.0  # seconds between snapshots at least
SNAPSHOT_INTERVAL = 30.0  # seconds between snapshots at most: counters, and a dead link noticed
BACKOFF_MIN, BACKOFF_MAX = 1.0, 60.0  # seconds between attempts to connect

_CODE = re.compile(r"^\[(Errno |code:)-?\d+\] ")  # in the text of an OSError or MqttError


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttState:
    """How the publisher is doing."""

    connected: bool = False
    last_error: str | None = None
    published: int = 0  # messages the broker acknowledged
    dropped: int = 0  # events lost because the broker was away for too long


class MqttPublisher:
    """One gateway's publisher. Give ``run`` a task; the other methods never block.

    ``on_state`` is called when the connection comes or goes, and must return at once; without
    it these two are logged.
    """

    def __init__(
        self,
        settings: MqttConfig,
        gateway_name: str,
        snapshot: Callable[[], Awaitable[Snapshot]],
        *,
        on_state: Callable[[MqttState], None] | None = None,
        backoff: tuple[float, float] = (BACKOFF_MIN, BACKOFF_MAX),
    ) -> None:
        self._settings = settings
        self._gateway = gateway_name
        self._base = f"{settings.prefix}/{gateway_name}"
        self._snapshot = snapshot
        self._on_state = on_state
        self._backoff_min, self._backoff_max = backoff
        self._events: deque[StatusEvent] = deque()
        self._wake = asyncio.Event()
        self._stale = True  # the broker does not have the newest snapshot
        self._known: set[str] = set()  # topics of tunnels and links with something retained
        self._state = MqttState()
        self._announced: bool | None = None  # the connection state last logged
        self._abandoned: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> MqttState:
        return self._state

    def publish_event(self, event: StatusEvent) -> None:
        """Queue an event; when the queue is full the oldest one is lost and counted."""
        if len(self._events) >= EVENTS_MAX:
            self._events.popleft()
            self._count(dropped=1)
        self._events.append(event)
        self._wake.set()

    def changed(self) -> None:
        """Something in the snapshot changed: publish it soon."""
        self._stale = True
        self._wake.set()

    async def run(self) -> None:
        """Connect, publish, reconnect, for ever. Cancel it to say goodbye and stop."""
        loop = asyncio.get_running_loop()
        backoff = self._backoff_min
        while True:
            started = loop.time()
            try:
                await self._session()
            except (aiomqtt.MqttError, OSError, QsgwError) as error:
                self._lost(_reason(error, tls=self._settings.ca is not None))
            except Exception:  # whatever goes wrong here, the tunnels go on
                log.exception("MQTT publisher failed")
                self._lost("internal error")
            if loop.time() - started > self._backoff_max:
                backoff = self._backoff_min
            # Jitter, so that gateways do not come back to a restarted broker all at once.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, self._backoff_max)

    # --- one connection ----------------------------------------------------------------------

    async def _session(self) -> None:
        client = self._client()
        await self._connect(client)
        try:
            await self._publish(client, "availability", b"online", retain=True)
            self._up()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._collect_leftovers(client))
                tasks.create_task(self._send(client))
        except* (aiomqtt.MqttError, OSError) as group:
            raise _first(group) from None
        finally:
            await self._disconnect(client)

    async def _connect(self, client: aiomqtt.Client) -> None:
        """Connect. When cancelled meanwhile, the connection is closed once it is there."""
        task = asyncio.ensure_future(client.__aenter__())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            leaving = asyncio.create_task(_leave_when_connected(task, client))
            self._abandoned.add(leaving)
            leaving.add_done_callback(self._abandoned.discard)
            raise

    async def _disconnect(self, client: aiomqtt.Client) -> None:
        """Say "offline" ourselves: after a clean disconnect the broker does not (MQTT 3.1.2.5)."""
        with suppress(aiomqtt.MqttError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._publish(client, "availability", b"offline", retain=True)
        with suppress(aiomqtt.MqttError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await _cancellable(client.__aexit__(None, None, None))

    async def _send(self, client: aiomqtt.Client) -> None:
        loop = asyncio.get_running_loop()
        self._stale = True  # a broker without persistence has forgotten everything
        next_snapshot = 0.0
        while True:
            self._wake.clear()
            while self._events:
                await self._send_event(client)
            if self._stale and loop.time() >= next_snapshot:
                await self._send_snapshot(client)
                next_snapshot = loop.time() + SNAPSHOT_GAP
                continue
            pause = next_snapshot - loop.time() if self._stale else SNAPSHOT_INTERVAL
            try:
                async with asyncio.timeout(max(pause, 0)):
                    await self._wake.wait()
            except TimeoutError:
                self._stale = True

    async def _send_event(self, client: aiomqtt.Client) -> None:
        event = self._events.popleft()
        payload = event_payload(event, key_ids=self._settings.key_ids)
        try:
            await self._publish(client, f"event/{event.type}", payload)
        except BaseException:
            if len(self._events) < EVENTS_MAX:
                self._events.appendleft(event)  # for the next connection
            raise

    async def _send_snapshot(self, client: aiomqtt.Client) -> None:
        try:
            snapshot = await self._snapshot()
        except QsgwError as error:  # the kernel's trouble, not the broker's: again in a moment
            log.debug("no snapshot to publish: %s", error)
            return
        self._stale = False
        whole, parts = snapshot_payloads(snapshot, key_ids=self._settings.key_ids)
        await self._publish(client, "status", whole, retain=True)
        for topic, payload in parts.items():
            self._known.add(topic)
            await self._publish(client, topic, payload, retain=True)
        for topic in self._known - parts.keys():
            await self._publish(client, topic, b"", retain=True)
            self._known.discard(topic)

    async def _collect_leftovers(self, client: aiomqtt.Client) -> None:
        """Learn what the broker still has from an earlier run, to empty topics of what is gone.

        Also the place where a lost connection shows: iteration raises then. A broker that does
        not let us subscribe only keeps its leftovers.
        """
        for kind in PARTS:
            wanted = f"{self._base}/{kind}/+"
            await _cancellable(client.subscribe(wanted, qos=0, timeout=CALL_TIMEOUT))
        async for message in client.messages:
            topic = message.topic.value.removeprefix(f"{self._base}/")
            if message.retain and message.payload and self._may_be_ours(topic):
                self._known.add(topic)
                self.changed()

    def _may_be_ours(self, topic: str) -> bool:
        """Whether an unknown topic is worth emptying: a broker may send us anything."""
        kind, _, name = topic.partition("/")
        new = topic not in self._known and len(self._known) < LEFTOVERS_MAX
        return new and kind in PARTS and units.is_name(name)

    async def _publish(
        self, client: aiomqtt.Client, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        await _cancellable(
            client.publish(
                f"{self._base}/{topic}", payload, qos=QOS, retain=retain, timeout=CALL_TIMEOUT
            )
        )
        self._count(published=1)

    def _client(self) -> aiomqtt.Client:
        settings = self._settings
        password = settings.password.expose().decode() if settings.password else None
        return aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=password,
            identifier=f"{settings.prefix}-{self._gateway}",
            will=aiomqtt.Will(f"{self._base}/availability", b"offline", QOS, retain=True),
            tls_context=_tls_context(settings),
            timeout=CALL_TIMEOUT,
            keepalive=KEEPALIVE,
            max_queued_incoming_messages=EVENTS_MAX,
            logger=client_log,
        )

    # --- state -------------------------------------------------------------------------------

    def _up(self) -> None:
        self._state = replace(self._state, connected=True, last_error=None)
        self._announce()

    def _lost(self, reason: str) -> None:
        self._state = replace(self._state, connected=False, last_error=reason)
        self._announce()

    def _announce(self) -> None:
        """Tell when the connection comes or goes, and nothing of the tries in between."""
        connected = self._state.connected
        if connected == self._announced:
            return
        self._announced = connected
        if self._on_state is not None:
            self._on_state(self._state)
            return
        broker = f"MQTT broker {self._settings.host}:{self._settings.port}"
        if connected:
            log.info("%s: connected", broker)
        else:
            log.warning("%s: %s; trying until it is back", broker, self._state.last_error)

    def _count(self, *, published: int = 0, dropped: int = 0) -> None:
        self._state = replace(
            self._state,
            published=self._state.published + published,
            dropped=self._state.dropped + dropped,
        )


async def _cancellable(call: Coroutine[Any, Any, Any]) -> None:
    """Await ``call`` so that being cancelled is never lost.

    aiomqtt waits with ``asyncio.wait_for``, which before Python 3.12 swallows a cancellation
    that comes together with the result. A publisher that misses its only one never stops.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _leave_when_connected(
    connecting: asyncio.Future[aiomqtt.Client], client: aiomqtt.Client
) -> None:
    with suppress(aiomqtt.MqttError, OSError):
        await connecting
        await client.__aexit__(None, None, None)


def _tls_context(settings: MqttConfig) -> ssl.SSLContext | None:
    if settings.ca is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(settings.ca))
    except OSError as error:  # includes SSLError
        raise CredentialError(f"{settings.ca}: {error.strerror or error}") from None
    if settings.certificate is not None:
        try:
            # An encrypted key fails at once; else OpenSSL would ask for its password on a terminal.
            context.load_cert_chain(settings.certificate, settings.key, password="")
        except OSError as error:
            files = f"{settings.certificate}, {settings.key}"
            raise CredentialError(f"{files}: {error.strerror or error}") from None
    return context


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain error inside, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: Exception, *, tls: bool) -> str:
    text = str(error.__cause__ or error) if isinstance(error, aiomqtt.MqttError) else str(error)
    if text == "Operation timed out":  # aiomqtt's
        # TLS 1.3: a refused client certificate shows as silence, not as a failed handshake.
        hint = "does the broker accept our certificate?" if tls else "does the broker want TLS?"
        return f"no MQTT answer in {CALL_TIMEOUT:g} s ({hint})"
    return " ".join(_CODE.sub("", text).split()) or type(error).__name__
