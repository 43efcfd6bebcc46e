"""The responder's door: which IKE_SA_INIT requests are let in, and at what price.

No state is kept for a request before it is accepted. Cookies are asked for while too many
IKE SAs are half-open, in all or from one address (RFC 7296 2.6), so that nobody can use up an
address's share without receiving there. Errors told to strangers are limited in rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.crypto.rng import Rng
from gateway.ike import limits
from gateway.ike.cookies import CookieJar, RateLimit
from gateway.ike.events import Dropped, DropReason
from gateway.ike.message import Header, encode_message
from gateway.ike.outbox import Address, Datagram, Outbox
from gateway.ike.payloads import NoncePayload, NotifyPayload
from gateway.ike.received import Received
from gateway.ike.registry import NotifyType
from gateway.model import IpAddress

Sources = Callable[[], Iterable[IpAddress]]
"""Addresses of the peers of all half-open IKE SAs."""


class Gatekeeper:
    def __init__(
        self, *, rng: Rng, outbox: Outbox, cookie_threshold: int, half_open: Sources
    ) -> None:
        self._outbox = outbox
        self._cookies = CookieJar(rng)
        self._cookie_threshold = cookie_threshold
        self._half_open = half_open
        self._replies = RateLimit(
            rate=limits.UNPROTECTED_REPLIES_PER_SECOND, burst=limits.UNPROTECTED_REPLIES_BURST
        )

    def admits(
        self, received: Received, header: Header, local: Address, remote: Address, now: float
    ) -> bool:
        """Whether to go on with this request. If not, what there is to answer is answered."""
        sources = list(self._half_open())
        nonce = received.need(NoncePayload).data
        from_there = sources.count(remote[0])
        crowded = (
            len(sources) >= self._cookie_threshold
            or from_there >= limits.COOKIE_THRESHOLD_PER_SOURCE
        )
        if crowded and not self._has_cookie(received, nonce, header, remote, now):
            made = self._cookies.make(nonce, remote[0], header.spi_i, now)
            self._answer(NotifyPayload(type=NotifyType.COOKIE, data=made), header, local, remote)
            return False
        if len(sources) >= limits.HALF_OPEN_MAX:
            self._drop(DropReason.HALF_OPEN_LIMIT, f"{len(sources)} half-open IKE SAs", remote)
            return False
        if from_there >= limits.HALF_OPEN_PER_SOURCE_MAX:
            self._drop(DropReason.HALF_OPEN_LIMIT, "too many from this address", remote)
            return False
        return True

    def _has_cookie(
        self, received: Received, nonce: bytes, header: Header, remote: Address, now: float
    ) -> bool:
        cookie = received.notify(NotifyType.COOKIE)
        if cookie is None:
            return False
        if self._cookies.check(cookie.data, nonce, remote[0], header.spi_i, now):
            return True
        # RFC 7296 2.6: it counts as none, so a new one goes out
        self._drop(DropReason.BAD_COOKIE, "cookie is not ours", remote)
        return False

    def refuse(
        self, notify: NotifyPayload, header: Header, local: Address, remote: Address, now: float
    ) -> bool:
        """Answer a request outside any IKE SA with an error and nothing else; not too often."""
        if not self._replies.allow(now):
            return False
        self._answer(notify, header, local, remote)
        return True

    def _answer(
        self, notify: NotifyPayload, header: Header, local: Address, remote: Address
    ) -> None:
        # RFC 7296 1.5: SPIs, exchange and Message ID as they came
        answer = replace(header, initiator=not header.initiator, response=True)
        data = encode_message(answer, [notify])
        self._outbox.datagrams.append(Datagram(data=data, local=local, remote=remote))

    def _drop(self, reason: DropReason, detail: str, remote: Address) -> None:
        self._outbox.events.append(Dropped(reason=reason, detail=detail, remote=remote))
