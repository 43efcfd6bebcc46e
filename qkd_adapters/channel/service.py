"""``qsgw-kme channel``: plays the optics between two devices. SIMULATED, all of it.

It is the only process that knows what an attacker does. Devices get records from it over
connections that carry nothing the other way; its control socket is for who runs the lab.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from qkd_adapters.channel.config import ChannelSettings
from qkd_adapters.channel.feed import Feed
from qkd_adapters.channel.player import Player
from qkd_adapters.channel.script import Timeline, parse_script
from qkd_adapters.control import Command, ControlServer
from qkd_adapters.errors import ControlRequestError
from qkd_adapters.logs import EventLog
from qkd_adapters.optics.attacks import FibreCut
from qkd_adapters.records import Record, Role
from qkd_adapters.tasks import until_stopped

_log = EventLog("qsgw_kme.channel")


class Channel:
    """``start`` and ``stop`` once each."""

    def __init__(self, settings: ChannelSettings) -> None:
        """Raises KmeStartupError."""
        self._settings = settings
        self.player = Player(settings)
        self.feeds = {role: Feed(role, address) for role, address in settings.feeds}
        self._script: Timeline | None = None
        self._actions: dict[str, Command] = {
            "attack": self._attack,
            "stop": self._stop,
            "drift": self._drift,
            "loss": self._loss,
            "cut": lambda _: self._attack([FibreCut.name]),
            "heal": lambda _: self._stop([FibreCut.name]),
        }
        self._control = ControlServer(
            settings.control_socket,
            {**self._actions, "script": self._run_script, "status": lambda _: self.status()},
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises KmeStartupError."""
        for feed in self.feeds.values():
            await feed.start()
        await self._control.start()
        self._tasks = [asyncio.create_task(self._play(), name="channel-play")]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._control.stop()
        for feed in self.feeds.values():
            await feed.stop()

    async def serve_until(self, stop: asyncio.Event) -> None:
        await until_stopped(stop, self._tasks)

    def status(self) -> dict[str, object]:
        return {
            "name": self._settings.name,
            **self.player.status(),
            "interval": self._settings.interval,
            "script_steps_left": self._script.left if self._script is not None else 0,
            "devices": {
                role.value: {"connected": feed.connected, "sent": feed.sent, "lost": feed.lost}
                for role, feed in self.feeds.items()
            },
        }

    # --- the light ---

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._follow_script()
            alice, bob = await asyncio.to_thread(self.player.next)
            self._emit(alice, bob)
            due = max(due + self._settings.interval, loop.time())
            await asyncio.sleep(due - loop.time())

    def _emit(self, alice: Record, bob: Record) -> None:
        for role, record in ((Role.ALICE, alice), (Role.BOB, bob)):
            self.feeds[role].send(record)

    def _follow_script(self) -> None:
        if self._script is None:
            return
        for name, *words in self._script.due(self.player.clock):
            try:
                self._actions[name](words)
            except ControlRequestError as error:
                _log.warning("script-step-failed", step=" ".join([name, *words]), reason=str(error))
        if not self._script.left:
            self._script = None

    # --- what the control socket can ask ---

    def _attack(self, words: Sequence[str]) -> object:
        if not words:
            raise ControlRequestError("attack: which?")
        _checked(lambda: self.player.attack(words[0], words[1:]))
        _log.info("attack-started", attack=" ".join(words), block=self.player.block)
        return self.status()

    def _stop(self, words: Sequence[str]) -> object:
        _checked(lambda: self.player.stop(words[0] if words else None))
        _log.info("attack-stopped", attack=" ".join(words) or "all", block=self.player.block)
        return self.status()

    def _drift(self, words: Sequence[str]) -> object:
        _checked(lambda: self.player.set_drift(" ".join(words)))
        return self.status()

    def _loss(self, words: Sequence[str]) -> object:
        _checked(lambda: self.player.set_loss(float(" ".join(words))))
        return self.status()

    def _run_script(self, words: Sequence[str]) -> object:
        steps = parse_script(" ".join(words))
        for number, step in enumerate(steps, start=1):
            if step.words[0] not in self._actions:
                raise ControlRequestError(f"step {number}: {step.words[0]!r} is nothing to do")
        self._script = Timeline(steps, self.player.clock)
        return self.status()


def _checked(action: Callable[[], None]) -> None:
    try:
        action()
    except ValueError as error:
        raise ControlRequestError(str(error)) from error


async def run_channel(
    settings: ChannelSettings, *, ready: asyncio.Event, stop: asyncio.Event
) -> None:
    """Serve until ``stop``. Raises KmeStartupError."""
    channel = Channel(settings)
    try:
        await channel.start()
        _log.info("channel-ready", channel=settings.name, model=settings.preset)
        ready.set()
        await channel.serve_until(stop)
    finally:
        await channel.stop()
