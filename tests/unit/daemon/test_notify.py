"""sd_notify over a socket of our own."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.daemon.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def notifier_for(receiver: socket.socket, **more: str) -> Notifier:
    name = receiver.getsockname()
    path = "@" + name[1:].decode() if isinstance(name, bytes) else name
    return Notifier({"NOTIFY_SOCKET": path, **more})


def test_ready_carries_the_status(manager: socket.socket) -> None:
    notifier_for(manager).ready("3/3 tunnels up")
    assert manager.recv(4096) == b"READY=1\nSTATUS=3/3 tunnels up"


def test_status_is_one_line(manager: socket.socket) -> None:
    notifier_for(manager).status("bad file\nREADY=1")
    assert manager.recv(4096) == b"STATUS=bad file READY=1"


def test_reloading_carries_the_monotonic_clock_in_microseconds(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier_for(manager).reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    lines = manager.recv(4096).decode().split("\n")
    assert lines[0] == "RELOADING=1"
    assert before <= int(lines[1].removeprefix("MONOTONIC_USEC=")) <= after


def test_stopping_and_watchdog(manager: socket.socket) -> None:
    notifier = notifier_for(manager)
    notifier.watchdog()
    notifier.stopping()
    assert manager.recv(4096) == b"WATCHDOG=1"
    assert manager.recv(4096) == b"STOPPING=1"


def test_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0qsgw-test-{os.getpid()}")
        notifier_for(receiver).ready()
        assert receiver.recv(4096) == b"READY=1"


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("x")
    assert notifier.watchdog_interval is None


def test_a_dead_or_full_manager_is_survived(tmp_path: Path, manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    notifier = notifier_for(manager)
    for _ in range(2000):  # more than the receiver's queue holds
        notifier.watchdog()


def test_watchdog_interval_is_half_the_time_out(manager: socket.socket) -> None:
    ours = str(os.getpid())
    notifier = notifier_for(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID=ours)
    assert notifier.watchdog_interval == 15.0
    assert notifier_for(manager, WATCHDOG_USEC="30000000").watchdog_interval == 15.0


@pytest.mark.parametrize("usec", ["0", "", "soon", "-5"])
def test_watchdog_nonsense_is_no_watchdog(manager: socket.socket, usec: str) -> None:
    assert notifier_for(manager, WATCHDOG_USEC=usec).watchdog_interval is None


def test_watchdog_of_another_process_is_not_ours(manager: socket.socket) -> None:
    assert notifier_for(manager, WATCHDOG_USEC="1", WATCHDOG_PID="1").watchdog_interval is None
