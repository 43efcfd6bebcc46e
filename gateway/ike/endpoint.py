"""Many IKE SAs, one clock: the sans-IO face of the IKE core.

Feed it datagrams, answers, wishes and the time; collect datagrams, commands and events
after every call, and call ``handle_timer`` when ``next_deadline`` has come. Times are
monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.crypto.kex import KexFactory, SystemKex
from gateway.crypto.rng import Rng
from gateway.crypto.secret import Secret
from gateway.ike import limits
from gateway.ike.child import ChildSa
from gateway.ike.commands import Answer, Command
from gateway.ike.config import Connection, PpkMode, Timing
from gateway.ike.deadlines import Deadlines
from gateway.ike.desk import CommandDesk
from gateway.ike.environment import Environment, IkeSpis
from gateway.ike.errors import NoIkeSaError, ProtocolError
from gateway.ike.events import Dropped, DropReason, Event
from gateway.ike.gatekeeper import Gatekeeper
from gateway.ike.keymat import exported_key
from gateway.ike.message import foreign_header, parse_header
from gateway.ike.outbox import KEEPALIVE, Address, Datagram, Outbox
from gateway.ike.peering import Peering
from gateway.ike.reception import Reception, begins
from gateway.ike.registry import NotifyType
from gateway.ike.sa import KeyPolicy
from gateway.ike.session import Session
from gateway.ike.sessions import Sessions
from gateway.ike.states import IkeState
from gateway.ike.terms import same_terms
from gateway.ike.tunnel import Tunnel
from gateway.ike.views import ChildFacts, IkeFacts, TunnelFacts
from gateway.ike.wishes import Wishes
from gateway.model import IpAddress, Mixed, Ppk, Role, SaId


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
        self._between: dict[tuple[IpAddress, IpAddress], Peering] = {}  # by both addresses
        self._sessions = Sessions(
            self._env,
            serve=lambda peering, now: self._wishes.serve_waiting(peering, now),  # noqa: PLW0108  made below
            forgotten=lambda session: self._reception.forget(session),  # noqa: PLW0108  as above
        )
        self._wishes = Wishes(self._env, self._sessions)
        gatekeeper = Gatekeeper(
            rng=rng,
            outbox=outbox,
            cookie_threshold=cookie_threshold,
            half_open=self._sessions.half_open,
        )
        self._reception = Reception(
            self._env,
            gatekeeper,
            between=lambda local, remote: self._between.get((local, remote)),
            admit=self._sessions.add,
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
            if new is not None and same_terms(new, peering.connection):
                for tunnel in peering.reconfigure(new):
                    self._wishes.close_tunnel(tunnel, _RECONFIGURED, now)
                kept[name] = peering
            else:
                self._wishes.close_peering(peering, _RECONFIGURED, now)
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
            self._wishes.initiate_childless(whose, ppk, now)
        else:
            self._wishes.initiate(whose, ppk, now)

    def rekey(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """``rekey_child``, or ``rekey_ike`` for a connection without tunnels."""
        whose = self._whose(name)
        if isinstance(whose, Peering):
            self._wishes.rekey_ike(whose, ppk, now)
        else:
            self._wishes.rekey_child(whose, ppk, now)

    def rekey_child(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """Replace the tunnel's Child SA, or make one where the IKE SA has none.

        Ends in ChildUp or ExchangeFailed("rekey"). A ``ppk`` for a peer that takes none in
        CREATE_CHILD_SA goes into a new IKE SA instead, made before the old one is closed.
        """
        self._wishes.rekey_child(self._tunnels[name], ppk, now)

    def uses_key(self, name: str) -> bool:
        """Whether ``initiate`` would make use of a QKD key; each costs the peer one, too.

        Not where the IKE SA has one, and its peer takes no other for the Child SAs in it.
        """
        whose = self._whose(name)
        return isinstance(whose, Peering) or self._wishes.uses_key(whose)

    def takes_fresh_ppk(self, name: str) -> bool:
        """Whether ``rekey_ike`` can make use of a QKD key with the peer there is now."""
        session = self._sessions.current(self._whose(name))
        return session is not None and session.sa.takes_fresh_ppk

    def rekey_ike(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """Replace the tunnel's IKE SA; the children go on in the new one.

        Ends in IkeRekeyed or ExchangeFailed("rekey-ike"). A ``ppk`` for a peer that takes none
        in CREATE_CHILD_SA is given back unused; for a connection without tunnels it goes into a
        new IKE SA, made before the old one is closed, and IkeEstablished is the end.
        """
        self._wishes.rekey_ike(self._whose(name), ppk, now)

    def close(self, name: str, *, reason: str, now: float) -> None:
        """Remove the tunnel's children now and delete them with the peer.

        The IKE SA goes too where it is for no other tunnel.
        """
        whose = self._whose(name)
        if isinstance(whose, Peering):
            self._wishes.close_peering(whose, reason, now)
        else:
            self._wishes.close_tunnel(whose, reason, now)

    def close_connection(self, name: str, *, reason: str, now: float) -> None:
        """Delete its IKE SAs with all that is in them, whichever tunnels that is for."""
        self._wishes.close_peering(self._peerings[name], reason, now)

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
        session = self._sessions.find(ours)
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
        for session in self._sessions.all():
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

    # --- keys for others ---------------------------------------------------------------------

    def export_key(
        self, spi_i: bytes, spi_r: bytes, *, label: bytes, context: bytes, length: int
    ) -> Secret:
        """A key that both ends of this IKE SA have, and nobody else: ``length`` octets.

        From SK_d, so everything that was mixed into the IKE SA is in it, and the rekeyed one
        gives another. ``label`` (1 to 255 octets) says what it is for, ``context`` what it is bound
        to. The SPIs are those of IkeEstablished and IkeRekeyed. NoIkeSaError where it is no more;
        ValueError for a label or length that cannot be.
        """
        for session in (self._sessions.find(spi_i), self._sessions.find(spi_r)):  # one is ours
            sa = None if session is None or not session.established else session.sa
            if sa is not None and (sa.spi_i, sa.spi_r) == (spi_i, spi_r):
                return exported_key(
                    sa.prf, sa.keys.sk_d, spi_i + spi_r, label=label, context=context, length=length
                )
        raise NoIkeSaError(f"there is no IKE SA {spi_i.hex()}_i {spi_r.hex()}_r")

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
        for session in reversed(self._sessions.all()):
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

    def mixed(self, name: str) -> Mixed | None:
        """What protects a tunnel, or a connection without any, now; None while nothing does.

        Of the Child SA that carries our traffic; of the IKE SA.
        """
        whose = self._whose(name)
        if isinstance(whose, Peering):
            session = self._sessions.current(whose)
            return None if session is None else session.sa.mixed
        return None if whose.active is None else whose.active.mixed

    def children(self, name: str) -> tuple[ChildFacts, ...]:
        """The Child SAs of one tunnel, newest first, as in ``views``; none if it is not known."""
        tunnel = self._tunnels.get(name)
        if tunnel is None:
            return ()
        return tuple(child.facts() for child in reversed(tunnel.children))

    # --- small things ----------------------------------------------------------------------

    def _child_lost(self, child: ChildSa, now: float) -> None:
        for session in self._sessions.all():
            if session is child.owner:
                session.child_lost(child, "lifetime ended in the kernel", now)

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

    def _whose(self, name: str) -> KeyPolicy:
        """The tunnel of this name, or the connection that has none."""
        return self._tunnels.get(name) or self._peerings[name]

    def _drop(self, reason: DropReason, detail: str, remote: Address) -> None:
        self._env.outbox.events.append(Dropped(reason=reason, detail=detail, remote=remote))


_RECONFIGURED = "configuration changed"


def _peer_spi_fits(session: Session, theirs: bytes) -> bool:
    sa = session.sa
    if sa.role is Role.RESPONDER:
        return theirs == sa.spi_i
    return sa.state is IkeState.INIT_SENT or theirs == sa.spi_r


def _header_fault(data: bytes, error: ProtocolError) -> DropReason:
    if error.notify is NotifyType.INVALID_MAJOR_VERSION:
        return DropReason.BAD_VERSION
    return DropReason.TOO_SHORT if len(data) < 28 else DropReason.BAD_HEADER
