"""strongSwan's control protocol (vici), as much as a bench needs of it.

A packet is its length in 4 octets, a type, where the type has one a name, and a message:
elements in a row, each with a type of its own.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from netns_lab.errors import LabError

_COMMAND, _REGISTER = 0, 3
_VALUE = 3

Message = dict[str, Any]


def encode(message: Mapping[str, str]) -> bytes:
    """A message of values only."""
    out = bytearray()
    for name, value in message.items():
        data = value.encode()
        out += bytes([_VALUE, len(name)]) + name.encode() + struct.pack(">H", len(data)) + data
    return bytes(out)


def decode(data: bytes) -> Message:
    """Sections are dictionaries; lists are lists of text."""
    top: Message = {}
    open_sections = [top]
    items: list[str] = []
    at = 0

    def take(size_octets: int) -> str:
        nonlocal at
        size = int.from_bytes(data[at : at + size_octets])
        at += size_octets + size
        return data[at - size : at].decode(errors="replace")

    while at < len(data):
        kind, at = data[at], at + 1
        match kind:
            case 1:  # a section begins
                section: Message = {}
                open_sections[-1][take(1)] = section
                open_sections.append(section)
            case 2:  # and ends
                open_sections.pop()
            case 3:  # a value
                name = take(1)
                open_sections[-1][name] = take(2)
            case 4:  # a list begins
                items = []
                open_sections[-1][take(1)] = items
            case 5:
                items.append(take(2))
            case 6:  # and ends
                pass
            case _:
                raise LabError(f"vici: element of type {kind}")
    return top


class Vici:
    """One connection: commands one after the other, events beside them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, socket: Path) -> Vici:
        return cls(*await asyncio.open_unix_connection(str(socket)))

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()

    async def command(self, name: str, **message: str) -> None:
        """Raises LabError where strongSwan refuses."""
        self._send(bytes([_COMMAND, len(name)]) + name.encode() + encode(message))
        answer = await self._answers.get()
        if answer.get("success", "yes") != "yes":
            raise LabError(f"strongSwan: {name}: {answer.get('errmsg', 'failed')}")

    async def events(self, name: str) -> AsyncIterator[Message]:
        """Every event of this name, once registered for; registered before the first is asked."""
        self._send(bytes([_REGISTER, len(name)]) + name.encode())
        await self._answers.get()
        return self._follow()

    async def _follow(self) -> AsyncIterator[Message]:
        while True:
            yield await self._events.get()

    def _send(self, packet: bytes) -> None:
        self._writer.write(struct.pack(">I", len(packet)) + packet)

    async def _read(self) -> None:
        while True:
            size = int.from_bytes(await self._reader.readexactly(4))
            packet = await self._reader.readexactly(size)
            match packet[0]:
                case 1:  # of a command
                    self._answers.put_nowait(decode(packet[1:]))
                case 5:  # registered
                    self._answers.put_nowait({})
                case 7:  # an event
                    self._events.put_nowait(decode(packet[2 + packet[1] :]))
                case other:
                    self._answers.put_nowait({"success": "no", "errmsg": f"packet {other}"})
