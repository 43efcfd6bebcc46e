"""The CLI's end of the control socket: blocking, standard library only, quick to import."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any, Self

from gateway.control.protocol import ANSWER_MAX, SCHEMA, ExitCode, Verb
from gateway.errors import ControlError

CONNECT_TIMEOUT = 3.0  # seconds
READ_TIMEOUT = 10.0  # seconds; a snapshot is made at once
WRITE_VERB_TIMEOUT = 70.0  # seconds; more than the server takes to give up

Json = dict[str, Any]


class ControlClient:
    """One connection. Use as a context manager; every failure is a ControlError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        self._socket.settimeout(CONNECT_TIMEOUT)
        try:
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise ControlError(self._why_unreachable(error), ExitCode.UNREACHABLE) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def snapshot(self) -> Json:
        """The daemon's Snapshot, as JSON."""
        result = self._request(Verb.SNAPSHOT, None, READ_TIMEOUT)
        if not isinstance(result, dict) or result.get("schema") != SCHEMA:
            raise ControlError(f"the daemon's snapshot is not of schema {SCHEMA}")
        return result

    def act(self, verb: Verb, tunnel: str | None = None) -> str:
        """Carry out a verb that changes something; returns the daemon's words."""
        return str(self._request(verb, tunnel, WRITE_VERB_TIMEOUT))

    def monitor(self) -> Iterator[Json]:
        """Events as they happen, until the daemon ends; then ControlError UNREACHABLE."""
        self._request(Verb.MONITOR, None, READ_TIMEOUT)
        self._socket.settimeout(None)
        while True:
            yield self._receive()["event"]

    def _request(self, verb: Verb, tunnel: str | None, timeout: float) -> object:
        request: Json = {"schema": SCHEMA, "verb": verb.value}
        if tunnel is not None:
            request["tunnel"] = tunnel
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise ControlError(self._why_unreachable(error), ExitCode.UNREACHABLE) from None
        answer = self._receive()
        if "error" in answer:
            raise ControlError(str(answer["error"]), int(answer.get("exit_code", ExitCode.FAILED)))
        return answer.get("result")

    def _receive(self) -> Json:
        line = self._read_line()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ControlError(f"{self._path}: what answers there is not qsgwd")
        if answer.get("schema") != SCHEMA:
            raise ControlError(
                f"the daemon speaks control schema {answer.get('schema')}, this qsgw {SCHEMA}: "
                "use the same version of both"
            )
        return answer

    def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > ANSWER_MAX:
                raise ControlError(f"{self._path}: answer over {ANSWER_MAX} octets")
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                raise ControlError("the daemon does not answer", ExitCode.UNREACHABLE) from None
            except OSError as error:
                raise ControlError(self._why_unreachable(error), ExitCode.UNREACHABLE) from None
            if not chunk:
                raise ControlError("the daemon hung up", ExitCode.UNREACHABLE)
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _why_unreachable(self, error: OSError) -> str:
        match error:
            case FileNotFoundError():
                return f"qsgwd is not running: there is no {self._path}"
            case ConnectionRefusedError():
                return f"qsgwd is not running: nobody listens on {self._path}"
            case PermissionError():
                return f"{self._path}: permission denied; be root or a member of the control group"
            case TimeoutError():
                return f"{self._path}: the daemon does not answer"
            case _:
                return f"{self._path}: {error.strerror or error}"
