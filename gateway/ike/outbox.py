"""What an entry point leaves behind for the driver to collect."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.ike.commands import Command
from gateway.ike.events import Event
from gateway.model import IpAddress

Address = tuple[IpAddress, int]
"""An IP address and a UDP port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """One UDP payload to send, without the non-ESP marker."""

    data: bytes
    local: Address
    remote: Address


@dataclass(slots=True)
class Outbox:
    """Shared by all sessions of an endpoint, so order across them is kept."""

    datagrams: list[Datagram] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
