"""Messages of one IKE SA, in and out: header, window, encryption, repetition.

One request of ours and one of the peer's can be under way at a time (RFC 7296 2.3). What
cannot be right is dropped and counted; it never changes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from gateway.errors import CryptoError
from gateway.ike.channel import NotEncryptedError
from gateway.ike.cookies import RateLimit
from gateway.ike.cutting import Cutter
from gateway.ike.encrypted import Inner, sent_int_auth
from gateway.ike.errors import FragmentError, FragmentLimitError, ProtocolError
from gateway.ike.events import Dropped, DropReason
from gateway.ike.flow import Reply, Request, Respond
from gateway.ike.limits import PEER_REQUESTS_BURST, PEER_REQUESTS_PER_SECOND
from gateway.ike.message import NO_SPI, Header, decode_message, encode_message
from gateway.ike.outbox import Address, Datagram
from gateway.ike.path import Path
from gateway.ike.payloads import NotifyPayload
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, NotifyType, PayloadType, notify_name
from gateway.ike.sa import IkeSa
from gateway.ike.states import ACCEPTED, IkeState
from gateway.ike.window import Schedule
from gateway.model import Role

_HINTS: Final = {
    NotifyType.INVALID_IKE_SPI,
    NotifyType.INVALID_MAJOR_VERSION,
    NotifyType.INVALID_SPI,
}


class CourierHost(Protocol):
    """Who the messages are for."""

    def handle_request(self, exchange: ExchangeType, inner: Inner) -> None:
        """A new request of the peer, authentic and in order."""

    def handle_response(self, outcome: Reply | ProtocolError) -> None:
        """The answer to our request, or what is wrong with its content."""

    def hinted(self) -> None:
        """Somebody says, unprotected, that the peer does not know this IKE SA."""

    def lost(self, now: float) -> None:
        """Our request was not answered in all this time."""


class Courier:
    def __init__(self, sa: IkeSa, host: CourierHost) -> None:
        self._sa = sa
        self._host = host
        self.path = Path(sa)
        self._cutter = Cutter(sa)
        self._reply_to: tuple[Address, Address] = (sa.local, sa.remote)
        self._asked = ExchangeType.IKE_SA_INIT  # exchange of our unanswered request
        self._answering = ExchangeType.IKE_SA_INIT  # exchange of the request under work
        self._requests = RateLimit(rate=PEER_REQUESTS_PER_SECOND, burst=PEER_REQUESTS_BURST)
        self.refusal: NotifyPayload | None = None  # unprotected, in answer to IKE_SA_INIT
        self.heard_at: float | None = None  # last authentic message

    # --- out -------------------------------------------------------------------------------

    def send_request(self, request: Request) -> None:
        """The window must be free."""
        sa = self._sa
        self._asked = request.exchange
        header = self._header(request.exchange, sa.requests.next_id, response=False)
        if request.exchange is ExchangeType.IKE_SA_INIT:
            sa.init_request = encode_message(header, request.payloads)
            datagrams: tuple[bytes, ...] = (sa.init_request,)
        else:
            if request.exchange is ExchangeType.IKE_INTERMEDIATE:
                octets = sent_int_auth(header, request.payloads)
                sa.int_auth.add_request(sa.prf, sa.keys.sk_pi, octets)
            datagrams = self._cutter.cut(header, request.payloads)
        sa.requests.sent(datagrams)
        self._emit_all(datagrams, sa.local, sa.remote)
        self._await_response()

    def send_response(self, response: Respond) -> None:
        """To the request under work."""
        sa = self._sa
        header = self._header(self._answering, sa.responses.expected, response=True)
        if self._answering is ExchangeType.IKE_INTERMEDIATE:
            octets = sent_int_auth(header, response.payloads)
            sa.int_auth.add_response(sa.prf, sa.keys.sk_pr, octets)
        datagrams = self._cutter.cut(header, response.payloads)
        sa.responses.answered(datagrams)
        self._emit_all(datagrams, *self._reply_to)
        if sa.channel is not None:
            sa.channel.settle_keys()
        if response.keys is not None:
            sa.rotate(response.keys)

    def repeat_init_response(self, local: Address, remote: Address) -> None:
        """The same IKE_SA_INIT request came again (RFC 7296 2.1)."""
        self._emit_all(self._sa.responses.cached(0), local, remote)

    def stop(self) -> None:
        """Nothing goes out of its own accord any more."""
        self._sa.env.deadlines.cancel((self, "retransmit"))
        self._sa.env.deadlines.cancel((self, "refused"))

    @property
    def _schedule(self) -> Schedule:
        timing = self._sa.peering.timing
        closing = self._sa.state is IkeState.DELETING
        return Schedule(
            base=timing.retransmit_base,
            factor=timing.retransmit_factor,
            tries=timing.close_tries if closing else timing.retransmit_tries,
        )

    def _await_response(self) -> None:
        when = self._sa.now + self._sa.requests.wait(self._schedule)
        self._sa.env.deadlines.set((self, "retransmit"), when, self._repeat_request)

    def _repeat_request(self, now: float) -> None:
        sa = self._sa
        sa.now = now
        datagrams = sa.requests.repeat(self._schedule)
        if datagrams is None:
            self._host.lost(now)
        else:  # RFC 7296 2.1: bit by bit the same, but for RFC 7383 2.5.2
            smaller = self._cutter.repeated(response=False)
            if smaller:
                sa.requests.recut(smaller)
            self._emit_all(smaller or datagrams, sa.local, sa.remote)
            self._await_response()

    def _header(self, exchange: ExchangeType, message_id: int, *, response: bool) -> Header:
        return Header(
            spi_i=self._sa.spi_i,
            spi_r=self._sa.spi_r,
            exchange=exchange,
            message_id=message_id,
            initiator=self._sa.role is Role.INITIATOR,
            response=response,
        )

    def _emit_all(self, datagrams: Sequence[bytes], local: Address, remote: Address) -> None:
        for data in datagrams:
            self._sa.env.outbox.datagrams.append(Datagram(data=data, local=local, remote=remote))
        self.path.used()

    # --- in --------------------------------------------------------------------------------

    def receive(self, data: bytes, header: Header, local: Address, remote: Address) -> None:
        """A message whose SPIs are ours."""
        hint = self._hint(data, header)
        if hint is not None:
            self._drop(DropReason.UNPROTECTED, f"somebody says {notify_name(hint)}", remote)
            self._host.hinted()
        elif header.response:
            self._receive_response(data, header, local, remote)
        else:
            self._receive_request(data, header, local, remote)

    def _hint(self, data: bytes, header: Header) -> int | None:
        """An error told in the clear by somebody who has not got our IKE SA, or says so."""
        if self._sa.state is not IkeState.ESTABLISHED or header.next_payload != PayloadType.NOTIFY:
            return None
        try:
            error = Received(decode_message(data, header).payloads).error()
        except ProtocolError:
            return None
        return error.type if error is not None and error.type in _HINTS else None

    def _receive_response(
        self, data: bytes, header: Header, local: Address, remote: Address
    ) -> None:
        sa = self._sa
        if sa.state is IkeState.CLOSED or not sa.requests.answers(header.message_id):
            self._drop(DropReason.UNEXPECTED_MESSAGE_ID, f"response {header.message_id}", remote)
        elif sa.state is IkeState.INIT_SENT:
            self._receive_init_response(data, header, remote)
        elif header.exchange != self._asked:
            self._drop(DropReason.UNEXPECTED_EXCHANGE, f"response {header.exchange}", remote)
        elif (inner := self._open(data, header, remote)) is not None:
            self._heard(local, remote)
            if header.exchange == ExchangeType.IKE_INTERMEDIATE:
                sa.int_auth.add_response(sa.prf, sa.keys.sk_pr, inner.int_auth)
            self.stop()
            sa.requests.answered()
            try:
                received = Received(inner.payloads())
            except ProtocolError as error:
                self._host.handle_response(error)
            else:
                reply = Reply(payloads=received, data=b"", spi_r=sa.spi_r)
                self._host.handle_response(reply)

    def _receive_init_response(self, data: bytes, header: Header, remote: Address) -> None:
        """Anybody could have sent this: what is odd is dropped, an error is only remembered."""
        sa = self._sa
        try:
            received = Received(decode_message(data, header).payloads)
        except ProtocolError as error:
            self._drop(DropReason.MALFORMED, error.reason, remote)
            return
        demands = [
            *received.notifies(NotifyType.COOKIE),
            *received.notifies(NotifyType.INVALID_KE_PAYLOAD),
        ]
        if any(demand.data in sa.init_demands for demand in demands):
            self._drop(DropReason.REPLAYED, "asks for what we sent already", remote)
            return
        again = bool(demands)
        error_notify = received.error()
        if error_notify is not None and not again:
            self._refused(error_notify)
            return
        if header.exchange != ExchangeType.IKE_SA_INIT or (header.spi_r == NO_SPI and not again):
            self._drop(DropReason.UNEXPECTED_EXCHANGE, "not an IKE_SA_INIT response", remote)
            return
        self.stop()
        if again:  # RFC 7296 2.6: the same Message ID again
            sa.requests.retry()
        else:
            sa.requests.answered()
        self._host.handle_response(Reply(payloads=received, data=data, spi_r=header.spi_r))

    def _refused(self, notify: NotifyPayload) -> None:
        # RFC 7296 2.21.1: not authenticated, so a better answer may follow
        if self.refusal is None:
            when = self._sa.now + self._sa.peering.timing.init_error_grace
            self._sa.env.deadlines.set((self, "refused"), when, self._host.lost)
        self.refusal = notify

    def _receive_request(
        self, data: bytes, header: Header, local: Address, remote: Address
    ) -> None:
        sa = self._sa
        if sa.channel is None:
            self._drop(DropReason.UNEXPECTED_EXCHANGE, "request before there are keys", remote)
        elif header.message_id == sa.responses.expected and sa.state is not IkeState.CLOSED:
            if sa.responses.pending:
                self._drop(DropReason.DUPLICATE_PENDING, f"request {header.message_id}", remote)
            elif (inner := self._open(data, header, remote)) is not None:
                self._accept_request(inner, local, remote)
        elif sa.responses.cached(header.message_id):
            self._repeat_response(data, header, local, remote)
        else:
            detail = f"request {header.message_id}, expected {sa.responses.expected}"
            self._drop(DropReason.UNEXPECTED_MESSAGE_ID, detail, remote)

    def _accept_request(self, inner: Inner, local: Address, remote: Address) -> None:
        sa = self._sa
        self._heard(local, remote)
        kind = inner.header.exchange
        if (sa.state, sa.role, kind) not in ACCEPTED:
            self._drop(DropReason.UNEXPECTED_EXCHANGE, f"{kind} in state {sa.state}", remote)
            return
        if not self._requests.allow(sa.now):  # it comes again, and by then it is its turn
            self._drop(DropReason.RATE_LIMIT, f"{kind}: too many requests", remote)
            return
        self._cutter.heard(inner.largest_fragment)
        self._answering = ExchangeType(kind)
        self._reply_to = (local, remote)
        sa.responses.received()
        if self._answering is ExchangeType.IKE_INTERMEDIATE:
            sa.int_auth.add_request(sa.prf, sa.keys.sk_pi, inner.int_auth)
        self._host.handle_request(self._answering, inner)

    def _repeat_response(
        self, data: bytes, header: Header, local: Address, remote: Address
    ) -> None:
        sa = self._sa
        if sa.channel is None:
            return
        try:
            due = sa.channel.is_retransmission(data, header)
        except NotEncryptedError as error:
            self._drop(DropReason.UNPROTECTED, str(error), remote)
        except CryptoError as error:
            self._drop(DropReason.INTEGRITY, str(error), remote)
        except (ProtocolError, FragmentError) as error:
            self._drop(DropReason.MALFORMED, str(error), remote)
        else:
            if due:
                # RFC 7383 2.5.2: an answer to a request in smaller fragments follows it
                self._cutter.heard(len(data) if header.next_payload == PayloadType.SKF else 0)
                smaller = self._cutter.repeated(response=True)
                if smaller:
                    sa.responses.recut(smaller)
                self._emit_all(sa.responses.cached(header.message_id), local, remote)

    def _open(self, data: bytes, header: Header, remote: Address) -> Inner | None:
        if self._sa.channel is None:
            return None
        try:
            return self._sa.channel.open(data, header)
        except NotEncryptedError as error:
            self._drop(DropReason.UNPROTECTED, str(error), remote)
        except CryptoError as error:
            self._drop(DropReason.INTEGRITY, str(error), remote)
        except FragmentLimitError as error:
            self._drop(DropReason.FRAGMENT_LIMIT, str(error), remote)
        except FragmentError as error:
            self._drop(DropReason.BAD_FRAGMENT, str(error), remote)
        except ProtocolError as error:
            self._drop(DropReason.MALFORMED, error.reason, remote)
        return None

    def _heard(self, local: Address, remote: Address) -> None:
        """An authentic message: the peer lives, and this is where it is now."""
        self.heard_at = self._sa.now
        self.path.heard(local, remote)

    def _drop(self, reason: DropReason, detail: str, remote: Address) -> None:
        self._sa.emit(
            Dropped(reason=reason, detail=detail, remote=remote, connection=self._sa.peering.name)
        )
