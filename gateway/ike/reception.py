"""New peers at the door: IKE_SA_INIT requests, and the half-open IKE SAs they become.

Until a request is accepted no state is kept for it (RFC 7296 2.6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from gateway.ike.child import Origin
from gateway.ike.downgrade import offers_in
from gateway.ike.environment import Environment
from gateway.ike.errors import ProtocolError
from gateway.ike.events import Dropped, DropReason
from gateway.ike.flows import sa_init
from gateway.ike.gatekeeper import Gatekeeper
from gateway.ike.keymat import initial_keys
from gateway.ike.message import NO_SPI, Header, decode_message, encode_message
from gateway.ike.outbox import Address
from gateway.ike.payloads import NotifyPayload
from gateway.ike.peering import Peering
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.ike.sa import IkeSa
from gateway.ike.session import Session
from gateway.ike.states import IkeState
from gateway.model import IpAddress, Role


class Reception:
    """``between`` gives the peering of two addresses, ours first; ``admit`` makes a session of an
    IkeSa and a place for it in the SPI table."""

    def __init__(
        self,
        env: Environment,
        gatekeeper: Gatekeeper,
        *,
        between: Callable[[IpAddress, IpAddress], Peering | None],
        admit: Callable[[IkeSa], Session],
    ) -> None:
        self._env = env
        self._gatekeeper = gatekeeper
        self._between = between
        self._admit = admit
        self._known: dict[bytes, Session] = {}  # by hash of the request

    def tell(
        self, notify: NotifyType, header: Header, local: Address, remote: Address, now: float
    ) -> None:
        """Unprotected, that we can make nothing of this request; only to whom we have a tunnel."""
        if self._between(local[0], remote[0]) is not None:
            self._gatekeeper.refuse(NotifyPayload(type=notify), header, local, remote, now)

    def forget(self, session: Session) -> None:
        self._known = {digest: one for digest, one in self._known.items() if one is not session}

    def receive(
        self, data: bytes, header: Header, local: Address, remote: Address, now: float
    ) -> None:
        """A request to set up an IKE SA; see ``begins``."""
        digest = hashlib.sha256(data).digest()
        known = self._known.get(digest)
        if known is not None:  # RFC 7296 2.1: the whole message says so, not the SPI
            known.repeat_init_response(local, remote)
            return
        peering = self._between(local[0], remote[0])
        if peering is None:
            self._drop(DropReason.UNKNOWN_PEER, "no tunnel between these addresses", remote)
            return
        missing: tuple[str, ...] = ()
        try:
            received = Received(decode_message(data, header).payloads)
            if not self._gatekeeper.admits(received, header, local, remote, now):
                return
            heard = offers_in(received, sa_init.VENDOR_ID)
            missing = peering.missing(Role.RESPONDER, heard)
            accepted = sa_init.respond(
                peering.connection,
                peering.mode,
                received,
                self._env,
                spi_i=header.spi_i,
                local=local,
                remote=remote,
            )
        except ProtocolError as error:
            notify = NotifyPayload(type=error.notify, data=error.data)
            answered = self._gatekeeper.refuse(notify, header, local, remote, now)
            self._report(peering, error, remote, now, answered=answered)
            if answered and error.notify is NotifyType.NO_PROPOSAL_CHOSEN:
                peering.watch.failed(missing, now)
            return
        sa = IkeSa(
            env=self._env,
            peering=peering,
            tunnel=None,
            role=Role.RESPONDER,
            state=IkeState.KEYED,
            local=local,
            remote=remote,
            spi_i=header.spi_i,
            spi_r=accepted.spi_r,
            origin=Origin(role=Role.RESPONDER, began_at=now),
            now=now,
            init_request=data,
            heard=heard,
            missing=missing,
        )
        self._known[digest] = self._open(sa, accepted)

    def _open(self, sa: IkeSa, accepted: sa_init.Accepted) -> Session:
        sa.nonce_i, sa.nonce_r = accepted.nonce_i, accepted.nonce_r
        sa.agreed, sa.peer, sa.nat = accepted.chosen, accepted.peer, accepted.nat
        answer = Header(
            spi_i=sa.spi_i,
            spi_r=sa.spi_r,
            exchange=ExchangeType.IKE_SA_INIT,
            message_id=0,
            initiator=False,
            response=True,
        )
        sa.init_response = encode_message(answer, accepted.payloads)
        sa.first_keys(initial_keys(sa.key_inputs, accepted.shared))
        accepted.shared.wipe()
        sa.responses.answered((sa.init_response,))
        session = self._admit(sa)
        session.await_auth()
        session.repeat_init_response(sa.local, sa.remote)
        return session

    def _report(
        self, peering: Peering, error: ProtocolError, remote: Address, now: float, *, answered: bool
    ) -> None:
        if error.notify is NotifyType.INVALID_KE_PAYLOAD:
            return  # nothing failed: the peer asks again with the other method
        if answered:  # what floods us is counted, not told one by one
            if peering.tells(error.reason, remote, now):
                peering.failed("respond", error.reason, notify=error.notify.name)
        else:
            self._drop(DropReason.MALFORMED, error.reason, remote)

    def _drop(self, reason: DropReason, detail: str, remote: Address) -> None:
        self._env.outbox.events.append(Dropped(reason=reason, detail=detail, remote=remote))


def begins(header: Header) -> bool:
    """Whether this is a request to set up an IKE SA."""
    return (
        header.exchange == ExchangeType.IKE_SA_INIT
        and header.initiator
        and not header.response
        and header.spi_r == NO_SPI
        and header.message_id == 0
    )
