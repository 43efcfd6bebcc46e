"""A real broker on loopback, and what it holds."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

START_TIMEOUT = 10.0  # seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """mosquitto on a port of its own; can be stopped and started again."""

    def __init__(self, binary: str, folder: Path, *rules: str) -> None:
        """``rules``: who may connect and how, in mosquitto's words; default: everybody."""
        self.port = free_port()
        self._binary = binary
        self._config = folder / "mosquitto.conf"
        user = "root" if os.geteuid() == 0 else ""
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\npersistence false\n"
            + "".join(f"{rule}\n" for rule in rules or ("allow_anonymous true",))
            + (f"user {user}\n" if user else "")
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            "-c",
            str(self._config),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    @contextlib.asynccontextmanager
    async def observer(
        self, topics: str = "qsgw/#", **credentials: Any
    ) -> AsyncIterator["Observer"]:
        async with aiomqtt.Client("127.0.0.1", self.port, **credentials) as client:
            await client.subscribe(topics, qos=1)
            yield Observer(client)


class Observer:
    """Sees what a subscriber sees."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.seen: list[tuple[str, bytes, bool]] = []

    async def until(self, topic: str, payload: bytes | None = None) -> bytes:
        """Wait for a message on ``topic`` (with ``payload``); returns its payload."""
        async with asyncio.timeout(START_TIMEOUT):
            async for message in self._client.messages:
                body = bytes(message.payload) if isinstance(message.payload, bytes) else b""
                self.seen.append((message.topic.value, body, message.retain))
                if message.topic.value == topic and payload in (None, body):
                    return body
        raise AssertionError(topic)


@pytest.fixture
def mosquitto() -> str:
    """The broker's program."""
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed")
    return binary


@pytest.fixture
async def broker(mosquitto: str, tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(mosquitto, tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def make_broker(mosquitto: str, tmp_path: Path) -> AsyncIterator[Any]:
    """``await make_broker(*rules)``: one that runs until the end of the test."""
    made: list[Broker] = []

    async def make(*rules: str) -> Broker:
        folder = tmp_path / f"broker{len(made)}"
        folder.mkdir()
        made.append(Broker(mosquitto, folder, *rules))
        await made[-1].start()
        return made[-1]

    yield make
    for broker in made:
        await broker.stop()
