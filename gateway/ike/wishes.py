"""What policy and operator ask for, and the IKE SA in which it is done.

A tunnel's Child SA is made in the IKE SA there is, in a new one, or waits for one that is being
set up. A connection without tunnels (RFC 6023) asks for its IKE SA alone.
"""

from __future__ import annotations

from gateway.ike import limits
from gateway.ike.child import Origin
from gateway.ike.config import PpkMode
from gateway.ike.environment import Environment
from gateway.ike.message import NO_SPI
from gateway.ike.peering import Peering
from gateway.ike.ppk import HeldPpk
from gateway.ike.sa import IkeSa, KeyPolicy
from gateway.ike.session import Session
from gateway.ike.sessions import Sessions, peering_of
from gateway.ike.states import ChildState, IkeState
from gateway.ike.tunnel import Tunnel
from gateway.ike.wish import NO_KEY, Wish
from gateway.model import Ppk, Role

_SETTING_UP = "an IKE SA is being set up already"
_NO_IKE_SA = "there is no IKE SA"


class Wishes:
    """Carries out for ``Endpoint`` what its methods of the same names promise."""

    def __init__(self, env: Environment, sessions: Sessions) -> None:
        self._env = env
        self._sessions = sessions

    # --- a tunnel's Child SA -------------------------------------------------------------------

    def initiate(self, tunnel: Tunnel, ppk: Ppk | None, now: float) -> None:
        wish = self._wish(tunnel, "initiate", ppk)
        if self._is_busy(tunnel) or self._is_answering(tunnel):
            wish.refuse("it is being set up already")
        else:
            self.serve(wish, now)

    def rekey_child(self, tunnel: Tunnel, ppk: Ppk | None, now: float) -> None:
        wish = self._wish(tunnel, "rekey", ppk)
        session = self._sessions.current(tunnel)
        if wish.lacks_key:
            wish.refuse(NO_KEY, ppk_missing=True)
        elif session is None:
            wish.refuse(_NO_IKE_SA)
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

    def uses_key(self, tunnel: Tunnel) -> bool:
        session = self._sessions.current(tunnel)
        if session is None or session.sa.current_child(tunnel) is not None:
            return True
        return not session.sa.shares_ppk

    def serve(self, wish: Wish, now: float) -> None:
        """Where the Child SA is to be made."""
        session = self._sessions.current(wish.tunnel)
        sa = None if session is None else session.sa
        covered = sa is not None and sa.shares_ppk
        fits = wish.ppk is None or covered or (sa is not None and sa.takes_fresh_ppk)
        if wish.lacks_key and not covered:
            wish.refuse(NO_KEY, ppk_missing=True)
        elif session is None or not fits or session.sa.current_child(wish.tunnel) is not None:
            self._set_up(wish, now)
        else:
            self._create(session, wish, now)

    def serve_waiting(self, peering: Peering, now: float) -> None:
        """The IKE SA they waited for is there, or will not be."""
        for wish in peering.take_waiting():
            session = self._sessions.current(wish.tunnel)
            if session is None:
                self._set_up(wish, now)
            elif session.sa.current_child(wish.tunnel) is not None:
                wish.refuse("the peer has made one meanwhile")
            else:
                self._create(session, wish, now)

    def _create(self, session: Session, wish: Wish, now: float) -> None:
        """In an IKE SA that has no child of the tunnel, unless the peer is at it."""
        if self._is_busy(wish.tunnel) or self._is_answering(wish.tunnel):
            wish.refuse("the peer is making one")
        else:
            session.service.create(wish, now)

    def _set_up(self, wish: Wish, now: float) -> None:
        """A new IKE SA, with a Child SA for this tunnel as its first; or wait for one."""
        peering = wish.tunnel.peering
        if self._is_connecting(peering):
            peering.waiting.append(wish)
        else:
            self._connect(peering, wish.tunnel, now).initiate(wish.ppk, what=wish.what)

    # --- an IKE SA -----------------------------------------------------------------------------

    def initiate_childless(self, peering: Peering, ppk: Ppk | None, now: float) -> None:
        held = self._hold(peering, ppk)
        if self._is_connecting(peering):
            _refuse(peering, "initiate", _SETTING_UP, held)
        elif held is None and peering.mode is PpkMode.REQUIRE:
            _refuse(peering, "initiate", NO_KEY, held, ppk_missing=True)
        else:
            self._connect(peering, None, now).initiate(held, what="initiate")

    def rekey_ike(self, whose: KeyPolicy, ppk: Ppk | None, now: float) -> None:
        held = self._hold(whose, ppk)
        session = self._sessions.current(whose)
        reason = _NO_IKE_SA if session is None else session.why_not_rekey_ike()
        if self._is_connecting(peering_of(whose)):
            reason = _SETTING_UP
        if session is None or reason:
            _refuse(whose, "rekey-ike", reason, held)
        elif isinstance(whose, Peering) and held is None and whose.mode is PpkMode.REQUIRE:
            _refuse(whose, "rekey-ike", NO_KEY, held, ppk_missing=True)
        elif isinstance(whose, Peering) and held is not None and not session.sa.takes_fresh_ppk:
            self._connect(whose, None, now).initiate(held, what="rekey-ike")
        else:
            session.rekey_ike(held, now)

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
        return self._sessions.add(sa)

    # --- closed --------------------------------------------------------------------------------

    def close_tunnel(self, tunnel: Tunnel, reason: str, now: float) -> None:
        peering = tunnel.peering
        for wish in peering.take_waiting(of=tunnel):
            wish.refuse(reason)
        others = peering.take_waiting()
        for session in self._sessions.of(peering):
            session.close_tunnel(tunnel, reason, now)
        for child in tuple(tunnel.children):  # what lingered
            tunnel.remove(child, reason=reason)
        for wish in others:  # the IKE SA they waited for may have been this tunnel's
            self.serve(wish, now)

    def close_peering(self, peering: Peering, reason: str, now: float) -> None:
        for wish in peering.take_waiting():
            wish.refuse(reason)
        for session in self._sessions.of(peering):
            session.close(reason, now)
        for tunnel in peering.tunnels.values():
            for child in tuple(tunnel.children):
                tunnel.remove(child, reason=reason)

    # --- small things --------------------------------------------------------------------------

    def _wish(self, tunnel: Tunnel, what: str, ppk: Ppk | None) -> Wish:
        return Wish(tunnel=tunnel, what=what, ppk=self._hold(tunnel, ppk))

    def _hold(self, whose: KeyPolicy, ppk: Ppk | None) -> HeldPpk | None:
        held = None if ppk is None else HeldPpk(ppk, tunnel=whose.name, outbox=self._env.outbox)
        if held is not None and whose.mode is PpkMode.OFF:
            held.settle(used=False, reason="QKD keys are switched off here")
            return None
        return held

    def _is_connecting(self, peering: Peering) -> bool:
        return any(session.connecting for session in self._sessions.of(peering))

    def _is_busy(self, tunnel: Tunnel) -> bool:
        """A Child SA is being made or replaced for it, by us or by the peer."""
        peering = tunnel.peering
        return any(session.rekeying(tunnel) for session in self._sessions.of(peering)) or any(
            wish.tunnel is tunnel for wish in peering.waiting
        )

    def _is_answering(self, tunnel: Tunnel) -> bool:
        return any(session.answering(tunnel) for session in self._sessions.of(tunnel.peering))


def _refuse(
    whose: KeyPolicy, what: str, reason: str, held: HeldPpk | None, *, ppk_missing: bool = False
) -> None:
    if held is not None:
        held.settle(used=False, reason=reason)
    whose.failed(what, reason, ppk_missing=ppk_missing)
