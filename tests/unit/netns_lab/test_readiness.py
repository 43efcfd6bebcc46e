"""Readiness: notify sockets, listeners, and waiting with a deadline that explains itself."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from netns_lab.errors import WaitError
from netns_lab.readiness import NotifySocket, listens, listens_in, wait_until

PROC_NET_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:2329 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1
"""


def test_only_a_listening_socket_counts() -> None:
    assert listens_in(PROC_NET_TCP, 0x075B)
    assert not listens_in(PROC_NET_TCP, 0x2329)  # established, not listening
    assert not listens_in(PROC_NET_TCP, 0x0050)  # the remote port


def test_our_own_listener_is_found_and_gone_when_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(os.getpid(), port)
    assert not listens(os.getpid(), port)


def test_nobody_listens_in_a_process_that_is_gone() -> None:
    assert not listens(2**22 + 1, 1883)  # above the kernel's highest process id


async def test_ready_with_status_in_one_datagram_or_several(tmp_path: Path) -> None:
    notify = NotifySocket(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.connect(str(notify.path))
        daemon.send(b"STATUS=loading\n")
        daemon.send(b"READY=0\nWATCHDOG=1")
        waiting = asyncio.create_task(notify.wait_ready())
        await asyncio.sleep(0)
        assert not waiting.done()
        daemon.send(b"STATUS=3 tunnels\nREADY=1")
        await waiting
    assert notify.ready
    assert notify.status == "3 tunnels"
    notify.close()
    assert not notify.path.exists()


async def test_wait_until_gives_the_value_of_a_plain_or_async_predicate() -> None:
    values = iter([0, "", "there"])
    assert await wait_until(lambda: next(values), 5, "a word", interval=0) == "there"

    async def answer() -> int:
        return 42

    assert await wait_until(answer, 5, "an answer") == 42


async def test_wait_until_says_what_it_waited_for_and_what_it_saw_last() -> None:
    with pytest.raises(WaitError, match=r"keys in store: not within 0 s; last seen: \[\]"):
        await wait_until(list, 0, "keys in store")


async def test_what_a_daemon_says_after_it_is_ready_is_read_too(tmp_path: Path) -> None:
    """More of it than the kernel would keep for a socket that nobody reads."""
    notify = NotifySocket(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.connect(str(notify.path))
        daemon.send(b"READY=1\nSTATUS=1 DOWN")
        await notify.wait_ready()
        assert notify.status == "1 DOWN"
        for number in range(100):
            daemon.send(f"STATUS={number}".encode())
            while notify.status != str(number):
                await asyncio.sleep(0)
    notify.close()
