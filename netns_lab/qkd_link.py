"""A QKD link that devices feed, running in a lab: channel, Alice, Bob, and who sits between.

async with Site.up("attack", SiteOptions(devices={"link": DeviceLink()})) as site:
    link = site.devices["link"]
    await link.attack("intercept-resend", "fraction=0.2")
    print((await link.status())["alarms"])
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from netns_lab import control, qkd_files
from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.process import Daemon
from netns_lab.qkd_files import DeviceLink
from netns_lab.site_files import Kme

Json = dict[str, Any]
Role = Literal["alice", "bob"]

# numpy is slow to load in user-mode Linux, and up to eight processes do it side by side.
_START_SECONDS = 120.0

MITM = "classical-mitm"
DOS = "classical-dos"
CLASSICAL = {
    MITM: "somebody in the middle changes one bit of what Alice says",
    DOS: "somebody in the middle holds back what is said: seconds=S each piece, none = all",
}
"""Attacks on the classical channel; those on the light are the channel's."""


class QkdLink:
    """Processes are named after the link: ``link-channel``, ``link-tap``, ``link-alice``, ..."""

    def __init__(
        self, lab: Lab, name: str, options: DeviceLink, kmes: Iterable[Kme], folder: Path
    ) -> None:
        self.name = name
        self.folder = folder
        self._lab = lab
        self._options = options
        self._kmes = {kme.gateway: kme for kme in kmes if kme.link == name}

    @property
    def preset(self) -> str:
        return self._options.preset

    @property
    def recorded_keys(self) -> Path:
        """Every key its devices made, with its key_ID."""
        return self.folder / "keys"

    async def write_files(self) -> None:
        command = qkd_files.pair_command(self._options, self.folder)
        (await self._lab.run("kme-moon", command, timeout=_START_SECONDS)).check()
        text = qkd_files.channel_file(self._options, self.name, self.folder)
        (self.folder / "channel.toml").write_text(text)
        for role, gateway in (("alice", "moon"), ("bob", "sun")):
            kme = self._kmes[gateway]  # type: ignore[index]
            text = qkd_files.device_file(self._options, self.name, self.folder, kme)
            (self.folder / f"{role}.toml").write_text(text)

    # --- processes ---

    async def start(self) -> Daemon:
        """Alice's daemon; ends with all of them running, in whatever order they came."""
        jobs = [self.start_channel(), self.start_device("bob")]
        if self._options.tap:
            jobs.append(self.start_tap())
        alice, *_ = await asyncio.gather(self.start_device("alice"), *jobs)
        return alice

    async def start_channel(self) -> Daemon:
        config = str(self.folder / "channel.toml")
        command = ["qsgw-kme", "channel", "--config", config]
        return await self._start("kme-moon", command, "channel")

    async def start_tap(self) -> Daemon:
        command = [sys.executable, "-m", "netns_lab.wiretap"]
        command += qkd_files.wiretap_words(self.name, self.folder)
        return await self._start("kme-moon", command, "tap")

    async def start_device(self, role: Role) -> Daemon:
        command = ["qsgw-kme", "device", "--config", str(self.folder / f"{role}.toml")]
        if role == "alice":
            command += ["--record-keys", str(self.recorded_keys)]
        return await self._start("kme-moon" if role == "alice" else "kme-sun", command, role)

    async def _start(self, host: str, command: list[str], name: str) -> Daemon:
        # They compute much; on one CPU the gateways must not wait for them.
        return await self._lab.start(
            host,
            ["nice", "-n", "10", *command],
            name=f"{self.name}-{name}",
            environment={"QSGW_LAB": "1"},
            timeout=_START_SECONDS,
        )

    # --- asking and acting ---

    async def status(self, role: Role = "alice") -> Json:
        """As ``qsgw-kme devicectl status --json``."""
        answer: Json = await control.key_side(self.folder / f"{role}.sock", "status")
        return answer

    async def channel(self, *words: str) -> Json:
        """``attack``, ``stop``, ``script TEXT``, ``drift``, ``loss``, ``cut``, ``heal``, ..."""
        answer: Json = await control.key_side(self.folder / "channel.sock", *words)
        return answer

    async def tap(self, *words: str) -> Json:
        """``flip``, ``delay``, ``stall``, ``cut``, ``pass``, ``status``: see ``wiretap``."""
        answer: Json = await control.key_side(self.folder / "tap.sock", *words)
        return answer

    async def attack(self, name: str, *words: str) -> Json:
        """An attack on the light or on the classical channel."""
        if name not in CLASSICAL:
            return await self.channel("attack", name, *words)
        if name == MITM:
            return await self.tap("flip")
        return await self.tap(*_dos(words))

    async def stop(self, name: str | None = None) -> Json:
        """End one attack, or all."""
        if name in CLASSICAL:
            return await self.tap("pass")
        if name is not None:
            return await self.channel("stop", name)
        if self._options.tap:
            await self.tap("pass")
        return await self.channel("stop")

    def telemetry(self) -> list[Json]:
        """What Alice saw of each block so far."""
        path = self.folder / "telemetry.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]


def _dos(words: tuple[str, ...]) -> tuple[str, ...]:
    match words:
        case ():
            return ("stall",)
        case (word,) if word.startswith("seconds="):
            return ("delay", word.removeprefix("seconds="))
        case _:
            raise LabError(f"{DOS}: {' '.join(words)!r} is not seconds=S")
