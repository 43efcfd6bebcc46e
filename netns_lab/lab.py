"""The lab in use: a network that stands, daemons in its hosts, and what can happen to both.

    async with Lab.up("cut-and-heal", topology=SITE_TO_SITE) as lab:
        await lab.start("moon", ["qsgwd", "--config", file], name="qsgwd-moon")
        await lab.cut("moon", "isp")
        print((await lab.run("moon", ["ip", "xfrm", "state"])).stdout)

Only inside the lab's kernel and namespaces: see ``place``.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from netns_lab import artifacts, doctor, paths, process
from netns_lab.errors import LabError
from netns_lab.net import CUT, PERFECT, Impairment, Network
from netns_lab.process import START_SECONDS, Completed, Daemon, Readiness
from netns_lab.topology import SITE_TO_SITE, Topology

# Short, because a Unix socket's path has at most 107 characters (unix(7)); in memory.
RUNS = Path("/run/qsgw-lab")

_numbers = itertools.count(1)


class Lab:
    """A network of hosts. ``run_dir`` holds configurations, sockets, ``log`` and ``capture``."""

    def __init__(self, name: str, network: Network, run_dir: Path, post_mortem: Path) -> None:
        self.name = name
        self.post_mortem = post_mortem
        self.network = network
        self.run_dir = run_dir
        self.daemons: dict[str, Daemon] = {}
        self.collectors: list[Callable[[Path], Awaitable[None]]] = []

    @classmethod
    @asynccontextmanager
    async def up(
        cls, name: str, *, topology: Topology = SITE_TO_SITE, post_mortem: Path | None = None
    ) -> AsyncIterator[Lab]:
        """Build the network; at the end stop every daemon and take it down again.

        An exception on the way out leaves a post-mortem folder, named in a note on it:
        ``post_mortem``, or ``build/failed/NAME``.
        """
        if not doctor.inside():
            raise LabError("this runs inside the lab only; use qsgw-lab run, test or up")
        run = f"{os.getpid():x}{next(_numbers)}"
        run_dir = RUNS / run
        for part in ("log", "capture"):
            (run_dir / part).mkdir(parents=True)
        network = Network(topology, run)
        lab = cls(name, network, run_dir, post_mortem or paths.build() / "failed" / name)
        try:
            await network.build()
            yield lab
        except Exception as error:
            await lab.note_failure(error)
            raise
        finally:
            await lab.stop_all()
            await network.destroy()
            shutil.rmtree(run_dir, ignore_errors=True)

    @property
    def log_dir(self) -> Path:
        return self.run_dir / "log"

    @property
    def capture_dir(self) -> Path:
        """Packet captures go here: a post-mortem takes them along."""
        return self.run_dir / "capture"

    def namespace(self, host: str) -> str:
        return self.network.namespace(host)

    async def start(
        self,
        host: str,
        command: Sequence[str],
        *,
        name: str,
        ready: Readiness = "notify",
        environment: Mapping[str, str] | None = None,
        timeout: float = START_SECONDS,
    ) -> Daemon:
        """Start a daemon and return when it is ready; ``lab.daemons[name]`` from then on.

        A name may be used again once its daemon has ended: the log goes on in one file.
        Raises NotReadyError with the log's tail.
        """
        if name in self.daemons and self.daemons[name].alive:
            raise LabError(f"{name} is running already")
        log = self.log_dir / f"{name}.log"
        daemon = Daemon(name=name, host=host, command=tuple(command), log=log)
        await daemon.start(
            self.namespace(host), ready=ready, environment=environment or {}, timeout=timeout
        )
        self.daemons[name] = daemon
        return daemon

    async def run(
        self, host: str, command: Sequence[str], *, text: str = "", timeout: float = 30.0
    ) -> Completed:
        """Run a command to its end; whether it failed is for the caller to see (``check()``)."""
        return await process.run(self.namespace(host), command, text=text, timeout=timeout)

    async def popen(
        self, host: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """Start a command with pipes on its streams; the caller ends it."""
        return await process.popen(self.namespace(host), command, environment=environment)

    async def cut(self, first: str, second: str) -> None:
        """Lose every packet between two hosts, silently, both ways."""
        await self.network.impair(first, second, CUT)

    async def heal(self, first: str, second: str) -> None:
        await self.network.impair(first, second, PERFECT)

    async def impair(self, first: str, second: str, impairment: Impairment) -> None:
        await self.network.impair(first, second, impairment)

    def check_alive(self) -> None:
        """Raises LabError with its log's tail if a daemon ended that nobody ended."""
        for daemon in self.daemons.values():
            if not daemon.alive and not daemon.ended_by_us:
                raise LabError(f"{daemon.name} died\n{daemon.log_tail()}")

    async def stop_all(self) -> None:
        """Stop every daemon, the last one started first."""
        for daemon in reversed(self.daemons.values()):
            with suppress(LabError):
                await daemon.stop()

    async def collect(self, folder: Path) -> None:
        """Write the state of everything into ``folder``."""
        await artifacts.collect(self.network, self.run_dir, folder)
        for collector in self.collectors:
            await collector(folder)

    async def note_failure(self, error: BaseException) -> Path:
        """Leave a post-mortem and say where in a note on ``error``."""
        folder = self.post_mortem
        try:
            shutil.rmtree(folder, ignore_errors=True)
            await self.collect(folder)
        except (LabError, OSError) as trouble:
            error.add_note(f"post-mortem incomplete: {trouble}")
        error.add_note(f"post-mortem: {folder}")
        return folder
