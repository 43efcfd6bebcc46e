"""A terminal's side of ``qsgw-lab up``: brings the lab up, runs commands in it, takes it down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from netns_lab import keeper, paths
from netns_lab.channel import Decoder, Frame, Kind, encode
from netns_lab.errors import LabError
from netns_lab.keeper import Kept
from netns_lab.tools import Say

_READ = 64 * 1024
_POLL_SECONDS = 0.1
_DOWN_SECONDS = 30.0


def up(say: Say, options: Sequence[str]) -> Kept:
    """Bring a lab up in the background and return when it stands. ``options``: of the agent."""
    if keeper.kept() is not None:
        raise LabError("a lab is up already; qsgw-lab status shows it, qsgw-lab down ends it")
    log = paths.build() / "lab" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "netns_lab.keeper", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    say(f"bringing the lab up; log in {log}")
    try:
        return _wait_up(process, log)
    except BaseException:
        process.terminate()
        raise


def _wait_up(process: subprocess.Popen[bytes], log: Path) -> Kept:
    while process.poll() is None:
        found = keeper.kept()
        if found is not None and found.pid == process.pid:
            return found
        time.sleep(_POLL_SECONDS)
    raise LabError(f"the lab did not come up:\n{log.read_text(errors='replace').strip()}")


def down() -> None:
    """Take the lab down; end its keeper by its process id where it does not obey."""
    lab = _lab()
    try:
        asyncio.run(_converse(lab, {"do": "down"}, timeout=_DOWN_SECONDS))
    except (LabError, TimeoutError):
        with suppress(ProcessLookupError):
            os.kill(lab.pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_SECONDS
    while Path(f"/proc/{lab.pid}").exists():
        if time.monotonic() > deadline:
            os.kill(lab.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def status() -> dict[str, Any]:
    """Hosts, addresses and daemons of the lab that is up."""
    answer, text = asyncio.run(_converse(_lab(), {"do": "status"}, timeout=_DOWN_SECONDS))
    if answer is not Kind.ANSWER:
        raise LabError(text)
    found: dict[str, Any] = json.loads(text)
    return found


def execute(host: str, command: tuple[str, ...]) -> int:
    """Run a command in ``host`` with our standard streams; its exit code.

    In a terminal of its own when we are at one.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    request = {"do": "exec", "host": host, "command": command, "terminal": terminal}
    with _raw(terminal=terminal):
        last, text = asyncio.run(_converse(_lab(), request, interactive=True))
    if last is not Kind.EXIT:
        raise LabError(text)
    return int(text)


def _lab() -> Kept:
    lab = keeper.kept()
    if lab is None:
        raise LabError("no lab is up; start one with: qsgw-lab up")
    return lab


@contextmanager
def _raw(*, terminal: bool) -> Iterator[None]:
    """Our terminal passes every key through, if it is to be one; as it was afterwards."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def _converse(
    lab: Kept, request: dict[str, Any], *, interactive: bool = False, timeout: float | None = None
) -> tuple[Kind, str]:
    """Kind and text of the frame that ends the conversation."""
    reader, writer = await asyncio.open_unix_connection(lab.socket)
    tasks: list[asyncio.Task[None]] = []
    try:
        writer.write(encode(Frame(Kind.REQUEST, 0, json.dumps(request).encode())))
        if interactive:
            _forward_signals(writer, terminal=request["terminal"])
            tasks.append(asyncio.create_task(_forward_input(writer)))
        async with asyncio.timeout(timeout):
            return await _show_output(reader)
    finally:
        for task in tasks:
            task.cancel()
        writer.close()


async def _show_output(reader: asyncio.StreamReader) -> tuple[Kind, str]:
    decoder = Decoder()
    while data := await reader.read(_READ):
        for frame in decoder.feed(data):
            match frame.kind:
                case Kind.STDOUT:
                    sys.stdout.buffer.write(frame.payload)
                    sys.stdout.buffer.flush()
                case Kind.STDERR:
                    sys.stderr.buffer.write(frame.payload)
                    sys.stderr.buffer.flush()
                case kind:
                    return kind, frame.payload.decode(errors="replace")
    raise LabError("the lab went down")


async def _forward_input(writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    try:
        loop.add_reader(sys.stdin.fileno(), arrived.set)
    except (PermissionError, ValueError):
        # A file or /dev/null, always readable: epoll(7) does not take them.
        writer.write(encode(Frame(Kind.STDIN, 0, sys.stdin.buffer.read())))
        writer.write(encode(Frame(Kind.STDIN, 0)))
        return
    try:
        while True:
            await arrived.wait()
            arrived.clear()
            data = os.read(sys.stdin.fileno(), _READ)
            writer.write(encode(Frame(Kind.STDIN, 0, data)))
            await writer.drain()
            if not data:
                return
    finally:
        loop.remove_reader(sys.stdin.fileno())


def _forward_signals(writer: asyncio.StreamWriter, *, terminal: bool) -> None:
    loop = asyncio.get_running_loop()

    def pass_on(number: signal.Signals) -> None:
        writer.write(encode(Frame(Kind.SIGNAL, 0, str(int(number)).encode())))

    def resized() -> None:
        size = os.get_terminal_size(sys.stdin.fileno())
        writer.write(encode(Frame(Kind.SIZE, 0, f"{size.lines} {size.columns}".encode())))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, pass_on, number)
    if terminal:
        loop.add_signal_handler(signal.SIGWINCH, resized)
        resized()


def describe(status: dict[str, Any]) -> str:
    """The status for people."""
    place = {"host": "on the host's kernel", "uml": "in user-mode Linux"}[status["kernel"]]
    lines = [f"up {place} (Linux {status['release']})", ""]
    lines += [f"{host['name']:<10}{'  '.join(host['addresses'])}" for host in status["hosts"]]
    rows = [("daemon", "host", "pid", "state")]
    rows += [
        (
            daemon["name"],
            daemon["host"],
            str(daemon["pid"]),
            (daemon["status"] or "running") if daemon["alive"] else "ended",
        )
        for daemon in status["daemons"]
    ]
    if len(rows) > 1:
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines.append("")
        lines += [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    return "\n".join(lines)
