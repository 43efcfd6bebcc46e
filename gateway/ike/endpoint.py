"""Many IKE SAs, one clock: the sans-IO face of the IKE core.

Feed it datagrams, answers, wishes and the time; collect datagrams, commands and events
after every call, and call ``handle_timer`` when ``next_deadline`` has come. Times are
monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from gateway.crypto.kex import KexFactory, SystemKex
from gateway.crypto.rng import Rng
from gateway.ike import limits
from gateway.ike.child import ChildSa, Origin
from gateway.ike.commands import Answer, Command
from gateway.ike.config import Connection, PpkMode, Timing
from gateway.ike.credentials import OwnKey, TrustedAuthorities
from gateway.ike.deadlines import Deadlines
from gateway.ike.desk import CommandDesk
from gateway.ike.environment import Environment, IkeSpis
from gateway.ike.errors import ProtocolError
from gateway.ike.events import Dropped, DropReason, Event
from gateway.ike.gatekeeper import Gatekeeper
from gateway.ike.message import NO_SPI, foreign_header, parse_header
from gateway.ike.outbox import KEEPALIVE, Address, Datagram, Outbox
from gateway.ike.peering import Peering
from gateway.ike.ppk import HeldPpk
from gateway.ike.reception import Reception, begins
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa, KeyPolicy
from gateway.ike.session import Session
from gateway.ike.states import ChildState, IkeState
from gateway.ike.tunnel import Tunnel
from gateway.ike.views import ChildFacts, IkeFacts, TunnelFacts
from gateway.ike.wish import NO_KEY, Wish
from gateway.model import IpAddress, Ppk, Role, SaId


class Endpoint:
    """All IKE SAs of this gateway."""

    def __init__(
        self,
        *,
        connections: Sequence[Connection],
        rng: Rng,
        timing: Timing | None = None,
        cookie_threshold: int = limits.COOKIE_THRESHOLD,
        kex: KexFactory | None = None,
        record_keys: bool = False,
    ) -> None:
        """``record_keys``: keys of IKE SAs come out as RecordIkeKeys; for a lab only."""
        outbox, deadlines = Outbox(), Deadlines()
        self._env = Environment(
            rng=rng,
            kex=kex or SystemKex(),
            timing=timing or Timing(),
            outbox=outbox,
            deadlines=deadlines,
            desk=CommandDesk(outbox, deadlines),
            record_keys=record_keys,
            spis=IkeSpis(rng),
        )
        self._peerings: dict[str, Peering] = {}  # by connection
        self._tunnels: dict[str, Tunnel] = {}  # by name, in the order of the configuration
        self._by_spi: dict[bytes, Session] = {}  # by our SPI
        self._between: dict[tuple[IpAddress, IpAddress], Peering] = {}  # by both addresses
        self._unproved: list[Session] = []  # begun by a peer; those half-open are among them
        self._over: deque[Session] = deque()  # closed ones we still know, oldest first
        gatekeeper = Gatekeeper(
            rng=rng,
            outbox=outbox,
            cookie_threshold=cookie_threshold,
            half_open=self._half_open,
        )
        self._reception = Reception(
            self._env,
            gatekeeper,
            between=lambda local, remote: self._between.get((local, remote)),
            admit=self._add,
        )
        for connection in connections:
            self._peerings[connection.name] = Peering(connection, self._env)
        self._list_tunnels()

    # --- wishes ----------------------------------------------------------------------------

    def set_connections(self, connections: Sequence[Connection], now: float) -> None:
        """New configuration. What agrees on all that was negotiated keeps its SAs."""
        wanted = {connection.name: connection for connection in connections}
        kept: dict[str, Peering] = {}
        for name, peering in self._peerings.items():
            new = wanted.get(name)
            if new is not None and _same_terms(new, peering.connection):
                for tunnel in peering.reconfigure(new):
                    self._close_tunnel(tunnel, _RECONFIGURED, now)
                kept[name] = peering
            else:
                self._close_peering(peering, _RECONFIGURED, now)
        self._peerings = {
            name: kept.get(name) or Peering(connection, self._env)
            for name, connection in wanted.items()
        }
        self._list_tunnels()

    def set_ppk_mode(self, name: str, mode: PpkMode, now: float) -> None:
        """What to insist on from now on; running SAs are not touched."""
        del now
        whose = self._whose(name)
        if isinstance(whose, Peering):
            whose.own_mode = mode
        else:
            whose.mode = mode

    def initiate(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """Make a Child SA: in the IKE SA there is, else in a new one.

        What is wanted while an IKE SA is being set up waits for that. For a tunnel that has
        a Child SA already, a new IKE SA is made, which replaces the old one when it is up. So
        it is for a connection without tunnels, which is asked for by its own name (RFC 6023);
        that ends in IkeEstablished or ExchangeFailed.
        Ends in ChildUp or ExchangeFailed("initiate"). ``ppk`` ends in one SettlePpk.
        """
        whose = self._whose(name)
        if isinstance(whose, Peering):
            self._initiate_childless(whose, ppk, now)
            return
        wish = self._wish(name, "initiate", ppk)
        if self._is_busy(wish.tunnel) or self._is_answering(wish.tunnel):
            wish.refuse("it is being set up already")
        else:
            self._serve(wish, now)

    def rekey_child(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """Replace the tunnel's Child SA, or make one where the IKE SA has none.

        Ends in ChildUp or ExchangeFailed("rekey"). A ``ppk`` for a peer that takes none in
        CREATE_CHILD_SA goes into a new IKE SA instead, made before the old one is closed.
        """
        wish = self._wish(name, "rekey", ppk)
        tunnel = wish.tunnel
        session = self._current_session(tunnel)
        if wish.lacks_key:
            wish.refuse(NO_KEY, ppk_missing=True)
        elif session is None:
            wish.refuse("there is no IKE SA")
        elif self._is_busy(tunnel):
            wish.refuse("a rekey is under way already")
        elif wish.ppk is not None and not session.sa.takes_fresh_ppk:
            self._set_up(wish, now)
        elif (child := session.sa.current_child(tunnel)) is None:
            self._create(session, wish, now)
        elif child.state is not ChildState.ACTIVE:
            wish.refuse("the Child SA does not carry our traffic yet")
        else:
            session.service.rekey(tunnel, child, wish.ppk, now)

    def uses_key(self, name: str) -> bool:
        """Whether ``initiate`` would make use of a QKD key; each costs the peer one, too.

        Not where the IKE SA has one, and its peer takes no other for the Child SAs in it.
        """
        tunnel = self._tunnels[name]
        session = self._current_session(tunnel)
        if session is None or session.sa.current_child(tunnel) is not None:
            return True
        return not session.sa.shares_ppk

    def takes_fresh_ppk(self, name: str) -> bool:
        """Whether ``rekey_ike`` can make use of a QKD key with the peer there is now."""
        session = self._current_session(self._whose(name))
        return session is not None and session.sa.takes_fresh_ppk

    def rekey_ike(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """Replace the tunnel's IKE SA; the children go on in the new one.

        Ends in IkeRekeyed or ExchangeFailed("rekey-ike"). A ``ppk`` for a peer that takes none
        in CREATE_CHILD_SA is given back unused.
        """
        whose = self._whose(name)
        held = self._hold(whose, ppk)
        session = self._current_session(whose)
        reason = "there is no IKE SA" if session is None else session.why_not_rekey_ike()
        if any(one.connecting for one in self._of(_peering(whose))):
            reason = "an IKE SA is being set up already"
        if session is None or reason:
            self._refuse(whose, "rekey-ike", reason, held)
        else:
            session.rekey_ike(held, now)

    def close(self, name: str, *, reason: str, now: float) -> None:
        """Remove the tunnel's children now and delete them with the peer.

        The IKE SA goes too where it is for no other tunnel.
        """
        whose = self._whose(name)
        if isinstance(whose, Peering):
            self._close_peering(whose, reason, now)
        else:
            self._close_tunnel(whose, reason, now)

    def close_connection(self, name: str, *, reason: str, now: float) -> None:
        """Delete its IKE SAs with all that is in them, whichever tunnels that is for."""
        self._close_peering(self._peerings[name], reason, now)

    # --- what the outside reports ----------------------------------------------------------

    def receive_datagram(self, data: bytes, *, local: Address, remote: Address, now: float) -> None:
        """One UDP payload, the non-ESP marker already stripped. Never raises on bad input."""
        if data == KEEPALIVE:  # RFC 3948 2.3: says nothing, not even that the peer lives
            return
        try:
            header = parse_header(data)
        except ProtocolError as error:
            self._drop(_header_fault(data, error), error.reason, remote)
            foreign = foreign_header(data)
            if foreign is not None:
                self._reception.tell(error.notify, foreign, local, remote, now)
            return
        if begins(header):
            self._reception.receive(data, header, local, remote, now)
            return
        # The Initiator flag says which of the SPIs is the sender's (RFC 7296 3.1).
        ours, theirs = header.spi_i, header.spi_r
        if header.initiator:
            ours, theirs = theirs, ours
        session = self._by_spi.get(ours)
        if session is None or not _peer_spi_fits(session, theirs):
            self._drop(DropReason.UNKNOWN_SPI, f"SPI {ours.hex()}", remote)
            if not header.response:  # RFC 7296 1.5: never in answer to a response
                self._reception.tell(NotifyType.INVALID_IKE_SPI, header, local, remote, now)
        else:
            session.receive(data, header, local=local, remote=remote, now=now)

    def answer(self, answer: Answer, now: float) -> None:
        """The outcome of a command."""
        self._env.desk.answer(answer, now)

    def inbound_seen(self, sa_id: SaId, now: float) -> None:
        """The first packet came in on this inbound SA."""
        for session in self._sessions():
            for child in session.sa.children:
                if child.inbound == sa_id:
                    session.move_traffic(child, now)
                    return

    def peer_moved(self, sa_id: SaId, source: Address, now: float) -> None:
        """An authentic packet on this inbound SA came from another port than the kernel knew."""
        for tunnel in self._tunnels.values():
            for child in tuple(tunnel.children):
                if child.inbound == sa_id:
                    child.owner.peer_moved(child, source, now)
                    return

    def sa_expired(self, sa_id: SaId, *, hard: bool, now: float) -> None:
        """A kernel lifetime was reached. Soft: nothing here, policy decides. Hard: it is gone."""
        if not hard:
            return
        for tunnel in self._tunnels.values():
            for child in tuple(tunnel.children):
                if sa_id in (child.inbound, child.outbound):
                    self._child_lost(child, now)
                    return

    # --- the clock -------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._env.deadlines.run_due(now)

    def next_deadline(self) -> float | None:
        """When ``handle_timer`` wants to be called next."""
        return self._env.deadlines.next()

    # --- collected by the driver -----------------------------------------------------------

    def take_datagrams(self) -> list[Datagram]:
        taken, self._env.outbox.datagrams = self._env.outbox.datagrams, []
        return taken

    def take_commands(self) -> list[Command]:
        taken, self._env.outbox.commands = self._env.outbox.commands, []
        return taken

    def take_events(self) -> list[Event]:
        taken, self._env.outbox.events = self._env.outbox.events, []
        return taken

    def views(self) -> tuple[TunnelFacts, ...]:
        """One entry per tunnel, or connection without any, in the order of the configuration."""
        sessions: dict[Peering, list[IkeFacts]] = {}  # newest first
        for session in reversed(self._sessions()):
            if session in session.sa.peering.sessions:
                sessions.setdefault(session.sa.peering, []).append(session.sa.facts())
        found: list[TunnelFacts] = []
        for peering in self._peerings.values():
            ike = tuple(sessions.get(peering, ()))
            found += [
                TunnelFacts(
                    name=tunnel.name,
                    connection=peering.name,
                    ike=ike,
                    children=self.children(tunnel.name),
                    early=tuple(tunnel.early),
                )
                for tunnel in peering.tunnels.values()
            ]
            if not peering.tunnels:
                found.append(
                    TunnelFacts(name=peering.name, connection=peering.name, ike=ike, children=())
                )
        return tuple(found)

    def children(self, name: str) -> tuple[ChildFacts, ...]:
        """The Child SAs of one tunnel, newest first, as in ``views``; none if it is not known."""
        tunnel = self._tunnels.get(name)
        if tunnel is None:
            return ()
        return tuple(child.facts() for child in reversed(tunnel.children))

    # --- setting up ------------------------------------------------------------------------

    def _wish(self, name: str, what: str, ppk: Ppk | None) -> Wish:
        tunnel = self._tunnels[name]
        return Wish(tunnel=tunnel, what=what, ppk=self._hold(tunnel, ppk))

    def _hold(self, whose: KeyPolicy, ppk: Ppk | None) -> HeldPpk | None:
        held = None if ppk is None else HeldPpk(ppk, tunnel=whose.name, outbox=self._env.outbox)
        if held is not None and whose.mode is PpkMode.OFF:
            held.settle(used=False, reason="QKD keys are switched off here")
            return None
        return held

    def _refuse(
        self,
        whose: KeyPolicy,
        what: str,
        reason: str,
        held: HeldPpk | None,
        *,
        ppk_missing: bool = False,
    ) -> None:
        if held is not None:
            held.settle(used=False, reason=reason)
        whose.failed(what, reason, ppk_missing=ppk_missing)

    def _is_busy(self, tunnel: Tunnel) -> bool:
        """A Child SA is being made or replaced for it, by us or by the peer."""
        return any(session.rekeying(tunnel) for session in self._of(tunnel.peering)) or any(
            wish.tunnel is tunnel for wish in tunnel.peering.waiting
        )

    def _is_answering(self, tunnel: Tunnel) -> bool:
        return any(session.answering(tunnel) for session in self._of(tunnel.peering))

    def _create(self, session: Session, wish: Wish, now: float) -> None:
        """In an IKE SA that has no child of the tunnel, unless the peer is at it."""
        if self._is_busy(wish.tunnel) or self._is_answering(wish.tunnel):
            wish.refuse("the peer is making one")
        else:
            session.service.create(wish, now)

    def _serve(self, wish: Wish, now: float) -> None:
        """Where the Child SA is to be made."""
        session = self._current_session(wish.tunnel)
        sa = None if session is None else session.sa
        covered = sa is not None and sa.shares_ppk
        fits = wish.ppk is None or covered or (sa is not None and sa.takes_fresh_ppk)
        if wish.lacks_key and not covered:
            wish.refuse(NO_KEY, ppk_missing=True)
        elif session is None or not fits or session.sa.current_child(wish.tunnel) is not None:
            self._set_up(wish, now)
        else:
            self._create(session, wish, now)

    def _serve_waiting(self, peering: Peering, now: float) -> None:
        for wish in peering.take_waiting():
            session = self._current_session(wish.tunnel)
            if session is None:
                self._set_up(wish, now)
            elif session.sa.current_child(wish.tunnel) is not None:
                wish.refuse("the peer has made one meanwhile")
            else:
                self._create(session, wish, now)

    def _set_up(self, wish: Wish, now: float) -> None:
        """A new IKE SA, with a Child SA for this tunnel as its first; or wait for one."""
        peering = wish.tunnel.peering
        if any(session.connecting for session in self._of(peering)):
            peering.waiting.append(wish)
        else:
            self._connect(peering, wish.tunnel, now).initiate(wish.ppk, what=wish.what)

    def _initiate_childless(self, peering: Peering, ppk: Ppk | None, now: float) -> None:
        held = self._hold(peering, ppk)
        if any(session.connecting for session in self._of(peering)):
            self._refuse(peering, "initiate", "an IKE SA is being set up already", held)
        elif held is None and peering.mode is PpkMode.REQUIRE:
            self._refuse(peering, "initiate", NO_KEY, held, ppk_missing=True)
        else:
            self._connect(peering, None, now).initiate(held, what="initiate")

    def _connect(self, peering: Peering, tunnel: Tunnel | None, now: float) -> Session:
        connection = peering.connection
        # RFC 7296 2.23: both ports take IKE_SA_INIT
        port = limits.NAT_PORT if connection.nat_port_first else limits.IKE_PORT
        sa = IkeSa(
            env=self._env,
            peering=peering,
            tunnel=tunnel,
            role=Role.INITIATOR,
            state=IkeState.INIT_SENT,
            local=(connection.local_address, port),
            remote=(connection.remote_address, port),
            spi_i=self._env.spis.draw(),
            spi_r=NO_SPI,
            origin=Origin(role=Role.INITIATOR, began_at=now),
            now=now,
        )
        return self._add(sa)

    def _add(self, sa: IkeSa) -> Session:
        session = self._admit(sa)
        session.join()
        return session

    def _admit(self, sa: IkeSa) -> Session:
        session = Session(
            sa, admit=self._admit, ended=self._session_ended, serve=self._serve_waiting
        )
        self._by_spi[sa.our_spi] = session
        if session.half_open:
            self._unproved.append(session)
        return session

    # --- tearing down ----------------------------------------------------------------------

    def _session_ended(self, session: Session) -> None:
        """Keep it a while: the peer may not have got our last answer."""

        when = session.sa.now + limits.ANSWERED_MEMORY
        self._env.deadlines.set((session, "forget"), when, lambda _now: self._forget(session))
        self._over.append(session)
        if len(self._over) > limits.ENDED_MAX:
            self._forget(self._over[0])

    def _forget(self, session: Session) -> None:
        self._env.deadlines.cancel((session, "forget"))
        self._over.remove(session)
        self._by_spi.pop(session.sa.our_spi, None)
        self._env.spis.release(session.sa.our_spi)
        self._reception.forget(session)

    def _close_tunnel(self, tunnel: Tunnel, reason: str, now: float) -> None:
        peering = tunnel.peering
        for wish in peering.take_waiting(of=tunnel):
            wish.refuse(reason)
        others = peering.take_waiting()
        for session in self._of(peering):
            session.close_tunnel(tunnel, reason, now)
        for child in tuple(tunnel.children):  # what lingered
            tunnel.remove(child, reason=reason)
        for wish in others:  # the IKE SA they waited for may have been this tunnel's
            self._serve(wish, now)

    def _close_peering(self, peering: Peering, reason: str, now: float) -> None:
        for wish in peering.take_waiting():
            wish.refuse(reason)
        for session in self._of(peering):
            session.close(reason, now)
        for tunnel in peering.tunnels.values():
            for child in tuple(tunnel.children):
                tunnel.remove(child, reason=reason)

    def _child_lost(self, child: ChildSa, now: float) -> None:
        for session in self._sessions():
            if session is child.owner:
                session.child_lost(child, "lifetime ended in the kernel", now)

    # --- small things ----------------------------------------------------------------------

    def _sessions(self) -> list[Session]:
        """Oldest first."""
        return list(self._by_spi.values())

    def _half_open(self) -> list[IpAddress]:
        """The peers of half-open IKE SAs; one that is no longer half-open never is again."""
        self._unproved = [session for session in self._unproved if session.half_open]
        return [session.sa.remote[0] for session in self._unproved]

    def _list_tunnels(self) -> None:
        self._tunnels = {
            name: tunnel
            for peering in self._peerings.values()
            for name, tunnel in peering.tunnels.items()
        }
        self._between.clear()
        for peering in self._peerings.values():
            ends = peering.connection.local_address, peering.connection.remote_address
            self._between.setdefault(ends, peering)

    def _of(self, peering: Peering) -> list[Session]:
        """In the order in which they became part of it."""
        return [session for session in peering.sessions if isinstance(session, Session)]

    def _whose(self, name: str) -> KeyPolicy:
        """The tunnel of this name, or the connection that has none."""
        return self._tunnels.get(name) or self._peerings[name]

    def _current_session(self, whose: KeyPolicy) -> Session | None:
        """The newest established one, preferably the one that carries the tunnel's traffic."""
        established = [one for one in self._of(_peering(whose)) if one.established]
        staying = [one for one in established if not one.leaving] or established
        active = None if isinstance(whose, Peering) else whose.active
        for session in staying:
            if active is not None and active.owner is session:
                return session
        return staying[-1] if staying else None

    def _drop(self, reason: DropReason, detail: str, remote: Address) -> None:
        self._env.outbox.events.append(Dropped(reason=reason, detail=detail, remote=remote))


_RECONFIGURED = "configuration changed"


def _peering(whose: KeyPolicy) -> Peering:
    return whose if isinstance(whose, Peering) else whose.peering


def _peer_spi_fits(session: Session, theirs: bytes) -> bool:
    sa = session.sa
    if sa.role is Role.RESPONDER:
        return theirs == sa.spi_i
    return sa.state is IkeState.INIT_SENT or theirs == sa.spi_r


def _header_fault(data: bytes, error: ProtocolError) -> DropReason:
    if error.notify is NotifyType.INVALID_MAJOR_VERSION:
        return DropReason.BAD_VERSION
    return DropReason.TOO_SHORT if len(data) < 28 else DropReason.BAD_HEADER


def _same_terms(one: Connection, other: Connection) -> bool:
    """They differ in nothing but how we behave: IKE SAs made under one hold under the other."""
    behaving_alike = replace(
        other,
        timing=one.timing,
        fragment_size=one.fragment_size,
        ike_lifetime=one.ike_lifetime,
        children=one.children,
        ppk=one.ppk,
        nat_port_first=one.nat_port_first,
        local_auth=one.local_auth if _renewed(one, other) else other.local_auth,
        remote_auth=one.remote_auth if _still_certified(one, other) else other.remote_auth,
    )
    return behaving_alike == one


def _renewed(one: Connection, other: Connection) -> bool:
    """Our certificate, or key, is another one: it counts from the next IKE SA on."""
    return isinstance(one.local_auth, OwnKey) and isinstance(other.local_auth, OwnKey)


def _still_certified(one: Connection, other: Connection) -> bool:
    """The peer shows certificates as before, if perhaps of other authorities."""
    both = (one.remote_auth, other.remote_auth)
    return all(isinstance(auth, TrustedAuthorities) for auth in both)
