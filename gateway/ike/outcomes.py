"""What the end of a flow means for the IKE SA, for the peer and for whoever asked for it.

Errors become what RFC 7296 2.21 wants: in a responder flow the notify that answers the
request, in an initiator flow an ExchangeFailed event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import CryptoError, QsgwError
from gateway.ike.courier import Courier
from gateway.ike.errors import ProtocolError
from gateway.ike.failures import Failure, answer_to, failure_of
from gateway.ike.flow import PpkMissingError, Respond
from gateway.ike.flows import informational, rekey_ike
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.ike.sa import KeyPolicy
from gateway.ike.states import IkeState
from gateway.ike.tasks import Task
from gateway.model import Ended

if TYPE_CHECKING:
    from gateway.ike.session import ServeWaiting, Session

OPERATORS = ("initiate", "rekey", "rekey-ike")
"""Tasks somebody asked for: each ends in ChildUp, IkeRekeyed or ExchangeFailed."""


class Outcomes:
    """Of one session."""

    def __init__(self, session: Session, courier: Courier, serve: ServeWaiting) -> None:
        self._session = session
        self._sa = session.sa
        self._courier = courier
        self._serve_waiting = serve

    def done(self, task: Task, result: object) -> None:
        if task is self._session.setting_up:
            self._session.setting_up = None
            self._serve_waiting(self._sa.peering, self._sa.now)
        if task.what == "delete":
            self._session.end(self._session.close_reason)
        elif isinstance(result, rekey_ike.Successor):
            self._session.succession.made(result)
            if result.redundant is not None:
                self._report(task, failure_of(result.redundant))
        elif result:  # from informational.respond: why the IKE SA is over
            self._session.end(str(result), ended=Ended.BY_PEER)
        if task.what == "rekey-ike":
            self._session.replacement.go_on(self._sa.now)

    def failed(self, task: Task, error: QsgwError) -> None:
        failure = failure_of(error)
        if task.what == "delete":
            self._session.end(self._session.close_reason)
            return
        if task.what != "liveness":
            self._report(task, failure)
        if task.exchange is not None and not task.answered:
            self._refuse(task.exchange, error)
        elif task is self._session.setting_up:
            self._session.setting_up = None
            self._give_up(error, failure)
        elif isinstance(error, CryptoError) or failure.ends_it or _breaks_rekey(task, error):
            # RFC 6989 2.5: a bad value. Delete would tell a peer that its side of a rekey is good.
            self._session.delete(
                failure.reason, informational.report_failure(NotifyType.INVALID_SYNTAX)
            )
        if task.what == "rekey-ike":
            self._session.replacement.go_on(self._sa.now)

    def _report(self, task: Task, failure: Failure) -> None:
        sa = self._sa
        if self._session.half_open and not sa.peering.tells(failure.reason, sa.remote, sa.now):
            return
        ours = task.exchange is None and (task.tunnel is not None or task.what in OPERATORS)
        what = task.what if ours else "respond"
        if task.fulfilled:  # its wish has ended in ChildUp
            what = "delete"
        self._concerned(task).failed(
            what,
            failure.reason,
            notify=failure.notify,
            from_peer=failure.from_peer,
            ppk_missing=failure.ppk_missing,
            yielded=failure.yielded,
        )

    def _refuse(self, exchange: ExchangeType, error: QsgwError) -> None:
        notify, *more = answer_to(error)
        self._courier.send_response(Respond(payloads=[notify, *more]))
        initial = exchange in (ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH)
        # RFC 7296 2.21.3: INVALID_SYNTAX is fatal for both; RFC 9242 3.4 for the initial ones
        if initial or notify.type == NotifyType.INVALID_SYNTAX:
            self._session.end(failure_of(error).reason)

    def _give_up(self, error: QsgwError, failure: Failure) -> None:
        """Setting up failed: tell the peer where it may believe otherwise.

        An IKE SA that is up for all that serves the tunnels that wait for it.
        """
        sa, reason, from_peer = self._sa, failure.reason, failure.from_peer
        waiting = bool(sa.peering.waiting)
        if sa.state is IkeState.ESTABLISHED and sa.tunnel is not None:
            children = sa.children_of(sa.tunnel)
            for child in children:
                self._session.service.drop(child, reason)
            if waiting or sa.children:
                self._session.service.delete([child.spi_in for child in children])
            else:
                self._session.delete(reason, informational.delete_ike())
        elif sa.state in (IkeState.KEYED, IkeState.AUTHENTICATING) and not from_peer:
            kind = NotifyType.AUTHENTICATION_FAILED
            if isinstance(error, ProtocolError):
                kind = error.notify
            self._session.delete(reason, informational.report_failure(kind))
        else:
            self._session.end(reason)
        if sa.established_at is None and not failure.ppk_missing:  # so would the others
            self.refuse_waiting(reason, failure.notify, from_peer=from_peer)
        elif waiting:
            self._serve_waiting(sa.peering, sa.now)

    def refuse_waiting(self, reason: str, notify: str | None, *, from_peer: bool) -> None:
        for wish in self._sa.peering.take_waiting():
            wish.refuse(reason, notify=notify, from_peer=from_peer)

    def stopped(self, task: Task, reason: str, notify: str | None) -> None:
        if task.what in OPERATORS and not task.fulfilled:
            self._concerned(task).failed(
                task.what, reason, notify=notify, from_peer=notify is not None
            )

    def _concerned(self, task: Task) -> KeyPolicy:
        """Whom a task was for: its tunnel, or the peering where that is not known."""
        asked = self._sa.asked_for if task.exchange is not None else task.tunnel
        return asked or self._sa.peering


def _breaks_rekey(task: Task, error: QsgwError) -> bool:
    """An answer to our rekey of the IKE SA that none of our proposals allows, or of no sense.

    The peer has made the new one, waits for our Delete of this one and would then be alone in
    the other: it has to be told (RFC 7296 2.21.3).
    """
    wrong = isinstance(error, ProtocolError) and not isinstance(error, PpkMissingError)
    return wrong and task.what == "rekey-ike" and task.exchange is None
