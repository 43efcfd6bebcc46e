"""Processes in a host of the lab: commands that end, and daemons with a log and a readiness."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from netns_lab.errors import LabError, NotReadyError
from netns_lab.readiness import Listening, NotifySocket, listens, wait_until

Readiness = Literal["notify"] | Listening | None

START_SECONDS = 30.0
STOP_SECONDS = 10.0
LOG_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended."""

    command: tuple[str, ...]
    code: int  # negative: the signal that ended it
    stdout: str
    stderr: str

    def check(self) -> Completed:
        """Raises LabError if the command failed."""
        if self.code != 0:
            said = (self.stderr or self.stdout).strip()
            raise LabError(f"{shlex.join(self.command)}: exit code {self.code}: {said}")
        return self


def in_namespace(namespace: str, command: Sequence[str]) -> list[str]:
    return ["ip", "netns", "exec", namespace, *command]


async def run(
    namespace: str, command: Sequence[str], *, text: str = "", timeout: float = 30.0
) -> Completed:
    """Run ``command`` to its end. Raises LabError when it takes longer than ``timeout`` s."""
    done = await finish(in_namespace(namespace, command), text=text, timeout=timeout)
    return replace(done, command=tuple(command))


async def finish(command: Sequence[str], *, text: str = "", timeout: float = 30.0) -> Completed:
    """``run``, in no host's namespace."""
    process = await _piped(command)
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(text.encode())
    except TimeoutError as error:
        raise LabError(f"{shlex.join(command)}: not finished after {timeout:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Completed(
        command=tuple(command),
        code=process.returncode or 0,
        stdout=out.decode(errors="replace"),
        stderr=err.decode(errors="replace"),
    )


async def popen(
    namespace: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start ``command`` with pipes on all three of its streams."""
    return await _piped(in_namespace(namespace, command), environment)


async def _piped(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )


class Daemon:
    """A long-running process of one host. Its output goes to ``log``."""

    def __init__(self, *, name: str, host: str, command: tuple[str, ...], log: Path) -> None:
        self.name = name
        self.host = host
        self.command = command
        self.log = log
        self.code: int | None = None  # once it ended
        self.ended_by_us = False
        self._process: asyncio.subprocess.Process | None = None
        self._notify: NotifySocket | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise LabError(f"{self.name} was not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def status(self) -> str:
        """The last STATUS= it sent to its notify socket."""
        return self._notify.status if self._notify else ""

    def log_tail(self, lines: int = LOG_LINES) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def start(
        self,
        namespace: str,
        *,
        ready: Readiness,
        environment: Mapping[str, str],
        timeout: float = START_SECONDS,
    ) -> None:
        """Start it and return when it is ready. Raises NotReadyError, having ended it."""
        variables = {**os.environ, **environment}
        if ready == "notify":
            self._notify = NotifySocket(self.log.with_suffix(".notify"))
            variables["NOTIFY_SOCKET"] = str(self._notify.path)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *in_namespace(namespace, self.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
            )
        try:
            await self._wait_ready(ready, timeout)
        except BaseException:
            await self.kill()
            raise

    async def _wait_ready(self, ready: Readiness, timeout: float) -> None:
        if ready is None:
            return
        waits = [asyncio.create_task(self._signs(ready)), asyncio.create_task(self._ended())]
        started = time.monotonic()
        done, rest = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if waits[0] in done:
            return
        took = time.monotonic() - started
        what = f"ended with code {self.code}" if waits[1] in done else "is not ready"
        raise NotReadyError(f"{self.name} {what} after {took:.1f} s\n{self.log_tail()}")

    async def _signs(self, ready: Literal["notify"] | Listening) -> None:
        if isinstance(ready, Listening):
            why = f"{self.name} listens on port {ready.port}"
            await wait_until(lambda: listens(self.pid, ready.port), float("inf"), why)
        elif self._notify is not None:
            await self._notify.wait_ready()

    async def _ended(self) -> None:
        if self._process is not None:
            self.code = await self._process.wait()

    async def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Its exit code, once it ends by itself. Raises LabError when it does not."""
        try:
            async with asyncio.timeout(timeout):
                await self._ended()
        except TimeoutError as error:
            raise LabError(f"{self.name} still runs after {timeout:g} s") from error
        return -1 if self.code is None else self.code

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)

    async def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL where that does not help; its exit code, -9 if killed."""
        self.ended_by_us = True
        self.signal(signal.SIGTERM)
        with suppress(LabError):
            return self._close(await self.wait(timeout))
        return await self.kill()

    async def kill(self) -> int:
        """SIGKILL, as a crash would end it; -9 unless it had ended before."""
        self.ended_by_us = True
        self.signal(signal.SIGKILL)
        return self._close(await self.wait())

    def _close(self, code: int) -> int:
        if self._notify is not None:
            self._notify.close()
            self._notify = None
        return code
