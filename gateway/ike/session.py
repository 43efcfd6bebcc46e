"""One IKE SA at work: its life from the first message to the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.errors import QsgwError
from gateway.ike import limits
from gateway.ike.child import ChildSa, Origin, PeerSession
from gateway.ike.events import IkeClosed, IkeRekeyDue
from gateway.ike.exchanges import Exchanges
from gateway.ike.flow import Flow, YieldedError
from gateway.ike.flows import establish, informational, rekey_ike
from gateway.ike.lifetime import Lifetime
from gateway.ike.liveness import Liveness
from gateway.ike.message import Header
from gateway.ike.outbox import Address
from gateway.ike.outcomes import Outcomes
from gateway.ike.peering import Peering
from gateway.ike.ppk import HeldPpk
from gateway.ike.reasons import refusal
from gateway.ike.registry import ExchangeType, notify_name
from gateway.ike.replacement import Replacement
from gateway.ike.sa import IkeSa
from gateway.ike.service import Service
from gateway.ike.states import ChildState, IkeInput, IkeState
from gateway.ike.steering import activate
from gateway.ike.succession import Admit, Succession
from gateway.ike.tasks import Task
from gateway.ike.tunnel import Tunnel
from gateway.model import Ended, Role

_CREATING = (ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE)

ServeWaiting = Callable[[Peering, float], None]
"""What waited for the IKE SA we set up need not wait any more."""


class Session:
    """Drives one IkeSa. ``ended`` is called once, when the IKE SA is closed.

    It is part of the peering from ``join`` on.
    """

    def __init__(
        self, sa: IkeSa, *, admit: Admit, ended: Callable[[Session], None], serve: ServeWaiting
    ) -> None:
        self.sa = sa
        sa.session = self
        self.succession = Succession(self, admit)
        self._ended = ended
        self._exchanges = Exchanges(sa, self)
        self._courier = self._exchanges.courier
        self._tasks = self._exchanges.tasks
        self._outcomes = Outcomes(self, self._courier, serve)
        self.service = Service(sa, self._tasks, self)
        self.replacement = Replacement(self, self.service.only_here)
        self._liveness = Liveness(
            sa,
            ask=self._ask_for_life,
            heard_at=lambda: self._courier.heard_at,
            established=lambda: self.established,
        )
        self._lifetime = Lifetime(sa, due=self._lifetime_due, over=self._lifetime_over)
        self.close_reason = ""
        self.setting_up: Task | None = None  # our own initial exchanges

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
        return self.setting_up is not None

    @property
    def half_open(self) -> bool:
        """The peer is setting it up and has not proved who it is."""
        waiting = self.sa.state in (IkeState.KEYED, IkeState.AUTHENTICATING)
        return waiting and self.sa.role is Role.RESPONDER

    def rekeying(self, tunnel: Tunnel | None = None) -> bool:
        """The IKE SA, or a child of this tunnel (None: of any), is being made or replaced.

        By us or by the peer.
        """
        if self.rekeying_ike or self.sa.state is IkeState.REKEYED:
            return True
        ours = self._tasks.busy() if tunnel is None else self.creating(tunnel)
        return ours or any(
            tunnel is None or pending.tunnel in (tunnel, None)
            for pending in self.sa.pending.values()
        )

    def creating(self, tunnel: Tunnel) -> bool:
        return bool(self._tasks.of(tunnel))

    def answering(self, tunnel: Tunnel) -> bool:
        """A request of the peer's for a child of this tunnel is under work."""
        return self._tasks.responding(*_CREATING) and self.sa.asked_for is tunnel

    @property
    def rekeying_ike(self) -> bool:
        return self._tasks.running("rekey-ike")

    @property
    def busy(self) -> bool:
        return self._tasks.busy() or self._tasks.running("delete-child")

    @property
    def leaving(self) -> bool:
        return self.replacement.due

    def replace(self, *, tell_peer: bool, now: float) -> None:
        # Not at once: this may be called from within one of our own flows.
        self.replacement.begin(now, tell_peer=tell_peer)

    def replace_later(self, now: float) -> None:
        self.replacement.begin(now + limits.REPLACED_GRACE, tell_peer=True)

    def release(self, child: ChildSa) -> None:
        if child in self.sa.children:
            self.sa.children.remove(child)

    def join(self, before: Session | None = None) -> None:
        """Become part of the peering; in the place of ``before``, if that was rekeyed."""
        self.sa.peering.sessions.append(self)
        self.watch_life()
        if before is not None:
            self.replacement.inherit(before.replacement)

    def used(self) -> None:
        """The peer has spoken in this IKE SA."""
        self.succession.used()

    def move(self, tunnel: Tunnel, now: float) -> None:
        if not (self.rekeying(tunnel) or self.answering(tunnel)):
            self.service.move(tunnel, now)

    def successor(self) -> PeerSession | None:
        return self.sa.peering.successor(self)

    def at(self, when: float, name: str, action: Callable[[float], None]) -> None:
        self._at(when, name, lambda: action(self.sa.now))

    def leave(self, reason: str, *, tell_peer: bool) -> None:
        self.succession.give_way()
        if tell_peer:
            self.delete(reason, informational.hand_over(self.sa, reason=reason))
        else:
            self.end(reason)

    # --- wishes ----------------------------------------------------------------------------

    def initiate(self, ppk: HeldPpk | None, *, what: str) -> None:
        """Set the IKE SA up, with the first Child SA where it is for a tunnel.

        ``what`` was asked for, and is what has failed if this does.
        """
        flow = establish.establish(self.sa, ppk)
        self.setting_up = Task(flow=flow, what=what, tunnel=self.sa.tunnel)
        self._tasks.start(self.setting_up)

    def await_auth(self) -> None:
        """Responder: IKE_SA_INIT is answered; the peer has so long to prove who it is."""
        when = self.origin.began_at + self.sa.peering.timing.half_open_timeout
        self._at(when, "half-open", self._half_open_expired)

    def why_not_rekey_ike(self) -> str:
        """Empty where a rekey of the IKE SA may begin now."""
        if self.connecting:
            return "an IKE SA is being set up already"
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
        self._exchanges.forget(task)
        self._tasks.fail(task, YieldedError("the IKE SA"))

    def disinherit(self, reason: str) -> None:
        heir = self.succession.heir
        if heir is not None:
            heir.fail(reason, self.sa.now)

    def fail(self, reason: str, now: float) -> None:
        """End it at once; the peer is not asked."""
        self.sa.now = now
        self.end(reason)

    def bow_out(self, reason: str) -> None:
        """Another IKE SA has taken over; what is still under way in this one comes first."""
        self._lifetime.stop()
        self.close_reason = reason
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
        self.service.drop(child, reason)
        self.service.find_stand_in(child.tunnel)
        if tell:
            self.service.delete([child.spi_in])

    def close_tunnel(self, tunnel: Tunnel, reason: str, now: float) -> None:
        """The IKE SA goes with the last tunnel it is for; until then only its children do."""
        self.sa.now = now
        heir = self.succession.heir
        if heir is not None and self.service.is_for_others(tunnel):
            self.succession.give_way()
            heir.close_tunnel(tunnel, reason, now)
        elif self.service.is_for_others(tunnel):
            self.service.close(tunnel, reason)
        else:
            self.close(reason, now)

    def close(self, reason: str, now: float) -> None:
        """No more traffic from now on; an established peer is told."""
        self.sa.now = now
        heir = self.succession.heir
        if heir is not None:
            self.succession.give_way()
            heir.close(reason, now)
        if self.established:
            for child in tuple(self.sa.children):
                self.service.drop(child, reason)
            self.delete(reason, informational.delete_ike())
        elif self.sa.state is not IkeState.DELETING:
            self.end(reason)

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

    def lost(self, now: float) -> None:
        """The peer does not answer (RFC 7296 2.4)."""
        sa = self.sa
        sa.now = now
        if sa.state is IkeState.DELETING:
            self.end(self.close_reason)
            return
        reason = f"no answer from {sa.remote[0]}"
        notify = self._courier.refusal
        if notify is not None and sa.state is IkeState.INIT_SENT:
            reason = refusal(notify, sa.connection.ike_proposals)
            name = notify_name(notify.type)
            self.end(reason, ended=Ended.PEER_LOST, notify=name)
        else:
            self.end(reason, ended=Ended.PEER_LOST)

    # --- ends of flows (ExchangesHost) -----------------------------------------------------

    def task_done(self, task: Task, result: object) -> None:
        self._outcomes.done(task, result)

    def task_failed(self, task: Task, error: QsgwError) -> None:
        self._outcomes.failed(task, error)

    # --- life ------------------------------------------------------------------------------

    def watch_life(self) -> None:
        """Established: from now on ask from time to time whether the peer lives."""
        joined = self in self.sa.peering.sessions
        if self.established and joined and not self.sa.living:
            self.sa.living = True
            self._lifetime.begin()
            self.sa.env.deadlines.cancel((self, "half-open"))
            self._liveness.begin()

    def _lifetime_due(self, replace: bool) -> None:
        if not (self.leaving or self.rekeying()):
            self.sa.emit(IkeRekeyDue(connection=self.sa.peering.name, replace=replace))

    def _lifetime_over(self) -> None:
        self.close("its lifetime is over", self.sa.now)

    def hinted(self) -> None:
        """Somebody says, unprotected, that the peer does not know this IKE SA."""
        self._liveness.hinted()

    def _ask_for_life(self) -> None:
        self._tasks.start(Task(flow=informational.liveness(), what="liveness"))

    def _half_open_expired(self) -> None:
        sa = self.sa
        if self._courier.heard_at is not None:  # else it was a flood, or a peer long gone
            reason = "peer began to set up an IKE SA and did not finish"
            if sa.peering.tells(reason, sa.remote, sa.now):
                sa.peering.failed("respond", reason)
        self.end("half-open for too long")

    def delete(self, reason: str, farewell: Flow[None]) -> None:
        """Say goodbye and end when that is answered."""
        self.close_reason = reason
        self._lifetime.stop()
        self.succession.give_way()
        self.sa.happened(IkeInput.DELETE)
        self._stop_tasks(reason)
        self.sa.abandon_pending(reason)
        self._tasks.start(Task(flow=farewell, what="delete"))

    def _stop_tasks(self, reason: str, notify: str | None = None) -> None:
        self._exchanges.forget_all()
        self.setting_up, setting_up = None, self.setting_up
        for task in self._tasks.end_all():
            self._outcomes.stopped(task, reason, notify)
        if setting_up is not None:
            self._outcomes.refuse_waiting(reason, notify, from_peer=notify is not None)

    def stop(self, task: Task, reason: str) -> None:
        self._exchanges.forget(task)
        self._tasks.end(task)
        self._outcomes.stopped(task, reason, None)

    def end(self, reason: str, *, ended: Ended = Ended.HERE, notify: str | None = None) -> None:
        sa = self.sa
        if sa.state is IkeState.CLOSED:
            return
        self.succession.give_way()
        sa.happened(IkeInput.END)
        self.succession.ended()
        self._courier.stop()
        self._courier.path.stop()
        self._lifetime.stop()
        self._liveness.stop()
        for name in ("half-open", "replace", "grace"):
            sa.env.deadlines.cancel((self, name))
        self._stop_tasks(reason, notify)
        sa.abandon_pending(reason)
        if sa.ppk is not None:
            sa.ppk.settle(used=False, reason=reason)
        self.service.release(reason, ended)
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
                    ended=ended,
                    peer_lost=ended is Ended.PEER_LOST and not others,
                )
            )
        self._ended(self)

    def _at(self, when: float, name: str, action: Callable[[], None]) -> None:
        def run(now: float) -> None:
            self.sa.now = now
            action()

        self.sa.env.deadlines.set((self, name), when, run)
