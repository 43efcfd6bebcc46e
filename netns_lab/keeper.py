"""Holds the lab kernel of ``qsgw-lab up``, from outside, and lets terminals talk to its agent.

One process in the background per lab. Terminals connect to its Unix socket; it gives each a
channel on the one stream to the agent inside. The lab lives as long as the keeper does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netns_lab import doctor, host, paths
from netns_lab.channel import LAST, MAGIC, Decoder, Frame, Kind, encode
from netns_lab.errors import LabError
from netns_lab.job import Job
from netns_lab.uml import launcher

START_SECONDS = 240.0  # boot and every daemon ready; devices load numpy, slowly in there
_READ = 64 * 1024
_WATCH_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a lab that is up can be reached."""

    pid: int  # of the keeper
    socket: str
    kernel: str


def state_file() -> Path:
    return paths.build() / "lab" / "up.json"


def kept() -> Kept | None:
    """The lab that is up, if one is."""
    try:
        found = Kept(**json.loads(state_file().read_text()))
    except FileNotFoundError:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(found.socket)
        except OSError:
            return None  # what a keeper that was killed left behind
    return found


class Relay:
    """Terminals on one side, the agent's stream on the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._terminals: dict[int, asyncio.StreamWriter] = {}
        self._channels = itertools.count(1)

    async def wait_agent(self) -> None:
        """Return when the lab stands. Raises LabError when it will not."""
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._reader.readuntil(MAGIC)
        except TimeoutError as error:
            raise LabError(f"the lab was not up after {START_SECONDS:.0f} s") from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise LabError("the lab ended while coming up") from error

    async def from_agent(self) -> None:
        """Pass on what comes from inside until the stream ends."""
        decoder = Decoder()
        while data := await self._reader.read(_READ):
            for frame in decoder.feed(data):
                await self._to_terminal(frame)

    async def _to_terminal(self, frame: Frame) -> None:
        terminal = self._terminals.get(frame.channel)
        if terminal is None:
            return
        with suppress(ConnectionError):
            terminal.write(encode(Frame(frame.kind, 0, frame.payload)))
            await terminal.drain()
        if frame.kind in LAST:
            terminal.close()

    async def serve_terminal(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        channel = next(self._channels)
        self._terminals[channel] = writer
        decoder = Decoder()
        with suppress(ConnectionError, ValueError):
            while data := await reader.read(_READ):
                for frame in decoder.feed(data):
                    self._writer.write(encode(Frame(frame.kind, channel, frame.payload)))
                await self._writer.drain()
        del self._terminals[channel]
        self._writer.write(encode(Frame(Kind.HANG_UP, channel)))
        writer.close()


@dataclass(frozen=True, slots=True)
class Inside:
    """The lab as its keeper sees it. A serial line stays open when the agent has ended."""

    kernel: str
    ended: Callable[[], bool]


@contextmanager
def _inside(stream: socket.socket, *, options: Sequence[str]) -> Iterator[Inside]:
    """The agent running inside the lab with ``stream`` to it."""
    kernel, _ = doctor.where(_say)
    end = ("--line", "/dev/ttyS0") if kernel == "uml" else ("--fd", str(stream.fileno()))
    job = Job(
        command=(sys.executable, "-m", "netns_lab.agent", *end, *options),
        directory=Path("/"),
        writable=(paths.build(),),
    )
    fds = (stream.fileno(),)
    if kernel == "uml":
        _say("booting user-mode Linux")
        with launcher.machine(job, _say, extra=(f"ssl0=fd:{stream.fileno()}",), fds=fds) as machine:
            yield Inside(kernel, machine.ended)
            _show_end(machine)
    else:
        with host.started(job, _say, fds) as process:
            yield Inside(kernel, lambda: process.poll() is not None)


def _show_end(machine: launcher.Machine) -> None:
    """What the agent said last, for the log of ``up``."""
    print((machine.folder / "stderr").read_text(errors="replace"), end="", file=sys.stderr)
    if not machine.booted():
        print(machine.console(), file=sys.stderr)


async def _keep(ours: socket.socket, inside: Inside) -> None:
    reader, writer = await asyncio.open_connection(sock=ours)
    relay = Relay(reader, writer)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if not await _while_running(relay.wait_agent(), inside):
        raise LabError("the lab ended while coming up")
    folder = state_file().parent
    # In /tmp, because the socket's path has at most 107 characters (unix(7)).
    path = Path(f"/tmp/qsgw-lab-{os.getpid()}.sock")  # noqa: S108 - mode 0600, see below
    before = os.umask(0o177)
    server = await asyncio.start_unix_server(relay.serve_terminal, path)
    os.umask(before)
    try:
        entry = Kept(pid=os.getpid(), socket=str(path), kernel=inside.kernel)
        fresh = folder / "up.json.new"
        fresh.write_text(json.dumps(asdict(entry)))
        fresh.rename(state_file())
        await _while_running(relay.from_agent(), inside)
    finally:
        server.close()
        state_file().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


async def _while_running(work: Coroutine[Any, Any, None], inside: Inside) -> bool:
    """Do ``work`` for as long as the lab runs; was it done? Raises what ``work`` raises."""
    task = asyncio.create_task(work)
    while not task.done() and not inside.ended():
        await asyncio.wait({task}, timeout=_WATCH_SECONDS)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.wait({task})
    return False


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


def main() -> int:
    ours, theirs = socket.socketpair()
    try:
        with _inside(theirs, options=sys.argv[1:]) as inside:
            theirs.close()
            asyncio.run(_keep(ours, inside))
    except LabError as error:
        print(f"qsgw-lab: {error}", file=sys.stderr, flush=True)
        return 1
    except asyncio.CancelledError:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
