"""The channel is the only process that knows the truth: it cannot be reached from the key path."""

from __future__ import annotations

import ast
import asyncio
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qkd_adapters.address import UnixAddress, connect
from qkd_adapters.channel.feed import Feed
from qkd_adapters.device.light import Light
from qkd_adapters.records import Monitor, Record, Role

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    "module",
    [
        "qkd_adapters.device.service",
        "qkd_adapters.postprocessing.blocks",
        "qkd_adapters.detection.detector",
        "qkd_adapters.kme.service",
        "qkd_adapters.link.service",
    ],
)
def test_a_process_of_the_key_path_never_loads_the_optics(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "print([name for name in sys.modules if name.startswith("
        "('qkd_adapters.optics', 'qkd_adapters.channel', 'qkd_adapters.factory'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_feed_has_no_way_to_read() -> None:
    """Not even by mistake: it names no reader, and turns the receiving half off."""
    source = (ROOT / "qkd_adapters/channel/feed.py").read_text()
    called = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert called & {"SHUT_RD"}
    assert not called & {"read", "readline", "readexactly", "readuntil", "recv", "recv_into"}


def record(block: int) -> Record:
    return Record(
        block=block,
        start=float(block),
        seconds=1.0,
        pulses=100,
        columns={"bit": np.array([0, 1, 1], dtype=np.uint8)},
        totals={},
        monitor=Monitor(),
    )


async def eventually(feed: Feed) -> None:
    async with asyncio.timeout(5):
        while not feed.connected:
            await asyncio.sleep(0.001)


async def test_records_go_to_the_device_and_nothing_comes_back(short_dir: Path) -> None:
    address = UnixAddress(path=str(short_dir / "alice.optics"))
    feed = Feed(Role.ALICE, address)
    await feed.start()
    reader, writer = await connect(address)
    await eventually(feed)
    # The kernel refuses: the channel's end does not receive.
    with pytest.raises(OSError, match="pipe"):
        writer.get_extra_info("socket")._sock.send(b"what is the loss?")
    feed.send(record(7))
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    assert length > 0
    await feed.stop()
    writer.close()


async def test_a_device_gives_up_its_sending_half(short_dir: Path) -> None:
    address = UnixAddress(path=str(short_dir / "bob.optics"))
    arrived: asyncio.Queue[Record] = asyncio.Queue()
    light = Light(address, arrived.put_nowait)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address.path)
    listener.listen(1)
    running = asyncio.create_task(light.run())
    connection, _ = await asyncio.to_thread(listener.accept)
    connection.settimeout(5)
    assert await asyncio.to_thread(connection.recv, 1) == b""
    running.cancel()
    connection.close()
    listener.close()


async def test_light_nobody_looks_at_is_lost(short_dir: Path) -> None:
    address = UnixAddress(path=str(short_dir / "bob.optics"))
    feed = Feed(Role.BOB, address)
    await feed.start()
    feed.send(record(0))
    assert (feed.sent, feed.lost) == (0, 1)
    arrived: asyncio.Queue[Record] = asyncio.Queue()
    running = asyncio.create_task(Light(address, arrived.put_nowait).run())
    await eventually(feed)
    feed.send(record(1))
    assert (await arrived.get()).block == 1
    # A restarted device takes the place of the one before.
    again: asyncio.Queue[Record] = asyncio.Queue()
    running.cancel()
    restarted = asyncio.create_task(Light(address, again.put_nowait).run())
    async with asyncio.timeout(5):
        while again.empty():
            feed.send(record(2))
            await asyncio.sleep(0.001)
    restarted.cancel()
    await feed.stop()
