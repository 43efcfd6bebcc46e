"""How small the messages of one IKE SA are cut (RFC 7383 2.5): down, where large ones are lost.

Nothing says why a message is not answered, and where ICMP is blocked nothing says that it was
too large. So one that was repeated in vain is cut smaller, once: to what every path takes. The
peer that hears small fragments cuts its answers no larger. Either way the IKE SA stays at that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.ike.encrypted import ip_datagram
from gateway.ike.limits import (
    FRAGMENT_SIZE_MIN_IPV4,
    FRAGMENT_SIZE_MIN_IPV6,
    REFRAGMENT_AFTER,
)
from gateway.ike.message import Header
from gateway.ike.payloads import Payload
from gateway.ike.sa import IkeSa

SMALLEST: Final = {4: FRAGMENT_SIZE_MIN_IPV4, 6: FRAGMENT_SIZE_MIN_IPV6}
"""Octets of the IP datagram below which nothing is cut, by IP version."""


@dataclass(slots=True)
class _Message:
    """Our unanswered request, or our last answer."""

    header: Header
    payloads: tuple[Payload, ...]
    size: int  # octets of IP it was cut for
    total: int  # datagrams it is in
    repeats: int = 0


class Cutter:
    """Acts on ``sa.datagram_max``."""

    def __init__(self, sa: IkeSa) -> None:
        self._sa = sa
        self._messages: dict[bool, _Message] = {}  # by whether it is a response

    def cut(self, header: Header, payloads: Sequence[Payload]) -> tuple[bytes, ...]:
        """The datagrams of a new message."""
        size = self._size
        datagrams = self._seal(header, payloads, size, again=False)
        self._messages[header.response] = _Message(header, tuple(payloads), size, len(datagrams))
        return datagrams

    def repeated(self, *, response: bool) -> tuple[bytes, ...]:
        """The message goes out again: its new datagrams, or none where they stay the same."""
        message = self._messages.get(response)
        if message is None or not self._sa.peer.fragmentation:  # IKE_SA_INIT: RFC 7383 2.4
            return ()
        message.repeats += 1
        size = self._size if message.repeats <= REFRAGMENT_AFTER else self._floor
        if size >= message.size:
            return ()
        # RFC 7383 2.5.2: the same content, more fragments than before, each with a fresh IV
        message.size = size
        datagrams = self._seal(message.header, message.payloads, size, again=response)
        if len(datagrams) <= message.total:
            return ()
        message.total = len(datagrams)
        self._sa.datagram_max = size
        return datagrams

    def heard(self, octets: int) -> None:
        """An authentic request came in fragments, the largest of ``octets`` (0: whole).

        The peer has found that the path takes no more, or was told so.
        """
        if octets:
            size = max(ip_datagram(octets, self._sa.remote[0].version), self._floor)
            if size < self._size:
                self._sa.datagram_max = size

    @property
    def _size(self) -> int:
        configured = self._sa.connection.fragment_size
        return min(configured, self._sa.datagram_max or configured)

    @property
    def _floor(self) -> int:
        return min(self._size, SMALLEST[self._sa.remote[0].version])

    def _seal(
        self, header: Header, payloads: Sequence[Payload], size: int, *, again: bool
    ) -> tuple[bytes, ...]:
        sa = self._sa
        if sa.channel is None:
            raise RuntimeError("no keys yet")
        return sa.channel.seal(
            header,
            payloads,
            fragment_size=size if sa.peer.fragmentation else None,
            ip_version=sa.remote[0].version,
            again=again,
        )
