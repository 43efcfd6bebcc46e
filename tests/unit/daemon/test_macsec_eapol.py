"""The EAPOL socket: what it takes, what it passes over, and that no error of it is fatal."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from itertools import pairwise

import pytest

from gateway.daemon.macsec import eapol
from gateway.daemon.macsec.eapol import PACKET_OUTGOING, READS_MAX, EapolSocket
from gateway.errors import DataplaneError

PACKET_MULTICAST = 2  # <linux/if_packet.h>


class FakeSocket:
    """Readable as long as there is something to read."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.waiting: deque[tuple[bytes, int] | OSError] = deque()
        self.sent: list[bytes] = []
        self.refuses: OSError | None = None
        self.reads = 0

    def arrive(self, *items: tuple[bytes, int] | OSError) -> None:
        self.waiting.extend(items)
        os.write(self._write, b"x")

    def fileno(self) -> int:
        return self._read

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int, int, int, bytes]]:
        self.reads += 1
        if not self.waiting:
            os.read(self._read, 4096)
            raise BlockingIOError
        item = self.waiting.popleft()
        if isinstance(item, OSError):
            raise item
        frame, kind = item
        return frame[:size], ("eth1", 0x888E, kind, 1, b"")

    def send(self, frame: bytes) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append(frame)

    def close(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)
            self._read = -1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch):
    made = FakeSocket()
    monkeypatch.setattr(eapol, "_open", lambda _interface, _index: made)
    yield made
    made.close()


async def test_frames_of_others_are_passed_on_whole_and_our_own_are_not(fake: FakeSocket) -> None:
    heard: list[bytes] = []
    sock = EapolSocket("eth1", 7, heard.append)
    fake.arrive((b"a" * 1500, PACKET_MULTICAST), (b"ours", PACKET_OUTGOING), (b"b", 0))
    await asyncio.sleep(0.01)
    assert heard == [b"a" * 1500, b"b"]
    sock.close()


async def test_a_flood_is_read_in_portions_so_that_others_get_their_turn(fake: FakeSocket) -> None:
    at_once: list[int] = []
    heard: list[bytes] = []

    def count() -> None:
        at_once.append(len(heard))
        if len(heard) < 5 * READS_MAX:
            asyncio.get_running_loop().call_soon(count)

    sock = EapolSocket("eth1", 7, heard.append)
    fake.arrive(*[(b"x", PACKET_MULTICAST)] * (5 * READS_MAX))
    count()
    await asyncio.sleep(0.05)
    assert len(heard) == 5 * READS_MAX
    steps = [after - before for before, after in pairwise(at_once)]
    assert max(steps) <= READS_MAX
    sock.close()


@pytest.mark.parametrize("number", [errno.ENETDOWN, errno.ENOBUFS, errno.ENXIO])
async def test_what_cannot_be_sent_or_read_is_counted(fake: FakeSocket, number: int) -> None:
    heard: list[bytes] = []
    sock = EapolSocket("eth1", 7, heard.append)
    fake.refuses = OSError(number, os.strerror(number))
    for _ in range(3):
        sock.send(b"lost")
    fake.refuses = None
    sock.send(b"sent")
    fake.arrive(OSError(number, os.strerror(number)), (b"later", PACKET_MULTICAST))
    await asyncio.sleep(0.01)
    assert (fake.sent, heard) == ([b"sent"], [b"later"])
    assert sock.failures == {errno.errorcode[number]: 4}
    sock.close()


async def test_a_frame_that_leads_to_its_end_ends_the_reading(fake: FakeSocket) -> None:
    heard: list[bytes] = []

    def take(frame: bytes) -> None:
        heard.append(frame)
        sock.close()

    sock = EapolSocket("eth1", 7, take)
    fake.arrive((b"last", PACKET_MULTICAST), (b"more", PACKET_MULTICAST))
    await asyncio.sleep(0.01)
    assert heard == [b"last"]
    sock.close()


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EPERM, "CAP_NET_RAW"),
        (errno.EAFNOSUPPORT, "RestrictAddressFamilies"),
        (errno.ENODEV, "no interface eth1"),
        (errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
async def test_why_there_is_no_socket_is_said(
    monkeypatch: pytest.MonkeyPatch, number: int, word: str
) -> None:
    def refuse(*_args: object) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(DataplaneError, match=word):
        EapolSocket("eth1", 7, lambda _frame: None)
