"""Writes every packet that arrives at a host to a pcap file, until SIGTERM.

    python -m netns_lab.capture isp.pcap
    python -m netns_lab.capture link.pcap --interface sun

All interfaces, inbound only: a router's packets are there once each, as they came in. Of one
interface both directions: all that passes that link.
Stdlib only: it starts fast where the lab is slow.
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import time
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from netns_lab import announce, pcap

_ETH_P_ALL = 0x0003  # linux/if_ether.h
_PACKET_OUTGOING = 4  # linux/if_packet.h
_BUFFER = 8 << 20
_POLL_SECONDS = 0.25


def capture(
    sock: socket.socket, file: BinaryIO, stopped: list[bool], interface: str | None = None
) -> None:
    """Write frames until ``stopped`` has something in it."""
    while not stopped:
        readable, _, _ = select.select([sock], [], [], _POLL_SECONDS)
        if not readable:
            file.flush()
            continue
        data, address = sock.recvfrom(pcap.SNAPLEN)
        # Not by bind(2): a socket bound to an interface errs when that goes down.
        wanted = address[2] != _PACKET_OUTGOING if interface is None else address[0] == interface
        if wanted:
            pcap.write_frame(file, time.time_ns(), data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--interface", metavar="NAME", help="of this one, both directions")
    arguments = parser.parse_args()
    stopped: list[bool] = []

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.append(True)

    signal.signal(signal.SIGTERM, stop)
    with (
        arguments.file.open("wb") as file,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        pcap.write_header(file)
        file.flush()
        announce.ready()
        capture(sock, file, stopped, arguments.interface)


if __name__ == "__main__":
    main()
