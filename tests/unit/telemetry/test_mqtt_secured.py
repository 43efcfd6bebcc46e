"""A real broker that asks for TLS with a client certificate, or for a password."""

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.schema import MqttConfig
from gateway.crypto.secret import Secret
from gateway.telemetry import mqtt
from gateway.telemetry.mqtt import MqttPublisher, MqttState
from kms_client.tls import TlsFiles
from tests.support.pki import Authority, make_authority
from tests.support.snapshots import snapshot

PASSWORD = "correct horse battery staple"
OPEN = MqttConfig(
    host="127.0.0.1",
    port=0,
    prefix="qsgw",
    username=None,
    password=None,
    ca=None,
    certificate=None,
    key=None,
    key_ids=False,
)


@contextlib.asynccontextmanager
async def outcome(config: MqttConfig) -> AsyncIterator[tuple[MqttPublisher, MqttState]]:
    """A publisher and what it first told; it must go on trying, whatever that is."""
    told: asyncio.Queue[MqttState] = asyncio.Queue()

    async def current() -> Any:
        return snapshot()

    publisher = MqttPublisher(
        config, "moon", current, on_state=told.put_nowait, backoff=(0.01, 0.05)
    )
    task = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(20):
            yield publisher, await told.get()
        assert not task.done(), "a broker that refuses us ends nothing"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def tls(config: MqttConfig, files: TlsFiles, *, certificate: bool = True) -> MqttConfig:
    return replace(
        config,
        ca=files.ca,
        certificate=files.certificate if certificate else None,
        key=files.key if certificate else None,
    )


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "CALL_TIMEOUT", 1.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "site")


@pytest.fixture
async def tls_broker(mosquitto: str, authority: Authority, tmp_path: Path, make_broker: Any) -> Any:
    server = authority.issue("broker", hosts=("127.0.0.1",))
    return await make_broker(
        "allow_anonymous true",
        f"cafile {server.ca}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
    )


@pytest.fixture
async def password_broker(mosquitto: str, tmp_path: Path, make_broker: Any) -> Any:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    file = tmp_path / "passwords"
    made = await asyncio.create_subprocess_exec(program, "-b", "-c", file, "moon", PASSWORD)
    assert await made.wait() == 0
    return await make_broker("allow_anonymous false", f"password_file {file}")


# --- TLS -------------------------------------------------------------------------------------


async def test_tls_with_a_client_certificate(tls_broker: Any, authority: Authority) -> None:
    files = authority.issue("moon")
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(files.certificate, files.key)
    async with outcome(tls(replace(OPEN, port=tls_broker.port), files)) as (_, state):
        assert state.connected
        async with tls_broker.observer(tls_context=context) as observer:
            assert await observer.until("qsgw/moon/availability") == b"online"
            await observer.until("qsgw/moon/status")


async def test_a_broker_of_another_authority_is_not_trusted(
    tls_broker: Any, authority: Authority, tmp_path: Path
) -> None:
    files = replace(authority.issue("moon"), ca=make_authority(tmp_path, "other").file)
    async with outcome(tls(replace(OPEN, port=tls_broker.port), files)) as (publisher, state):
        assert not state.connected
        assert "certificate verify failed" in str(state.last_error)
        assert publisher.state.published == 0


@pytest.mark.parametrize("certificate", [False, True])
async def test_without_a_certificate_of_its_authority_the_broker_refuses(
    tls_broker: Any, authority: Authority, tmp_path: Path, certificate: bool
) -> None:
    stranger = make_authority(tmp_path, "other").issue("moon")
    files = replace(stranger, ca=authority.file)
    config = tls(replace(OPEN, port=tls_broker.port), files, certificate=certificate)
    async with outcome(config) as (publisher, state):
        assert not state.connected
        assert "certificate" in str(state.last_error)
        assert publisher.state.published == 0


async def test_a_broker_under_another_name_is_not_trusted(
    authority: Authority, make_broker: Any
) -> None:
    server = authority.issue("broker", hosts=("broker.example",))
    rules = (f"certfile {server.certificate}", f"keyfile {server.key}")
    broker = await make_broker("allow_anonymous true", *rules)
    files = authority.issue("moon")
    async with outcome(tls(replace(OPEN, port=broker.port), files)) as (_, state):
        assert not state.connected
        assert "127.0.0.1" in str(state.last_error)


async def test_without_tls_a_tls_broker_is_not_reached(tls_broker: Any) -> None:
    async with outcome(replace(OPEN, port=tls_broker.port)) as (_, state):
        assert not state.connected
        assert "TLS" in str(state.last_error)


# --- password --------------------------------------------------------------------------------


async def test_password(password_broker: Any) -> None:
    config = replace(
        OPEN, port=password_broker.port, username="moon", password=Secret(PASSWORD.encode())
    )
    async with outcome(config) as (_, state):
        assert state.connected
        async with password_broker.observer(username="moon", password=PASSWORD) as observer:
            assert await observer.until("qsgw/moon/availability") == b"online"


@pytest.mark.parametrize("password", [None, b"wrong"])
async def test_a_wrong_password_is_told_and_the_daemon_goes_on(
    password_broker: Any, password: bytes | None
) -> None:
    secret = None if password is None else Secret(password)
    config = replace(OPEN, port=password_broker.port, username="moon", password=secret)
    async with outcome(config) as (publisher, state):
        assert not state.connected
        assert "authori" in str(state.last_error)
        assert "wrong" not in str(state.last_error)
        assert publisher.state.published == 0
