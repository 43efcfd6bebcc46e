"""Asks running gateways, KMEs and links over their control sockets.

Each speaks one JSON object per line each way, the protocol behind ``qsgw --json`` and
``qsgw-kme linkctl``. Scenarios poll through this, because a process per question is slow;
what users see of those commands is tested through the commands.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from netns_lab.errors import LabError

SCHEMA = 1
ANSWER_MAX = 16 * 1024 * 1024  # octets in a line
ANSWER_SECONDS = 75.0  # "terminate" may wait for a peer that does not answer

Json = dict[str, Any]


class ControlError(LabError):
    """A daemon refused a request, or does not run."""


async def snapshot(socket: Path) -> Json:
    """The gateway's status, as in ``qsgw --json status``."""
    result = await _ask(socket, {"schema": SCHEMA, "verb": "snapshot"})
    if not isinstance(result, dict):
        raise ControlError(f"{socket}: the snapshot is not an object")
    return result


async def act(socket: Path, verb: str, tunnel: str | None = None) -> str:
    """Carry out a verb that changes something; the gateway's words."""
    request: Json = {"schema": SCHEMA, "verb": verb}
    if tunnel is not None:
        request["tunnel"] = tunnel
    return str(await _ask(socket, request))


async def key_side(socket: Path, *words: str) -> Any:
    """A command to a KME or a link, as ``qsgw-kme kmectl`` and ``linkctl`` send it."""
    return await _ask(socket, {"words": words})


async def events(socket: Path) -> AsyncIterator[Json]:
    """Status events as they happen, until the gateway ends or the caller stops."""
    reader, writer = await _connect(socket)
    try:
        await _send(writer, {"schema": SCHEMA, "verb": "monitor"})
        _result(socket, await reader.readline())
        while line := await reader.readline():
            yield json.loads(line)["event"]
    finally:
        writer.close()


async def _ask(socket: Path, request: Json) -> Any:
    reader, writer = await _connect(socket)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await _send(writer, request)
            return _result(socket, await reader.readline())
    except (TimeoutError, ConnectionError) as error:
        raise ControlError(f"{socket}: {error or 'no answer'}") from error
    finally:
        writer.close()


async def _connect(socket: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(str(socket), limit=ANSWER_MAX)
    except OSError as error:
        raise ControlError(f"{socket}: {error.strerror}") from error


async def _send(writer: asyncio.StreamWriter, request: Json) -> None:
    writer.write(json.dumps(request).encode() + b"\n")
    await writer.drain()


def _result(socket: Path, line: bytes) -> Any:
    if not line:
        raise ControlError(f"{socket}: the daemon hung up")
    answer = json.loads(line)
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer.get("result")
