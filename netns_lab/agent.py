"""Holds a lab that stays up, from inside: runs commands in its hosts for terminals outside.

Started by ``keeper`` with a stream to it: a serial line in user-mode Linux, an inherited
socket on the host's kernel. The lab goes down with the stream or on request.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import signal
import socket
import struct
import sys
import termios
import tty
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from netns_lab.channel import MAGIC, Decoder, Frame, Kind, encode
from netns_lab.errors import LabError
from netns_lab.job import KERNEL
from netns_lab.lab import Lab
from netns_lab.macsec_evidence import wait_shown
from netns_lab.metro import MacsecOptions
from netns_lab.process import in_namespace
from netns_lab.qkd_files import DeviceLink
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions

_READ = 64 * 1024

# A gateway's sockets are where its tools look for them; only this command sees it so.
_OWN_RUN = 'mkdir -p /run/qsgw && mount --bind "$1" /run/qsgw && shift && exec "$@"'


class Session:
    """One command in one host, on one channel."""

    def __init__(self, agent: Agent, channel: int) -> None:
        self._agent = agent
        self._channel = channel
        self._process: asyncio.subprocess.Process | None = None
        self._terminal: int | None = None  # master side of its pty
        self._early: list[Frame] = []  # came before the process was there

    async def run(self, command: list[str], *, terminal: bool) -> int:
        """Run the command, sending its output on the channel; its exit code."""
        return await (self._run_in_terminal(command) if terminal else self._run_piped(command))

    async def _run_piped(self, command: list[str]) -> int:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._started(process)
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(
            self._forward(process.stdout, Kind.STDOUT), self._forward(process.stderr, Kind.STDERR)
        )
        return await process.wait()

    async def _run_in_terminal(self, command: list[str]) -> int:
        master, slave = pty.openpty()
        self._terminal = master
        try:
            process = await asyncio.create_subprocess_exec(
                *("setsid", "--ctty", "--wait", *command),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**os.environ, "TERM": "xterm"},
            )
        finally:
            os.close(slave)
        self._started(process)
        output, transport = await _reader(os.dup(master))
        with suppress(OSError):  # EIO: nobody has the terminal open any more
            await self._forward(output, Kind.STDOUT)
        transport.close()
        self._terminal = None
        os.close(master)
        return await process.wait()

    def _started(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        for frame in self._early:
            self.take(frame)

    async def _forward(self, stream: asyncio.StreamReader, kind: Kind) -> None:
        while data := await stream.read(_READ):
            await self._agent.send(kind, self._channel, data)

    def take(self, frame: Frame) -> None:
        """What the terminal outside sends."""
        if self._process is None:
            self._early.append(frame)
            return
        match frame.kind:
            case Kind.STDIN if self._terminal is not None:
                os.write(self._terminal, frame.payload)
            case Kind.STDIN if self._process.stdin is not None:
                self._process.stdin.write(frame.payload)
                if not frame.payload:
                    self._process.stdin.close()
            case Kind.SIGNAL:
                self._signal(self._process.pid, signal.Signals(int(frame.payload)))
            case Kind.HANG_UP:
                self._signal(self._process.pid, signal.SIGHUP)
            case Kind.SIZE if self._terminal is not None:
                rows, columns = (int(number) for number in frame.payload.split())
                size = struct.pack("HHHH", rows, columns, 0, 0)  # ioctl_tty(2)
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)
            case _:
                pass

    def _signal(self, group: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(group, number)


class Agent:
    """Serves the stream until it ends or the lab is to go down."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lab: Lab
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._lab = lab
        self._sessions: dict[int, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._down = asyncio.Event()

    async def serve(self) -> None:
        self._writer.write(MAGIC)
        waits = [asyncio.create_task(self._read()), asyncio.create_task(self._stop_requested())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in (*waits, *self._tasks):
            task.cancel()
        await asyncio.gather(*waits, *self._tasks, return_exceptions=True)

    async def send(self, kind: Kind, channel: int, payload: bytes = b"") -> None:
        """Waits while the stream is full: a fast command is slowed down, memory is not used."""
        self._writer.write(encode(Frame(kind, channel, payload)))
        await self._writer.drain()

    async def _stop_requested(self) -> None:
        await self._down.wait()

    async def _read(self) -> None:
        decoder = Decoder()
        while data := await self._reader.read(_READ):
            for frame in decoder.feed(data):
                self._dispatch(frame)

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind is Kind.REQUEST:
            task = asyncio.create_task(self._answer(frame.channel, json.loads(frame.payload)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._sessions[frame.channel] = Session(self, frame.channel)
        elif frame.channel in self._sessions:
            self._sessions[frame.channel].take(frame)

    async def _answer(self, channel: int, request: dict[str, Any]) -> None:
        try:
            await self.send(*await self._carry_out(channel, request))
        except (LabError, OSError) as error:
            await self.send(Kind.FAILURE, channel, str(error).encode())
        finally:
            self._sessions.pop(channel, None)
        if request["do"] == "down":
            self._down.set()

    async def _carry_out(self, channel: int, request: dict[str, Any]) -> tuple[Kind, int, bytes]:
        """Kind, channel and payload of the last frame of the conversation."""
        match request["do"]:
            case "exec":
                command = self.command_in(request["host"], request["command"])
                session = self._sessions[channel]
                code = await session.run(command, terminal=request["terminal"])
                # As a shell counts: 128 + signal.
                return Kind.EXIT, channel, str(code if code >= 0 else 128 - code).encode()
            case "status":
                return Kind.ANSWER, channel, json.dumps(self._status()).encode()
            case "down":
                return Kind.ANSWER, channel, b""
            case other:
                raise LabError(f"the lab cannot {other!r}")

    def command_in(self, host: str, command: list[str]) -> list[str]:
        own = self._lab.run_dir / host
        if own.is_dir():
            command = ["sh", "-c", _OWN_RUN, "sh", str(own), *command]
        return in_namespace(self._lab.namespace(host), command)

    def _status(self) -> dict[str, Any]:
        topology = self._lab.network.topology
        return {
            "schema": 1,
            "kernel": os.environ[KERNEL],
            "release": os.uname().release,
            "run_dir": str(self._lab.run_dir),
            "hosts": [
                {
                    "name": host.name,
                    "namespace": self._lab.namespace(host.name),
                    "addresses": [str(address) for address in topology.addresses(host.name)],
                }
                for host in topology.hosts
            ],
            "daemons": [
                {
                    "name": daemon.name,
                    "host": daemon.host,
                    "pid": daemon.pid,
                    "alive": daemon.alive,
                    "status": daemon.status,
                }
                for daemon in self._lab.daemons.values()
            ],
        }


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """A reader of a terminal; closing its transport closes ``descriptor``."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader, transport


async def _serial_line(line: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    descriptor = os.open(line, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    reader, _ = await _reader(os.dup(descriptor))
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(descriptor, "wb", buffering=0)
    )
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


def _options(devices: Sequence[str], *, macsec: bool) -> SiteOptions:
    """Devices of the first preset feed the link, of the second its twin's, with a tunnel each."""
    fed = {
        link: DeviceLink(preset=preset, tap=True)
        for link, preset in zip(("link", "link-twin"), devices, strict=False)
    }
    two = len(fed) > 1
    link = MacsecOptions() if macsec else None
    return SiteOptions(devices=fed, twin=two, apart=two, macsec=link)


@asynccontextmanager
async def _lab(*, bare: bool, devices: Sequence[str], macsec: bool) -> AsyncIterator[Lab]:
    if bare:
        async with Lab.up("up") as lab:
            yield lab
    else:
        async with Site.up("up", _options(devices, macsec=macsec)) as site:
            await site.wait_protection("HYBRID")
            if macsec:
                await wait_shown(site, "HYBRID")
            yield site.lab


async def _main(arguments: argparse.Namespace) -> None:
    if arguments.line is not None:
        reader, writer = await _serial_line(arguments.line)
    else:
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=arguments.fd))
    async with _lab(bare=arguments.bare, devices=arguments.devices, macsec=arguments.macsec) as lab:
        await Agent(reader, writer, lab).serve()
    writer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bare", action="store_true", help="the network, no daemons")
    parser.add_argument("--devices", action="append", default=[], metavar="PRESET")
    parser.add_argument("--macsec", action="store_true", help="a layer-2 link between the sites")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--line", type=Path, help="a serial line")
    where.add_argument("--fd", type=int, help="an inherited socket")
    try:
        asyncio.run(_main(parser.parse_args()))
    except LabError as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
