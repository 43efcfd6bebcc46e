"""The publisher against a real broker, and against brokers that misbehave."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.schema import MqttConfig
from gateway.crypto.secret import Secret
from gateway.errors import DataplaneError
from gateway.model import Snapshot
from gateway.telemetry import mqtt
from gateway.telemetry.mqtt import EVENTS_MAX, MqttPublisher, MqttState
from tests.support.snapshots import KEY_ID, event, macsec_view, snapshot, tunnel_view

BASE = "qsgw/moon"


def settings(port: int, **changes: Any) -> MqttConfig:
    return replace(
        MqttConfig(
            host="127.0.0.1",
            port=port,
            prefix="qsgw",
            username=None,
            password=None,
            ca=None,
            certificate=None,
            key=None,
            key_ids=False,
        ),
        **changes,
    )


class Source:
    """What the daemon would show."""

    def __init__(self) -> None:
        self.current = snapshot()
        self.error: Exception | None = None

    async def __call__(self) -> Snapshot:
        if self.error is not None:
            raise self.error
        return self.current


@contextlib.asynccontextmanager
async def running(
    port: int, source: Source | None = None, **changes: Any
) -> AsyncIterator[MqttPublisher]:
    publisher = MqttPublisher(
        settings(port, **changes), "moon", source or Source(), backoff=(0.01, 0.05)
    )
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "SNAPSHOT_GAP", 0.01)
    monkeypatch.setattr(mqtt, "CALL_TIMEOUT", 0.3)
    monkeypatch.setattr(mqtt, "STOP_TIMEOUT", 0.3)


# --- a good broker ---------------------------------------------------------------------------


async def test_state_is_retained_for_whoever_comes_later(broker: Any) -> None:
    async with running(broker.port) as publisher:
        await until(lambda: publisher.state.published >= 3)
        async with broker.observer() as observer:
            await observer.until(f"{BASE}/tunnel/sun")
    found = {topic: (body, retained) for topic, body, retained in observer.seen}
    assert found[f"{BASE}/availability"] == (b"online", True)
    whole, retained = found[f"{BASE}/status"]
    assert retained
    assert json.loads(whole)["schema"] == 1
    assert json.loads(whole)["tunnels"][0]["protection"] == "HYBRID"
    tunnel = json.loads(found[f"{BASE}/tunnel/sun"][0])
    assert (tunnel["schema"], tunnel["gateway"]) == (1, "moon")
    assert tunnel["tunnel"]["name"] == "sun"


async def test_events_are_not_retained(broker: Any) -> None:
    async with broker.observer() as observer, running(broker.port) as publisher:
        publisher.publish_event(event())
        body = await observer.until(f"{BASE}/event/child-up")
        assert json.loads(body)["type"] == "child-up"
        async with broker.observer(f"{BASE}/event/#") as late:
            publisher.publish_event(event(type="second"))
            await late.until(f"{BASE}/event/second")
        assert [topic for topic, *_ in late.seen] == [f"{BASE}/event/second"]


async def test_key_ids_are_withheld_unless_asked_for(broker: Any) -> None:
    async with broker.observer() as observer:
        async with running(broker.port) as publisher:
            publisher.publish_event(event())
            await observer.until(f"{BASE}/event/child-up")
            await observer.until(f"{BASE}/tunnel/sun")
        assert all(KEY_ID.encode() not in body for _, body, _ in observer.seen)
        async with running(broker.port, key_ids=True):
            tunnel = await observer.until(f"{BASE}/tunnel/sun")
        assert KEY_ID.encode() in tunnel


async def test_clean_stop_says_offline(broker: Any) -> None:
    async with broker.observer() as observer:
        async with running(broker.port):
            await observer.until(f"{BASE}/availability", b"online")
        await observer.until(f"{BASE}/availability", b"offline")


async def test_death_leaves_the_last_will(broker: Any) -> None:
    async with broker.observer() as observer:
        publisher = MqttPublisher(settings(broker.port), "moon", Source())
        client = publisher._client()
        await client.__aenter__()
        await publisher._publish(client, "availability", b"online", retain=True)
        await observer.until(f"{BASE}/availability", b"online")
        client._client._sock_close()  # as after SIGKILL: no DISCONNECT
        await observer.until(f"{BASE}/availability", b"offline")
        with contextlib.suppress(Exception):
            await client.__aexit__(None, None, None)


async def test_changes_are_published_and_removed_tunnels_emptied(broker: Any) -> None:
    source = Source()
    source.current = snapshot(tunnels=(tunnel_view("sun"), tunnel_view("venus")))
    async with broker.observer() as observer, running(broker.port, source) as publisher:
        await observer.until(f"{BASE}/tunnel/venus")
        source.current = snapshot()
        publisher.changed()
        assert await observer.until(f"{BASE}/tunnel/venus", b"") == b""


async def test_macsec_links_have_topics_of_their_own(broker: Any) -> None:
    source = Source()
    source.current = snapshot(macsec=(macsec_view("metro"), macsec_view("sun")))
    async with broker.observer() as observer, running(broker.port, source) as publisher:
        metro = await observer.until(f"{BASE}/macsec/metro")
        assert KEY_ID.encode() not in metro
        found = json.loads(metro)
        assert (found["schema"], found["gateway"]) == (1, "moon")
        assert (found["macsec"]["name"], found["macsec"]["protection"]) == ("metro", "HYBRID")
        assert found["macsec"]["caks"][0]["key_id"] is None
        await observer.until(f"{BASE}/macsec/sun")
        source.current = snapshot(macsec=(macsec_view("metro"),))
        publisher.changed()
        assert await observer.until(f"{BASE}/macsec/sun", b"") == b""
    assert (f"{BASE}/tunnel/sun", b"", True) not in observer.seen, "that one is still there"
    async with broker.observer() as late, running(broker.port, source):
        await late.until(f"{BASE}/macsec/metro")
    assert late.seen[-1][2], "retained"


async def test_key_ids_of_caks_where_they_are_asked_for(broker: Any) -> None:
    source = Source()
    source.current = snapshot(macsec=(macsec_view(),))
    async with broker.observer() as observer, running(broker.port, source, key_ids=True):
        assert KEY_ID.encode() in await observer.until(f"{BASE}/macsec/metro")


async def test_leftovers_of_links_are_emptied_too(broker: Any) -> None:
    source = Source()
    source.current = snapshot(macsec=(macsec_view("metro"), macsec_view("ring")))
    async with running(broker.port, source) as publisher:
        await until(lambda: publisher.state.published >= 5)
    source.current = snapshot(macsec=(macsec_view("metro"),))
    async with broker.observer() as observer, running(broker.port, source):
        await observer.until(f"{BASE}/macsec/ring", b"")
    assert (f"{BASE}/macsec/metro", b"") not in [seen[:2] for seen in observer.seen]


async def test_leftovers_of_an_earlier_run_are_emptied(broker: Any) -> None:
    source = Source()
    source.current = snapshot(tunnels=(tunnel_view("venus"),))
    async with running(broker.port, source) as publisher:
        await until(lambda: publisher.state.published >= 3)
    async with broker.observer() as observer, running(broker.port):
        await observer.until(f"{BASE}/tunnel/venus", b"")


async def test_everything_comes_again_after_a_broker_restart(
    broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qsgw.mqtt")
    async with running(broker.port) as publisher:
        await until(lambda: publisher.state.connected)
        await broker.stop()
        await until(lambda: not publisher.state.connected)
        publisher.publish_event(event(type="while-away"))
        await broker.start()
        async with broker.observer() as observer:
            await observer.until(f"{BASE}/tunnel/sun")
        assert publisher.state.connected
        assert publisher.state.dropped == 0
    topics = {topic for topic, *_ in observer.seen}
    assert {f"{BASE}/availability", f"{BASE}/status"} <= topics
    levels = [record.levelname for record in caplog.records if record.name == "qsgw.mqtt"]
    assert levels == ["INFO", "WARNING", "INFO"]  # up, away (however many tries), up


async def test_no_snapshot_now_is_not_the_brokers_fault(broker: Any) -> None:
    source = Source()
    source.error = DataplaneError("kernel busy")
    async with broker.observer() as observer, running(broker.port, source) as publisher:
        publisher.publish_event(event())
        await observer.until(f"{BASE}/event/child-up")
        source.error = None
        await observer.until(f"{BASE}/status")
        assert publisher.state.connected


# --- bad brokers -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def fake_broker(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
) -> AsyncIterator[int]:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await answer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1024)
    writer.write(bytes((0x20, 2, 0, 5)))  # CONNACK, not authorised (MQTT 3.1.1 3.2.2.3)
    await writer.drain()
    writer.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1024)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


async def never_acknowledges(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1024)
    writer.write(bytes((0x20, 2, 0, 0)))  # CONNACK, accepted
    await reader.read()


@pytest.mark.parametrize("broker_kind", [refuse, silent, garbage, never_acknowledges])
async def test_a_bad_broker_costs_one_log_line_and_nothing_else(
    broker_kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    attempts = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        await broker_kind(reader, writer)

    async with fake_broker(counted) as port, running(port) as publisher:
        for _ in range(EVENTS_MAX + 10):
            publisher.publish_event(event())
        await until(lambda: attempts >= 2)
        assert not publisher.state.connected
        assert publisher.state.last_error
        assert publisher.state.dropped == 10
    lines = [record for record in caplog.records if record.name.startswith("qsgw")]
    assert [record.levelname for record in lines] == ["WARNING"]
    assert f"127.0.0.1:{port}" in lines[0].getMessage()


async def test_nobody_listens(unused_tcp_port_factory: Callable[[], int]) -> None:
    states: list[MqttState] = []
    publisher = MqttPublisher(
        settings(unused_tcp_port_factory()),
        "moon",
        Source(),
        on_state=states.append,
        backoff=(0.01, 0.02),
    )
    task = asyncio.create_task(publisher.run())
    await until(lambda: bool(states))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [state.connected for state in states] == [False]
    assert "refused" in (states[0].last_error or "")


async def test_a_missing_ca_is_named(tmp_path: Path) -> None:
    async with running(1, ca=tmp_path / "ca.pem") as publisher:
        await until(lambda: publisher.state.last_error is not None)
        assert "ca.pem" in (publisher.state.last_error or "")


async def test_a_password_that_is_no_text_does_not_end_the_task() -> None:
    secret = Secret(b"\xff\xfe")
    async with running(1, username="moon", password=secret) as publisher:
        await until(lambda: publisher.state.last_error is not None)


async def test_publishing_never_waits() -> None:
    publisher = MqttPublisher(settings(1), "moon", Source())
    for number in range(EVENTS_MAX * 3):
        publisher.publish_event(event(type=f"n{number}"))
        publisher.changed()
    assert publisher.state.dropped == EVENTS_MAX * 2
    assert publisher._events[0].type == f"n{EVENTS_MAX * 2}"  # the oldest went


async def test_a_broker_cannot_make_us_remember_or_publish_just_anything() -> None:
    """Names with wildcards would end every session; names without end, our memory."""
    hostile = [
        "#",
        "a/b",
        "x" * 64,
        "",
        *(f"t{number}" for number in range(mqtt.LEFTOVERS_MAX + 5)),
    ]

    class Client:
        async def subscribe(self, *_: Any, **__: Any) -> None: ...

        @property
        async def messages(self) -> AsyncIterator[Any]:
            others = ("other/topic", f"{BASE}/status", f"{BASE}/event/t1", f"{BASE}/macsec/#")
            for value in (*others, *(f"{BASE}/tunnel/{name}" for name in hostile)):
                topic = SimpleNamespace(value=value)
                yield SimpleNamespace(topic=topic, retain=True, payload=b"{}")

    publisher = MqttPublisher(settings(1883), "moon", Source())
    await publisher._collect_leftovers(Client())  # type: ignore[arg-type]
    assert publisher._known == {f"tunnel/t{number}" for number in range(mqtt.LEFTOVERS_MAX)}


async def test_a_stop_is_never_lost(broker: Any) -> None:
    """Whatever the publisher is waiting for when it is cancelled, answers just come included."""
    for steps in range(50):
        told = asyncio.Event()
        publisher = MqttPublisher(
            settings(broker.port), "moon", Source(), on_state=lambda _, up=told: up.set()
        )
        task = asyncio.create_task(publisher.run())
        await told.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done, f"still running when cancelled {steps} steps after it had connected"
