"""The exchanges of one IKE SA: which flow answers a request, which request goes out next.

Between ``courier``, which knows messages and no flows, and ``tasks``, which drives flows and
knows no messages. What the end of a flow means for the IKE SA is ``session``'s.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from gateway.errors import QsgwError
from gateway.ike.child import ChildSa
from gateway.ike.courier import Courier
from gateway.ike.encrypted import Inner
from gateway.ike.errors import ProtocolError
from gateway.ike.flow import Flow, Reply, Request, Respond
from gateway.ike.flows import (
    create_child,
    followup_ke,
    ike_auth,
    informational,
    intermediate,
    key_exchange,
    rekey_ike,
)
from gateway.ike.payloads import NotifyPayload
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.ike.sa import IkeSa
from gateway.ike.tasks import Task, Tasks

TOO_MANY = NotifyPayload(type=NotifyType.TEMPORARY_FAILURE)  # RFC 7296 2.25


class ExchangesHost(Protocol):
    """The session."""

    def watch_life(self) -> None:
        """The IKE SA may be established now."""

    def used(self) -> None:
        """The peer has asked for something other than its end."""

    def move_traffic(self, child: ChildSa, now: float) -> None:
        """The peer uses this child, so we can."""

    def task_done(self, task: Task, result: object) -> None: ...

    def task_failed(self, task: Task, error: QsgwError) -> None: ...

    def hinted(self) -> None:
        """Somebody says, unprotected, that the peer does not know this IKE SA."""

    def lost(self, now: float) -> None:
        """Our request was not answered in all this time."""

    def fail(self, reason: str, now: float) -> None:
        """It cannot go on."""


class Exchanges:
    """Of one session."""

    def __init__(self, sa: IkeSa, host: ExchangesHost) -> None:
        self._sa = sa
        self._host = host
        self.courier = Courier(sa, self)
        self.tasks = Tasks(sa, self)
        self._queue: deque[tuple[Task, Request]] = deque()
        self._asking: Task | None = None  # whose request is unanswered

    # --- messages (CourierHost) ------------------------------------------------------------

    def handle_request(self, exchange: ExchangeType, inner: Inner) -> None:
        allowance = self._sa.origin.child_requests
        if exchange is ExchangeType.CREATE_CHILD_SA and not allowance.allow(self._sa.now):
            self.courier.send_response(Respond(payloads=[TOO_MANY]))
            return
        waiting, self._sa.waiting_child = self._sa.waiting_child, None
        if waiting is not None:  # the initiator has its SAs in place, see flows.ike_auth
            self._host.move_traffic(waiting, self._sa.now)
        self._sa.asked_for = None
        flow = self._responder(exchange, inner)
        self.tasks.start(Task(flow=flow, what="respond", exchange=exchange))

    def _responder(self, exchange: ExchangeType, inner: Inner) -> Flow[object]:
        """The flow that answers; a message that cannot be read fails within it."""
        received = Received(inner.payloads())
        if not informational.deletes_ike(received):
            self._host.used()
        match exchange:
            case ExchangeType.IKE_INTERMEDIATE:
                yield from intermediate.respond(self._sa, received)
            case ExchangeType.IKE_AUTH:
                yield from ike_auth.respond(self._sa, received)
            case ExchangeType.CREATE_CHILD_SA if key_exchange.is_for_ike(received):
                return (yield from rekey_ike.respond(self._sa, received))
            case ExchangeType.CREATE_CHILD_SA:
                yield from create_child.respond(self._sa, received)
            case ExchangeType.IKE_FOLLOWUP_KE:
                return (yield from followup_ke.respond(self._sa, received))
            case _:
                return (yield from informational.respond(self._sa, received))
        return None

    def handle_response(self, outcome: Reply | ProtocolError) -> None:
        task, self._asking = self._asking, None
        if task is None:  # its flow was stopped meanwhile
            pass
        elif isinstance(outcome, Reply):
            self.tasks.resume(task, outcome)
        else:
            self.tasks.fail(task, outcome)
        self._pump()

    def hinted(self) -> None:
        self._host.hinted()

    def lost(self, now: float) -> None:
        self._host.lost(now)

    # --- flows (TaskHost) ------------------------------------------------------------------

    def send_request(self, task: Task, request: Request) -> None:
        self._queue.append((task, request))
        self._pump()

    def send_response(self, task: Task, response: Respond) -> None:
        del task
        self.courier.send_response(response)
        self._host.watch_life()

    def task_done(self, task: Task, result: object) -> None:
        self._host.task_done(task, result)

    def task_failed(self, task: Task, error: QsgwError) -> None:
        self._host.task_failed(task, error)

    # --- the queue of our requests ---------------------------------------------------------

    def forget(self, task: Task) -> None:
        """It is being stopped. If its request is unanswered, nobody waits for the response."""
        if self._asking is task:
            self._asking = None
        self._queue = deque(entry for entry in self._queue if entry[0] is not task)

    def forget_all(self) -> None:
        self._queue.clear()
        self._asking = None

    def _pump(self) -> None:
        """Send the next request if the window is free."""
        self._host.watch_life()
        if self._sa.requests.exhausted:
            self._host.fail("Message IDs are used up", self._sa.now)
        while self._queue and not self._sa.requests.busy:
            self._asking, request = self._queue.popleft()
            self.courier.send_request(request)
