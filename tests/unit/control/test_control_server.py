"""The control socket: protocol, rights, bounds, and clients that misbehave."""
# ruff: noqa: ASYNC240  (a test may wait for its own temporary folder)

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control import server as server_module
from gateway.control.access import Peer, peer_of
from gateway.control.listener import control_gid, open_listener
from gateway.control.protocol import REQUEST_MAX
from gateway.control.server import CLIENTS_MAX, ControlServer
from gateway.errors import StartupError
from tests.support.snapshots import event

LINE_MAX = 1 << 20
STOP_TURNS = 10  # of the event loop: cancel, close the generator, leave, gather


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(path, limit=LINE_MAX)


async def ask(path: Path, **request: Any) -> dict[str, Any]:
    reader, writer = await connect(path)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
        return answer
    finally:
        writer.close()


async def test_snapshot(path: Path) -> None:
    answer = await ask(path, schema=1, verb="snapshot")
    assert answer["schema"] == 1
    assert answer["result"]["tunnels"][0]["name"] == "sun"


async def test_several_requests_on_one_connection(path: Path) -> None:
    reader, writer = await connect(path)
    for _ in range(3):
        writer.write(b'{"schema":1,"verb":"snapshot"}\n')
        assert b'"result"' in await reader.readline()
    writer.close()


async def test_write_verbs_reach_the_daemon(path: Path, daemon: Any) -> None:
    answer = await ask(path, schema=1, verb="rekey", tunnel="sun")
    assert answer == {"schema": 1, "result": "sun: rekeying"}
    assert daemon.calls == ["rekey sun"]


@pytest.mark.parametrize(
    ("request_", "exit_code", "words"),
    [
        ({"schema": 1, "verb": "initiate", "tunnel": "mars"}, 4, "no tunnel named mars"),
        ({"schema": 1, "verb": "reload"}, 1, "[tunnel.sun] psk: is empty"),
        ({"schema": 1, "verb": "terminate", "tunnel": "sun"}, 1, "internal error"),
        ({"schema": 2, "verb": "snapshot"}, 2, "control schema 1, not 2"),
        ({"schema": 1, "verb": "dance"}, 2, "dance"),
        ({"schema": 1, "verb": "rekey"}, 2, "takes a tunnel"),
        ({"schema": 1, "verb": "reload", "tunnel": "sun"}, 2, "takes no tunnel"),
        ({"schema": 1, "verb": "snapshot", "depth": 3}, 2, "depth"),
        ({}, 2, "bad request"),
    ],
)
async def test_errors(path: Path, request_: dict[str, Any], exit_code: int, words: str) -> None:
    answer = await ask(path, **request_)
    assert answer["exit_code"] == exit_code
    assert words in answer["error"]
    assert (await ask(path, schema=1, verb="snapshot"))["result"]  # the server lives on


@pytest.mark.parametrize("line", [b"\n", b"{}{}\n", b"\xff\xfe\n", b"[1]\n", b'"x"\n'])
async def test_garbage_is_answered_with_an_error(path: Path, line: bytes) -> None:
    reader, writer = await connect(path)
    writer.write(line)
    assert json.loads(await reader.readline())["exit_code"] == 2
    writer.close()


async def test_an_endless_line_is_cut_off(path: Path) -> None:
    reader, writer = await connect(path)
    writer.write(b"x" * (REQUEST_MAX * 4))
    assert "too long" in json.loads(await reader.readline())["error"]
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_hangs_up_midway_harms_nobody(path: Path) -> None:
    _, writer = await connect(path)
    writer.write(b'{"schema"')
    writer.transport.abort()
    assert (await ask(path, schema=1, verb="snapshot"))["result"]


async def test_clients_are_bounded(path: Path) -> None:
    connections = [await connect(path) for _ in range(CLIENTS_MAX)]
    for reader, writer in connections:  # all are served
        writer.write(b'{"schema":1,"verb":"snapshot"}\n')
        await reader.readline()
    reader, writer = await connect(path)
    assert "too many clients" in json.loads(await reader.readline())["error"]
    writer.close()
    for _, other in connections:
        other.close()
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while "result" not in await ask(path, schema=1, verb="snapshot"):
            pass


async def test_an_idle_client_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_TIMEOUT", 0.01)
    reader, writer = await connect(path)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


# --- monitor ---------------------------------------------------------------------------------


async def test_monitor_streams_events_until_the_client_leaves(path: Path, daemon: Any) -> None:
    reader, writer = await connect(path)
    writer.write(b'{"schema":1,"verb":"monitor"}\n')
    assert json.loads(await reader.readline()) == {"schema": 1, "result": "monitoring"}
    await until(lambda: bool(daemon.subscribers))
    daemon.publish(event())
    assert json.loads(await reader.readline())["event"]["type"] == "child-up"
    writer.close()
    await until(lambda: daemon.left == 1)
    assert not daemon.subscribers


async def test_a_monitor_that_does_not_read_is_dropped(path: Path, daemon: Any) -> None:
    _, slow = await connect(path)
    slow.transport.pause_reading()  # type: ignore[attr-defined]
    slow.write(b'{"schema":1,"verb":"monitor"}\n')
    await until(lambda: bool(daemon.subscribers))
    big = event(text="x" * 10_000)

    def flood() -> bool:
        for _ in range(20):
            daemon.publish(big)
        return bool(daemon.left)

    await until(flood)
    assert (await ask(path, schema=1, verb="snapshot"))["result"]
    slow.close()


# --- rights ----------------------------------------------------------------------------------


def test_who_may_write() -> None:
    other = Peer(pid=1, uid=54321, groups=frozenset({7, 8}))
    assert not other.may_write(None)
    assert not other.may_write(9)
    assert other.may_write(8)
    assert Peer(pid=1, uid=0, groups=frozenset()).may_write(None)
    assert Peer(pid=1, uid=os.geteuid(), groups=frozenset()).may_write(None)


def test_the_kernel_says_who_the_peer_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


async def test_others_may_read_and_not_write(
    path: Path, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Peer(pid=1, uid=54321, groups=frozenset())
    monkeypatch.setattr(server_module, "peer_of", lambda _: stranger)
    assert (await ask(path, schema=1, verb="snapshot"))["result"]
    for request in ({"verb": "rekey", "tunnel": "sun"}, {"verb": "reload"}):
        answer = await ask(path, schema=1, **request)
        assert "permission denied" in answer["error"]
        assert answer["exit_code"] == 1
    assert daemon.calls == []


# --- the socket itself -----------------------------------------------------------------------


async def test_socket_mode_and_removal(server: Any, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # no control_group: nobody else
    await server.stop()
    assert not path.exists()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 20])
async def test_stop_hangs_up_on_clients_without_a_word_in_the_log(
    server: Any, path: Path, daemon: Any, turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The idle client may be anywhere between the backlog and its first request."""
    caplog.set_level(logging.DEBUG)
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    reader, writer = await connect(path)
    writer.write(b'{"schema":1,"verb":"monitor"}\n')
    await reader.readline()
    await until(lambda: bool(daemon.subscribers))
    idle, idle_writer = await connect(path)
    for _ in range(turns):
        await asyncio.sleep(0)
    stopping = asyncio.create_task(server.stop())
    for _ in range(STOP_TURNS):
        await asyncio.sleep(0)
    assert stopping.done()
    stopping.result()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
        with contextlib.suppress(ConnectionResetError):  # it was in the backlog still
            assert await idle.read() == b""
    for one in (writer, idle_writer):
        one.close()
    await asyncio.sleep(0)
    assert faults == []
    assert [line.getMessage() for line in caplog.records if line.levelno > logging.INFO] == []


async def test_a_living_daemon_keeps_its_socket(server: Any, path: Path, daemon: Any) -> None:
    with pytest.raises(StartupError, match="another daemon is running"):
        await ControlServer(daemon, path=path).start()
    assert (await ask(path, schema=1, verb="snapshot"))["result"]


async def test_a_dead_daemons_socket_is_replaced(daemon: Any, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = ControlServer(daemon, path=path)
    await server.start()
    assert (await ask(path, schema=1, verb="snapshot"))["result"]
    await server.stop()


async def test_stop_leaves_another_daemons_socket_alone(
    server: Any, path: Path, daemon: Any
) -> None:
    path.unlink()
    successor = ControlServer(daemon, path=path)
    await successor.start()
    await server.stop()
    assert path.exists()
    await successor.stop()


def test_something_else_in_the_way_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(StartupError, match="not a socket"):
        open_listener(path, None)
    assert path.read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="control socket"):
        open_listener(tmp_path / "file" / "control.sock", None)


def test_no_such_group() -> None:
    with pytest.raises(StartupError, match='control_group "no-such-group"'):
        control_gid("no-such-group")


def test_the_group_owns_the_socket(tmp_path: Path) -> None:
    gid = os.getgroups()[-1] if os.getgroups() else os.getegid()
    path = tmp_path / "control.sock"
    open_listener(path, gid).close()
    assert path.stat().st_gid == gid
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
