"""UDP packets with sequence numbers from one host to another and back, and what became of them.

    python -m netns_lab.traffic --bind 10.1.0.10:7000 --peer 10.2.0.10:7000 --report a.json

runs at each end and notes what it receives. SIGUSR1 begins the sending, at a steady rate, so
that it can wait for the other end to listen; SIGTERM ends it, and what is on its way then is
waited for, so both ends must be told at the same time.
``compare`` puts the two ends' notes together. Both ends share one kernel, so their monotonic
clocks agree. Stdlib only: it starts fast where the lab is slow.
"""

from __future__ import annotations

import argparse
import json
import math
import select
import signal
import socket
import struct
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from netns_lab import announce

MARKER = b"qsgw-lab plaintext marker: never to be seen between the gateways."
"""In every payload, so that plaintext is recognised wherever it turns up."""

BIN_SECONDS = 0.1
DRAIN_SECONDS = 2.0
"""After the end of sending, packets on their way are waited for this long."""

_HEADER = struct.Struct("!QQ")  # sequence number, monotonic nanoseconds of sending
_PACKET_MAX = 2048


@dataclass(slots=True, kw_only=True)
class Notes:
    """What one end saw. Times are monotonic seconds; ``sent_at[n]`` is packet n's."""

    sent_at: list[float] = field(default_factory=list)
    received: dict[int, int] = field(default_factory=dict)  # sequence number -> how often
    reordered: int = 0
    refused: int = 0  # our own kernel would not take the packet (counted as sent, too)


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of the traffic, both ends' notes put together."""

    sent: int
    received: int
    lost: int
    duplicate: int
    reordered: int
    refused: int
    lost_at: tuple[float, ...]  # when each lost packet was sent


def compare(sender: Notes, receiver: Notes) -> Direction:
    """What became of the packets of ``sender``."""
    lost = [number for number in range(len(sender.sent_at)) if number not in receiver.received]
    return Direction(
        sent=len(sender.sent_at),
        received=len(sender.sent_at) - len(lost),
        lost=len(lost),
        duplicate=sum(count - 1 for count in receiver.received.values()),
        reordered=receiver.reordered,
        refused=sender.refused,
        lost_at=tuple(sender.sent_at[number] for number in lost),
    )


def loss_bins(direction: Direction, start: float, end: float) -> list[int]:
    """Lost packets per ``BIN_SECONDS`` between two moments, by time of sending."""
    bins = [0] * math.ceil((end - start) / BIN_SECONDS)
    for at in direction.lost_at:
        index = int((at - start) / BIN_SECONDS)
        if 0 <= index < len(bins):
            bins[index] += 1
    return bins


def load(path: Path) -> Notes:
    """The notes an end wrote."""
    raw = json.loads(path.read_text())
    raw["received"] = {int(number): count for number, count in raw["received"].items()}
    return Notes(**raw)


class End:
    """One end of the traffic."""

    def __init__(self, sock: socket.socket, peer: tuple[str, int], rate: float) -> None:
        self.notes = Notes()
        self._socket = sock
        self._peer = peer
        self._gap = 1.0 / rate
        self._highest = -1
        self._sending = False
        self._stop = False

    def begin(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        self._sending = True

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        self._stop = True

    def run(self) -> None:
        """Wait for ``begin``, send and receive until ``stop``, then receive what still comes."""
        while not (self._sending or self._stop):
            self._receive_until(time.monotonic() + self._gap)
        due = time.monotonic()
        while not self._stop:
            now = time.monotonic()
            if now >= due:
                self._send(now)
                due = max(due + self._gap, now - 1.0)  # make good at most a second
            self._receive_until(due)
        self._receive_until(time.monotonic() + DRAIN_SECONDS)

    def _send(self, now: float) -> None:
        payload = _HEADER.pack(len(self.notes.sent_at), int(now * 1e9)) + MARKER
        self.notes.sent_at.append(round(now, 4))
        try:
            self._socket.sendto(payload, self._peer)
        except OSError:
            self.notes.refused += 1

    def _receive_until(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([self._socket], [], [], left)
            if not readable:
                return
            with suppress(OSError):  # an ICMP error of an earlier packet
                self._take(self._socket.recv(_PACKET_MAX))

    def _take(self, payload: bytes) -> None:
        if len(payload) < _HEADER.size or payload[_HEADER.size :] != MARKER:
            return
        number, _ = _HEADER.unpack_from(payload)
        received = self.notes.received
        received[number] = received.get(number, 0) + 1
        if number < self._highest and received[number] == 1:
            self.notes.reordered += 1
        self._highest = max(self._highest, number)


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", type=_endpoint, required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--peer", type=_endpoint, required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--rate", type=float, default=50.0, metavar="PACKETS_PER_SECOND")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    family = socket.AF_INET6 if ":" in arguments.bind[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(arguments.bind)
        end = End(sock, arguments.peer, arguments.rate)
        signal.signal(signal.SIGUSR1, end.begin)
        signal.signal(signal.SIGTERM, end.stop)
        announce.ready()
        end.run()
    arguments.report.write_text(json.dumps(asdict(end.notes)))


if __name__ == "__main__":
    main()
