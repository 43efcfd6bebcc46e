"""What an entry point leaves behind for the driver to collect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.ike.commands import Command
from gateway.ike.events import Event
from gateway.model import IpAddress

Address = tuple[IpAddress, int]
"""An IP address and a UDP port."""


KEEPALIVE: Final = b"\xff"
"""A NAT keepalive (RFC 3948 2.3): the whole UDP payload, without a non-ESP marker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """One UDP payload to send: an IKE message without the non-ESP marker, or KEEPALIVE."""

    data: bytes
    local: Address
    remote: Address


@dataclass(slots=True)
class Outbox:
    """Shared by all sessions of an endpoint, so order across them is kept."""

    datagrams: list[Datagram] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
