"""Control sockets of the link and the KME: one JSON line in, one JSON line out.

Request ``{"words": ["rate", "5"]}``; answer ``{"ok": true, "result": ...}`` or
``{"ok": false, "error": "..."}``. The socket has mode 0600: who may use it may do anything.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qkd_adapters.address import UnixAddress, listen, parse_address, remove_socket
from qkd_adapters.errors import ControlRequestError

_MAX_LINE = 64 * 1024
_CLIENT_TIMEOUT = 5.0  # seconds

# Takes the words after the command, gives something JSON can hold.
Command = Callable[[Sequence[str]], object]


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: list[str]


class _Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    ok: bool
    result: Any = None
    error: str = ""


class ControlServer:
    """Serves a table of commands. A command refuses by raising ControlRequestError."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self._address = parse_address(f"unix:{path.absolute()}")
        self._commands = commands
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises KmeStartupError."""
        self._server = await listen(self._address, self._serve)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            remove_socket(self._address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            writer.write(msgspec.json.encode(self._answer(line)) + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client left, or sent a line without end
        finally:
            writer.close()

    def _answer(self, line: bytes) -> _Answer:
        try:
            name, *words = msgspec.json.decode(line, type=_Request).words or [""]
            command = self._commands.get(name)
            if command is None:
                return _Answer(ok=False, error=f"unknown command {name!r}")
            return _Answer(ok=True, result=command(words))
        except (ControlRequestError, msgspec.DecodeError) as error:
            return _Answer(ok=False, error=str(error))


def request(path: str, words: Sequence[str]) -> Any:
    """One request from a command-line tool. Raises ControlRequestError."""
    try:
        address = parse_address(f"unix:{Path(path).absolute()}")
        assert isinstance(address, UnixAddress)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_CLIENT_TIMEOUT)
            sock.connect(address.path)
            sock.sendall(msgspec.json.encode(_Request(list(words))) + b"\n")
            line = sock.makefile("rb").readline(_MAX_LINE * 16)
        answer = msgspec.json.decode(line, type=_Answer)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ControlRequestError(f"no answer from {path}: {reason}") from error
    if not answer.ok:
        raise ControlRequestError(answer.error)
    return answer.result
