"""How an exchange is written down: as a generator that reads from top to bottom.

A flow yields what it needs and is resumed with it: a command for the outside, a request to
the peer, or (as responder) its response. It never touches a socket, a clock or another
flow. Whatever a flow holds it gives back in ``finally``, for a session may end at any yield.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.errors import QsgwError
from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    Answer,
    CertificatesTrusted,
    CheckCertificates,
    Done,
    Failed,
    FetchPpk,
    InstallChild,
    InstallInbound,
    PpkFetched,
    SpiAllocated,
    TakePpk,
)
from gateway.ike.desk import AskingCommand
from gateway.ike.errors import ProtocolError
from gateway.ike.keymat import IkeKeys
from gateway.ike.payloads import Payload
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.model import Ppk


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Send this to the peer and wait for its response."""

    exchange: ExchangeType
    payloads: Sequence[Payload]


@dataclass(frozen=True, slots=True, kw_only=True)
class Respond:
    """Answer the request this flow was started for; the flow goes on at once."""

    payloads: Sequence[Payload]
    keys: IkeKeys | None = None  # in force from the next message on


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The peer's response."""

    payloads: Received
    data: bytes  # the whole message, where it was not encrypted
    spi_r: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfilled:
    """What the flow was for is there and was told; nobody waits for the rest of it."""


Step = AskingCommand | Request | Respond | Fulfilled
Resume = Answer | Reply | None
ResultT = TypeVar("ResultT")
Flow = Generator[Step, Resume, ResultT]


class ExchangeError(QsgwError):
    """An exchange came to nothing. ``reason`` is one line for the operator."""

    def __init__(
        self,
        reason: str,
        *,
        notify: str | None = None,
        from_peer: bool = False,
        ppk_missing: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.notify = notify
        self.from_peer = from_peer
        self.ppk_missing = ppk_missing


class YieldedError(ExchangeError):
    """Our rekey gives way to the peer's of the same SA (RFC 7296 2.8.1)."""

    def __init__(self, what: str) -> None:
        super().__init__(f"both sides rekeyed {what}: ours gave way to the peer's")


class DeletedEarlyError(ExchangeError):
    """The peer deleted a Child SA of ours while it was being made."""

    def __init__(self) -> None:
        super().__init__("peer deleted the new Child SA before it was in use", from_peer=True)


class PpkMissingError(ProtocolError):
    """Policy wants a QKD key in this SA and there is none."""


class CommandError(QsgwError):
    """The outside could not do what it was asked."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.reason = str(self)


def request(exchange: ExchangeType, payloads: Sequence[Payload]) -> Flow[Reply]:
    """One exchange as its initiator. Error notifies in the response are the caller's to see."""
    reply = yield Request(exchange=exchange, payloads=payloads)
    if not isinstance(reply, Reply):
        raise TypeError(reply)
    return reply


def allocate_spi(command: AllocateSpi) -> Flow[int]:
    """CommandError if there is none."""
    answer = yield command
    match answer:
        case SpiAllocated(spi=spi):
            return spi
        case Failed(reason=reason):
            raise CommandError("no SPI could be reserved", reason)
        case _:
            raise TypeError(answer)


def fetch_ppk(command: FetchPpk | TakePpk) -> Flow[Ppk | str]:
    """The key, or why there is none."""
    answer = yield command
    match answer:
        case PpkFetched(ppk=ppk):
            return ppk
        case Failed(reason=reason):
            return reason
        case _:
            raise TypeError(answer)


def check_certificates(command: CheckCertificates) -> Flow[CertificatesTrusted | str]:
    """What is known of the peer now, or why its certificates are not trusted."""
    answer = yield command
    match answer:
        case CertificatesTrusted():
            return answer
        case Failed(reason=reason):
            return reason
        case _:
            raise TypeError(answer)


def carry_out(command: InstallInbound | InstallChild | ActivateOutbound, what: str) -> Flow[None]:
    """CommandError if it fails."""
    answer = yield command
    match answer:
        case Done():
            return
        case Failed(reason=reason):
            raise CommandError(what, reason)
        case _:
            raise TypeError(answer)


def refuse(notify: NotifyType, reason: str) -> ProtocolError:
    """What a flow raises to answer, or to fail, with this notify."""
    return ProtocolError(notify, reason)
