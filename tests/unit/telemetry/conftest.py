"""A real broker on loopback, and what it holds."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

START_TIMEOUT = 10.0  # seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """mosquitto on a port of its own; can be stopped and started again."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.port = free_port()
        self._binary = binary
        self._config = folder / "mosquitto.conf"
        user = "root" if os.geteuid() == 0 else ""
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
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
    async def observer(self, topics: str = "qsgw/#") -> AsyncIterator["Observer"]:
        async with aiomqtt.Client("127.0.0.1", self.port) as client:
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
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed")
    broker = Broker(binary, tmp_path)
    await broker.start()
    yield broker
    await broker.stop()
