"""One IKE SA at work: its life from the first message to the last, and the flows it drives.

Errors become what RFC 7296 2.21 wants: in a responder flow the notify that answers the
request, in an initiator flow an ExchangeFailed event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from gateway.errors import CryptoError, QsgwError
from gateway.ike import limits
from gateway.ike.child import ChildSa, Origin
from gateway.ike.cookies import RateLimit
from gateway.ike.courier import Courier
from gateway.ike.encrypted import Inner
from gateway.ike.errors import ProtocolError
from gateway.ike.events import IkeClosed, IkeRekeyDue
from gateway.ike.failures import Failure, answer_to, failure_of
from gateway.ike.flow import Flow, Reply, Request, Respond, YieldedError
from gateway.ike.flows import (
    create_child,
    establish,
    followup_ke,
    ike_auth,
    informational,
    intermediate,
    key_exchange,
    rekey_child,
    rekey_ike,
)
from gateway.ike.lifetime import Lifetime
from gateway.ike.message import Header
from gateway.ike.negotiation import activate
from gateway.ike.outbox import Address
from gateway.ike.payloads import NotifyPayload
from gateway.ike.ppk import HeldPpk
from gateway.ike.reasons import refusal
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType, NotifyType, notify_name
from gateway.ike.sa import IkeSa, KeyPolicy
from gateway.ike.states import ChildState, IkeInput, IkeState
from gateway.ike.succession import Admit, Succession
from gateway.ike.tasks import Task, Tasks
from gateway.ike.tunnel import Tunnel
from gateway.model import Ended, Role

TOO_MANY = NotifyPayload(type=NotifyType.TEMPORARY_FAILURE)  # RFC 7296 2.25
OPERATORS = ("initiate", "rekey", "rekey-ike")
"""Tasks somebody asked for: each ends in ChildUp, IkeRekeyed or ExchangeFailed."""

_CREATING = (ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE)


class Session:
    """Drives one IkeSa. ``ended`` is called once, when the IKE SA is closed.

    It is part of the tunnel from ``join`` on.
    """

    def __init__(self, sa: IkeSa, *, admit: Admit, ended: Callable[[Session], None]) -> None:
        self.sa = sa
        sa.session = self
        self.succession = Succession(self, admit)
        self._ended = ended
        self._courier = Courier(sa, self)
        self._tasks = Tasks(sa, self)
        self._lifetime = Lifetime(sa, due=self._lifetime_due, over=self._lifetime_over)
        self._queue: deque[tuple[Task, Request]] = deque()
        self._asking: Task | None = None  # whose request is unanswered
        self._hinted_at = -limits.HINT_INTERVAL  # when a hint last made us ask
        self._child_requests = RateLimit(
            rate=limits.CHILD_REQUESTS_PER_SECOND, burst=limits.CHILD_REQUESTS_BURST
        )
        self._close_reason = ""
        self._initiated_for = "initiate"  # or "rekey", where a new IKE SA is the way to it
        self.to_go: tuple[float, bool] | None = None  # replaced: when, and tell the peer?

    # --- what the peering wants to know (PeerSession) --------------------------------------

    @property
    def origin(self) -> Origin:
        return self.sa.origin

    @property
    def children(self) -> Sequence[ChildSa]:
        return self.sa.children

    @property
    def initial_contact(self) -> bool:
        return self.sa.initial_contact

    @property
    def established(self) -> bool:
        return self.sa.state in (IkeState.ESTABLISHED, IkeState.REKEYED)

    @property
    def connecting(self) -> bool:
        """We are setting it up."""
        return self._tasks.running("initiate")

    @property
    def half_open(self) -> bool:
        """The peer is setting it up and has not proved who it is."""
        waiting = self.sa.state in (IkeState.KEYED, IkeState.AUTHENTICATING)
        return waiting and self.sa.role is Role.RESPONDER

    def rekeying(self, tunnel: Tunnel | None = None) -> bool:
        """The IKE SA, or a child of this tunnel (None: of any), is being made or replaced.

        By us or by the peer.
        """
        return (
            self._tasks.running("rekey", tunnel)
            or self._tasks.running("rekey-ike")
            or self.sa.state is IkeState.REKEYED
            or any(
                tunnel is None or pending.tunnel in (tunnel, None)
                for pending in self.sa.pending.values()
            )
        )

    @property
    def busy(self) -> bool:
        return self._tasks.running("rekey") or self._tasks.running("delete-child")

    @property
    def leaving(self) -> bool:
        return self.to_go is not None

    @property
    def takes_fresh_ppk(self) -> bool:
        """A Child SA can be keyed with a QKD key of its own."""
        return key_exchange.takes_fresh_ppk(self.sa)

    def replace(self, *, tell_peer: bool, now: float) -> None:
        # Not at once: this may be called from within one of our own flows.
        self._replace_at(now, tell_peer=tell_peer)

    def replace_later(self, now: float) -> None:
        self._replace_at(now + limits.REPLACED_GRACE, tell_peer=True)

    def release(self, child: ChildSa) -> None:
        if child in self.sa.children:
            self.sa.children.remove(child)

    def join(self, before: Session | None = None) -> None:
        """Become part of the tunnel; in the place of ``before``, if that was rekeyed."""
        self.sa.peering.sessions.append(self)
        self._watch_life()
        if before is not None and before.to_go is not None:
            when, tell_peer = before.to_go
            self._replace_at(when, tell_peer=tell_peer)

    # --- wishes ----------------------------------------------------------------------------

    def initiate(self, ppk: HeldPpk | None, *, what: str) -> None:
        """Set the IKE SA up. ``what`` was asked for, and is what has failed if this does."""
        self._initiated_for = what
        flow = establish.establish(self.sa, ppk)
        self._tasks.start(Task(flow=flow, what="initiate", tunnel=self.sa.tunnel))

    def await_auth(self) -> None:
        """Responder: IKE_SA_INIT is answered; the peer has so long to prove who it is."""
        when = self.origin.began_at + self.sa.peering.timing.half_open_timeout
        self._at(when, "half-open", self._half_open_expired)

    def rekey(self, tunnel: Tunnel, child: ChildSa | None, ppk: HeldPpk | None, now: float) -> None:
        """Replace ``child``, or make one where the tunnel has none."""
        self.sa.now = now
        flow = rekey_child.rekey(self.sa, tunnel, child, ppk)
        self._tasks.start(Task(flow=flow, what="rekey", tunnel=tunnel))

    def why_not_rekey_ike(self) -> str:
        """Empty where a rekey of the IKE SA may begin now."""
        if self.rekeying() or self._tasks.responding(*_CREATING):
            return "a rekey is under way already"
        if self.busy:
            return "a Child SA is being deleted"
        if self.leaving:
            return "another IKE SA is taking over"
        return ""

    def rekey_ike(self, ppk: HeldPpk | None, now: float) -> None:
        self.sa.now = now
        self._tasks.start(Task(flow=rekey_ike.rekey(self.sa, ppk), what="rekey-ike"))

    def stop_rekeying(self) -> None:
        """The peer has moved to the IKE SA it made itself."""
        task = self._tasks.find("rekey-ike")
        if task is None:
            return
        if self._asking is task:
            self._asking = None
        self._queue = deque(entry for entry in self._queue if entry[0] is not task)
        self._tasks.fail(task, YieldedError("the IKE SA"))

    def disinherit(self, reason: str) -> None:
        heir = self.succession.heir
        if heir is not None:
            heir.fail(reason, self.sa.now)

    def fail(self, reason: str, now: float) -> None:
        """End it at once; the peer is not asked."""
        self.sa.now = now
        self._end(reason)

    def bow_out(self, reason: str) -> None:
        """Another IKE SA has taken over; what is still under way in this one comes first."""
        self._lifetime.stop()
        self._close_reason = reason
        self.sa.happened(IkeInput.DELETE)
        self._tasks.start(Task(flow=informational.delete_ike(), what="delete"))

    def discard(self, reason: str, now: float) -> None:
        """Delete a redundant IKE SA."""
        self.sa.now = now
        if self.sa.state is IkeState.ESTABLISHED:
            self.bow_out(reason)

    def at_grace(self, action: Callable[[], None]) -> None:
        """If the peer does not delete an IKE SA in good time."""
        self._at(self.sa.now + limits.REPLACED_GRACE, "grace", action)

    def move_traffic(self, child: ChildSa, now: float) -> None:
        """The peer uses this child, so we can."""
        if child.state is ChildState.INSTALLED:
            self.stand_in(child, now)

    def stand_in(self, child: ChildSa, now: float) -> None:
        self.sa.now = now
        if not child.activating:
            self._tasks.start(Task(flow=activate(self.sa, child), what="respond"))

    def peer_moved(self, child: ChildSa, source: Address, now: float) -> None:
        """Authentic ESP of this child came from here."""
        self.sa.now = now
        self._courier.path.esp_heard(child, source)

    def child_lost(self, child: ChildSa, reason: str, now: float) -> None:
        """The kernel has dropped one of its SAs: drop the other, and tell the peer."""
        self.sa.now = now
        tell = self.established and child in self.sa.children
        self._drop_child(child, reason)
        self._find_stand_in(child.tunnel)
        if tell:
            spi = child.spi_in.to_bytes(limits.ESP_SPI_SIZE, "big")
            self._tasks.start(Task(flow=informational.delete_spi(spi), what="delete-child"))

    def close(self, reason: str, now: float) -> None:
        """No more traffic from now on; an established peer is told."""
        self.sa.now = now
        heir = self.succession.heir
        if heir is not None:
            self.succession.give_way()
            heir.close(reason, now)
        if self.established:
            for child in tuple(self.sa.children):
                self._drop_child(child, reason)
            self._delete(reason, informational.delete_ike())
        elif self.sa.state is not IkeState.DELETING:
            self._end(reason)

    # --- messages --------------------------------------------------------------------------

    def receive(
        self, data: bytes, header: Header, *, local: Address, remote: Address, now: float
    ) -> None:
        """A message whose SPIs are ours."""
        self.sa.now = now
        self._courier.receive(data, header, local, remote)

    def repeat_init_response(self, local: Address, remote: Address) -> None:
        """The same IKE_SA_INIT request came again."""
        self._courier.repeat_init_response(local, remote)

    def handle_request(self, exchange: ExchangeType, inner: Inner) -> None:
        if exchange is ExchangeType.CREATE_CHILD_SA and not self._child_requests.allow(self.sa.now):
            self._courier.send_response(Respond(payloads=[TOO_MANY]))
            return
        waiting, self.sa.waiting_child = self.sa.waiting_child, None
        if waiting is not None:  # the initiator has its SAs in place, see flows.ike_auth
            self.move_traffic(waiting, self.sa.now)
        self.sa.asked_for = None
        flow = self._responder(exchange, inner)
        self._tasks.start(Task(flow=flow, what="respond", exchange=exchange))

    def _responder(self, exchange: ExchangeType, inner: Inner) -> Flow[object]:
        """The flow that answers; a message that cannot be read fails within it."""
        received = Received(inner.payloads())
        if not informational.deletes_ike(received):
            self.succession.used()
        match exchange:
            case ExchangeType.IKE_INTERMEDIATE:
                yield from intermediate.respond(self.sa, received)
            case ExchangeType.IKE_AUTH:
                yield from ike_auth.respond(self.sa, received)
            case ExchangeType.CREATE_CHILD_SA if key_exchange.is_for_ike(received):
                return (yield from rekey_ike.respond(self.sa, received))
            case ExchangeType.CREATE_CHILD_SA:
                yield from create_child.respond(self.sa, received)
            case ExchangeType.IKE_FOLLOWUP_KE:
                return (yield from followup_ke.respond(self.sa, received))
            case _:
                return (yield from informational.respond(self.sa, received))
        return None

    def handle_response(self, outcome: Reply | ProtocolError) -> None:
        task, self._asking = self._asking, None
        if task is None:  # its flow was stopped meanwhile
            pass
        elif isinstance(outcome, Reply):
            self._tasks.resume(task, outcome)
        else:
            self._tasks.fail(task, outcome)
        self._pump()

    def lost(self, now: float) -> None:
        """The peer does not answer (RFC 7296 2.4)."""
        sa = self.sa
        sa.now = now
        if sa.state is IkeState.DELETING:
            self._end(self._close_reason)
            return
        reason = f"no answer from {sa.remote[0]}"
        notify = self._courier.refusal
        if notify is not None and sa.state is IkeState.INIT_SENT:
            reason = refusal(notify, sa.connection.ike_proposals)
            name = notify_name(notify.type)
            self._end(reason, ended=Ended.PEER_LOST, notify=name)
        else:
            self._end(reason, ended=Ended.PEER_LOST)

    # --- flows (TaskHost) ------------------------------------------------------------------

    def send_request(self, task: Task, request: Request) -> None:
        self._queue.append((task, request))
        self._pump()

    def send_response(self, task: Task, response: Respond) -> None:
        del task
        self._courier.send_response(response)
        self._watch_life()

    def task_done(self, task: Task, result: object) -> None:
        if task.what == "delete":
            self._end(self._close_reason)
        elif isinstance(result, rekey_ike.Successor):
            self.succession.made(result)
            if result.redundant is not None:
                self._report(task, failure_of(result.redundant))
        elif result:  # from informational.respond: why the IKE SA is over
            self._end(str(result), ended=Ended.BY_PEER)
        self._replace_if_due(task)

    def task_failed(self, task: Task, error: QsgwError) -> None:
        failure = failure_of(error)
        if task.what == "delete":
            self._end(self._close_reason)
            return
        if task.what != "liveness":
            self._report(task, failure)
        if task.exchange is not None and not task.answered:
            self._refuse(task.exchange, error)
        elif task.what == "initiate":
            self._give_up(error, failure.reason, from_peer=failure.from_peer)
        elif isinstance(error, CryptoError) or _ends_it(failure):  # RFC 6989 2.5: a bad value
            # Delete would tell a peer that its side of a rekey is good.
            self._delete(failure.reason, informational.report_failure(NotifyType.INVALID_SYNTAX))
        self._replace_if_due(task)

    def _report(self, task: Task, failure: Failure) -> None:
        sa = self.sa
        if self.half_open and not sa.peering.tells(failure.reason, sa.remote, sa.now):
            return
        what = task.what if task.what in OPERATORS else "respond"
        if what == "initiate":
            what = self._initiated_for
        self._concerned(task).failed(
            what,
            failure.reason,
            notify=failure.notify,
            from_peer=failure.from_peer,
            ppk_missing=failure.ppk_missing,
            yielded=failure.yielded,
        )

    def _refuse(self, exchange: ExchangeType, error: QsgwError) -> None:
        notify = answer_to(error)
        self._courier.send_response(Respond(payloads=[notify]))
        initial = exchange in (ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH)
        # RFC 7296 2.21.3: INVALID_SYNTAX is fatal for both; RFC 9242 3.4 for the initial ones
        if initial or notify.type == NotifyType.INVALID_SYNTAX:
            self._end(failure_of(error).reason)

    def _give_up(self, error: QsgwError, reason: str, *, from_peer: bool) -> None:
        """Setting up failed: tell the peer where it may believe otherwise."""
        sa = self.sa
        if sa.state is IkeState.ESTABLISHED:
            for child in tuple(sa.children):
                self._drop_child(child, reason)
            self._delete(reason, informational.delete_ike())
        elif sa.state in (IkeState.KEYED, IkeState.AUTHENTICATING) and not from_peer:
            kind = NotifyType.AUTHENTICATION_FAILED
            if isinstance(error, ProtocolError):
                kind = error.notify
            self._delete(reason, informational.report_failure(kind))
        else:
            self._end(reason)

    def _pump(self) -> None:
        """Send the next request if the window is free."""
        self._watch_life()
        if self.sa.requests.exhausted:
            self._end("Message IDs are used up")
        while self._queue and not self.sa.requests.busy:
            self._asking, request = self._queue.popleft()
            self._courier.send_request(request)

    # --- life ------------------------------------------------------------------------------

    def _watch_life(self) -> None:
        """Established: from now on ask from time to time whether the peer lives."""
        joined = self in self.sa.peering.sessions
        if self.established and joined and not self.sa.living:
            self.sa.living = True
            self._lifetime.begin()
            self.sa.env.deadlines.cancel((self, "half-open"))
            self._at(self.sa.now + self._liveness_interval, "liveness", self._check_liveness)

    def _lifetime_due(self, replace: bool) -> None:
        if not (self.leaving or self.rekeying()):
            self.sa.emit(IkeRekeyDue(connection=self.sa.peering.name, replace=replace))

    def _lifetime_over(self) -> None:
        self.close("its lifetime is over", self.sa.now)

    @property
    def _liveness_interval(self) -> float:
        """Until the next look; where liveness is off, whether it still is."""
        return self.sa.peering.timing.liveness_interval or limits.LIVENESS_INTERVAL

    def _check_liveness(self) -> None:
        if not self.established:
            return
        quiet_until = (self._courier.heard_at or 0.0) + self._liveness_interval
        if quiet_until <= self.sa.now:
            wanted = self.sa.peering.timing.liveness_interval > 0
            # any unanswered request asks the same question
            if wanted and not self.sa.requests.busy:
                self._tasks.start(Task(flow=informational.liveness(), what="liveness"))
            quiet_until = self.sa.now + self._liveness_interval
        self._at(quiet_until, "liveness", self._check_liveness)

    def hinted(self) -> None:
        """Somebody says, unprotected, that the peer does not know this IKE SA."""
        # RFC 7296 2.4, 2.21.4: a hint and no more. A request of ours that is unanswered asks
        # the same question already.
        due = self._hinted_at + limits.HINT_INTERVAL <= self.sa.now
        if self.established and due and not self.sa.requests.busy:
            self._hinted_at = self.sa.now
            self._tasks.start(Task(flow=informational.liveness(), what="liveness"))

    def _half_open_expired(self) -> None:
        sa = self.sa
        if self._courier.heard_at is not None:  # else it was a flood, or a peer long gone
            reason = "peer began to set up an IKE SA and did not finish"
            if sa.peering.tells(reason, sa.remote, sa.now):
                sa.peering.failed("respond", reason)
        self._end("half-open for too long")

    def _replace_at(self, when: float, *, tell_peer: bool) -> None:
        if self.to_go is None or when < self.to_go[0]:
            self.to_go = (when, tell_peer)
            self._at(when, "replace", self._replace)

    def _replace_if_due(self, task: Task) -> None:
        """What had to wait for the end of our rekey of the IKE SA."""
        if task.what == "rekey-ike" and self.to_go is not None:
            self._at(max(self.to_go[0], self.sa.now), "replace", self._replace)

    def _replace(self) -> None:
        others = (one for one in self.sa.peering.sessions if one.origin is not self.origin)
        if self.to_go is None or not self.established or self._tasks.running("rekey-ike"):
            return
        if not any(one.established for one in others):
            self.to_go = None  # what was to take over is gone itself
            return
        tell_peer = self.to_go[1]
        reason = "replaced by another IKE SA"
        self.succession.give_way()
        if tell_peer:
            self._delete(reason, informational.hand_over(self.sa, reason=reason))
        else:
            self._end(reason)

    def _delete(self, reason: str, farewell: Flow[None]) -> None:
        """Say goodbye and end when that is answered."""
        self._close_reason = reason
        self._lifetime.stop()
        self.succession.give_way()
        self.sa.happened(IkeInput.DELETE)
        self._stop_tasks(reason)
        self.sa.abandon_pending(reason)
        self._tasks.start(Task(flow=farewell, what="delete"))

    def _drop_child(self, child: ChildSa, reason: str) -> None:
        if child in self.sa.children:
            self.sa.children.remove(child)
        child.tunnel.remove(child, reason=reason)

    def _stop_tasks(self, reason: str, notify: str | None = None) -> None:
        self._queue.clear()
        self._asking = None
        for task in self._tasks.end_all():
            if task.what in OPERATORS:
                self._concerned(task).failed(
                    task.what, reason, notify=notify, from_peer=notify is not None
                )

    def _end(self, reason: str, *, ended: Ended = Ended.HERE, notify: str | None = None) -> None:
        sa = self.sa
        if sa.state is IkeState.CLOSED:
            return
        self.succession.give_way()
        sa.happened(IkeInput.END)
        self.succession.ended()
        self._courier.stop()
        self._courier.path.stop()
        self._lifetime.stop()
        for name in ("half-open", "liveness", "replace", "grace"):
            sa.env.deadlines.cancel((self, name))
        self._stop_tasks(reason, notify)
        sa.abandon_pending(reason)
        if sa.ppk is not None:
            sa.ppk.settle(used=False, reason=reason)
        self._release_children(reason, ended)
        if sa.keys_now is not None:
            sa.keys_now.wipe()
        if sa.channel is not None:
            sa.channel.forget_fragments()
        # A request alone, from whoever it was, is no attempt.
        if sa.established_at is None and (sa.role is Role.INITIATOR or self._courier.heard_at):
            sa.peering.watch.failed(sa.missing, sa.now)
        if self in sa.peering.sessions:
            sa.peering.sessions.remove(self)
        if sa.announced:
            others = any(one.established for one in sa.peering.sessions)
            sa.emit(
                IkeClosed(
                    connection=sa.peering.name,
                    spi_i=sa.spi_i,
                    spi_r=sa.spi_r,
                    reason=reason,
                    peer_lost=ended is Ended.PEER_LOST and not others,
                )
            )
        self._ended(self)

    def _release_children(self, reason: str, ended: Ended) -> None:
        """Where another child carries on, packets in flight may still come in on these."""
        leaving, self.sa.children[:] = tuple(self.sa.children), ()
        carried_on = {
            child.tunnel for child in leaving if child.tunnel.active not in (None, *leaving)
        }
        for child in leaving:
            if child.tunnel in carried_on:
                child.tunnel.retire(child, reason=reason, rekeyed=True, now=self.sa.now)
            else:
                child.tunnel.remove(child, reason=reason, ended=ended)
        for tunnel in dict.fromkeys(child.tunnel for child in leaving):
            self._find_stand_in(tunnel)

    def _find_stand_in(self, tunnel: Tunnel) -> None:
        """Our traffic may have lost its child: whatever can carry it now shall."""
        other = tunnel.stand_in()
        if tunnel.active is None and other is not None:
            other.owner.stand_in(other, self.sa.now)

    def _concerned(self, task: Task) -> KeyPolicy:
        """Whom a task was for: its tunnel, or the peering where that is not known."""
        asked = self.sa.asked_for if task.exchange is not None else task.tunnel
        return asked or self.sa.peering

    def _at(self, when: float, name: str, action: Callable[[], None]) -> None:
        def run(now: float) -> None:
            self.sa.now = now
            action()

        self.sa.env.deadlines.set((self, name), when, run)


def _ends_it(failure: Failure) -> bool:
    """RFC 7296 2.21.3: INVALID_SYNTAX in a response is fatal for both."""
    return failure.from_peer and failure.notify == NotifyType.INVALID_SYNTAX.name
