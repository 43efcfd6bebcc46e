"""Packet captures in the classic pcap format (libpcap, pcap-savefile(5)). Stdlib only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LINKTYPE_ETHERNET = 1
SNAPLEN = 65535

_FILE = struct.Struct("=IHHiIII")  # magic, version, zone, accuracy, snaplen, link type
_RECORD = struct.Struct("=IIII")  # seconds, nanoseconds, octets kept, octets on the wire
_MAGIC_NANOSECONDS = 0xA1B23C4D


@dataclass(frozen=True, slots=True)
class Frame:
    at: float  # Unix seconds
    data: bytes  # from the Ethernet header on


def write_header(file: BinaryIO) -> None:
    file.write(_FILE.pack(_MAGIC_NANOSECONDS, 2, 4, 0, 0, SNAPLEN, LINKTYPE_ETHERNET))


def write_frame(file: BinaryIO, nanoseconds: int, data: bytes) -> None:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    file.write(_RECORD.pack(seconds, rest, len(data), len(data)) + data)


def read(path: Path) -> Iterator[Frame]:
    """Frames of a file this module wrote; a last one cut short is left out."""
    with path.open("rb") as file:
        header = file.read(_FILE.size)
        if len(header) < _FILE.size or _FILE.unpack(header)[0] != _MAGIC_NANOSECONDS:
            raise ValueError(f"{path} is not a nanosecond pcap file of this machine's byte order")
        while len(record := file.read(_RECORD.size)) == _RECORD.size:
            seconds, rest, kept, _ = _RECORD.unpack(record)
            data = file.read(kept)
            if len(data) < kept:
                return
            yield Frame(seconds + rest / 1e9, data)
