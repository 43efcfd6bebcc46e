"""``qsgw-kme link``: the emulated QKD link as a process. It is all that two KMEs share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from qkd_adapters.control import Command, ControlServer
from qkd_adapters.errors import ControlRequestError
from qkd_adapters.link.config import LinkSettings
from qkd_adapters.link.recorder import KeyRecorder
from qkd_adapters.link.server import LinkServer
from qkd_adapters.link.source import EmulatedSource
from qkd_adapters.logs import EventLog

_log = EventLog("qsgw_kme.link")


def link_commands(source: EmulatedSource, server: LinkServer) -> dict[str, Command]:
    """What ``linkctl`` can ask of an emulated link."""

    def rate(words: Sequence[str]) -> object:
        try:
            source.set_rate(float(words[0]))
        except (IndexError, ValueError) as error:
            raise ControlRequestError(f"rate: {error}") from error
        return server.status()

    def simple(action: Callable[[], None]) -> Command:
        def run(_: Sequence[str]) -> object:
            action()
            return server.status()

        return run

    def suspect(words: Sequence[str]) -> object:
        since, text = _since(list(words))
        source.suspect(" ".join(text) or "eavesdropping suspected", since=since)
        return server.status()

    return {
        "cut": simple(source.cut),
        "heal": simple(source.heal),
        "clear": simple(source.clear),
        "rate": rate,
        "suspect": suspect,
        "status": lambda _: server.status(),
    }


def _since(words: list[str]) -> tuple[float, list[str]]:
    """Of ``[--since SECONDS] [TEXT...]``."""
    if words[:1] != ["--since"]:
        return 0.0, words
    try:
        since = float(words[1])
    except (IndexError, ValueError) as error:
        raise ControlRequestError("suspect: --since needs a number of seconds") from error
    if not 0 <= since < math.inf:
        raise ControlRequestError("suspect: --since needs seconds, 0 or more")
    return since, words[2:]


async def run_link(
    settings: LinkSettings, *, record_keys: Path | None, ready: asyncio.Event, stop: asyncio.Event
) -> None:
    """Serve until ``stop``. Raises KmeStartupError."""
    recorder = KeyRecorder(record_keys) if record_keys is not None else None
    source = EmulatedSource(rate=settings.rate)
    server = LinkServer(name=settings.name, sides=settings.sides, source=source, recorder=recorder)
    control = ControlServer(settings.control_socket, link_commands(source, server))
    try:
        await server.start()
        await control.start()
        _log.info("link-ready", link=settings.name, rate=settings.rate)
        ready.set()
        await server.serve_until(stop)
    finally:
        await control.stop()
        await server.stop()
        if recorder is not None:
            recorder.close()
