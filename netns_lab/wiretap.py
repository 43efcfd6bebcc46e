"""Somebody in the middle of the classical channel between two QKD devices, as a process.

``python -m netns_lab.wiretap --listen PATH --connect HOST:PORT --control PATH`` passes octets
both ways (``unix:PATH`` instead of HOST:PORT does too). Over its control socket (as ``qsgw-kme
channelctl``) it is told to meddle: ``flip [OCTETS]`` changes one bit of the next piece of at
least so many octets that Alice sends, ``delay SECONDS`` holds everything back, ``stall`` passes
nothing, ``cut`` closes the connection, ``pass`` ends all that, ``status`` says what is so. It
knows nothing of what it passes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_PIECE = 64 * 1024  # octets
_FLIP_LEAST = 512  # octets: a message of the post-processing rather than a ping


class Wiretap:
    """``delay`` in seconds; ``flip`` is how many octets a piece must have to be changed."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.delay = 0.0
        self.flip: int | None = None
        self.flipped = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of Alice's."""
        try:
            far_reader, far_writer = await _connect(self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        ways = (
            asyncio.create_task(self._pass(reader, far_writer, from_alice=True)),
            asyncio.create_task(self._pass(far_reader, writer, from_alice=False)),
        )
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for each in (writer, far_writer):
            self._writers.discard(each)
            each.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_alice: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                await self._open.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(self._meddle(data) if from_alice else data)
                await writer.drain()

    def _meddle(self, data: bytes) -> bytes:
        if self.flip is None or len(data) < self.flip:
            return data
        self.flip = None
        self.flipped += 1
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    def act(self, words: Sequence[str]) -> dict[str, object]:
        """Raises ValueError."""
        match list(words):
            case ["flip"]:
                self.flip = _FLIP_LEAST
            case ["flip", octets]:
                self.flip = int(octets)
            case ["delay", seconds]:
                self.delay = float(seconds)
            case ["stall"]:
                self._open.clear()
            case ["cut"]:
                for writer in self._writers:
                    writer.close()
            case ["pass"]:
                self.delay, self.flip = 0.0, None
                self._open.set()
            case ["status"]:
                pass
            case _:
                raise ValueError(f"nothing to do: {' '.join(words)!r}")
        return {
            "delay": self.delay,
            "stalled": not self._open.is_set(),
            "to_flip": self.flip is not None,
            "flipped": self.flipped,
            "connections": len(self._writers) // 2,
        }

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            words = json.loads(await reader.readline())["words"]
            answer: dict[str, object] = {"ok": True, "result": self.act(words)}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"ok": False, "error": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target.removeprefix("unix:"))
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def run(listen: Path, connect: str, control: Path) -> None:
    """Until SIGTERM."""
    tap = Wiretap(connect)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    servers = [
        await asyncio.start_unix_server(tap.serve, str(listen)),
        await asyncio.start_unix_server(tap.control, str(control)),
    ]
    _tell_ready()
    await stop.wait()
    for server in servers:
        server.close()


def _tell_ready() -> None:
    """sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", address.replace("@", "\0", 1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="wiretap")
    parser.add_argument("--listen", type=Path, required=True)
    parser.add_argument("--connect", required=True)
    parser.add_argument("--control", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.listen, arguments.connect, arguments.control))


if __name__ == "__main__":
    main()
