"""A control server with a daemon that is only pretended."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.control import cli
from gateway.control.protocol import ExitCode
from gateway.control.server import ControlServer
from gateway.errors import ConfigError, ConfigProblem, ControlError
from gateway.model import Snapshot, StatusEvent
from tests.support.snapshots import snapshot


class PretendDaemon:
    def __init__(self) -> None:
        self.current = snapshot()
        self.calls: list[str] = []
        self.subscribers: set[asyncio.Queue[StatusEvent]] = set()
        self.left = 0

    async def snapshot(self) -> Snapshot:
        return self.current

    async def initiate(self, tunnel: str) -> str:
        if tunnel not in {view.name for view in self.current.tunnels}:
            raise ControlError(f"no tunnel named {tunnel}", ExitCode.NOT_FOUND)
        self.calls.append(f"initiate {tunnel}")
        return f"{tunnel}: setting up"

    async def terminate(self, tunnel: str) -> str:
        raise RuntimeError("a bug")

    async def rekey(self, tunnel: str) -> str:
        self.calls.append(f"rekey {tunnel}")
        return f"{tunnel}: rekeying"

    async def rekey_sak(self, link: str) -> str:
        found = {view.name: view for view in self.current.macsec}.get(link)
        if found is None:
            raise ControlError(f"no MACsec link named {link}", ExitCode.NOT_FOUND)
        if not found.we_are_key_server:
            raise ControlError(f"{link}: the peer is key server")
        self.calls.append(f"rekey-sak {link}")
        return f"{link}: a new SAK is made"

    async def reload(self) -> str:
        problem = ConfigProblem("tunnel.sun", "psk", "is empty")
        raise ConfigError("/etc/qsgw/qsgw.toml", (problem,))

    async def subscribe(self) -> AsyncIterator[StatusEvent]:
        queue: asyncio.Queue[StatusEvent] = asyncio.Queue()
        self.subscribers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.subscribers.discard(queue)
            self.left += 1

    def publish(self, event: StatusEvent) -> None:
        for queue in self.subscribers:
            queue.put_nowait(event)


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def qsgw(capsys: pytest.CaptureFixture[str]) -> Any:
    async def run(*argv: str | Path) -> Result:
        def call() -> int:
            with pytest.raises(SystemExit) as exit_:
                cli.main([str(word) for word in argv])
            return int(exit_.value.code or 0)

        code = await asyncio.to_thread(call)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def daemon() -> PretendDaemon:
    return PretendDaemon()


@pytest.fixture
async def server(daemon: PretendDaemon, tmp_path: Path) -> AsyncIterator[Any]:
    server = ControlServer(daemon, path=tmp_path / "run" / "control.sock")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def path(server: Any, tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"
