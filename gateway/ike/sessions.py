"""Every IKE SA of this gateway by our SPI: those at work, and for a while those that are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.ike import limits
from gateway.ike.environment import Environment
from gateway.ike.peering import Peering
from gateway.ike.sa import IkeSa, KeyPolicy
from gateway.ike.session import ServeWaiting, Session
from gateway.model import IpAddress


class Sessions:
    """``forgotten``: one that was over is not known any more."""

    def __init__(
        self, env: Environment, *, serve: ServeWaiting, forgotten: Callable[[Session], None]
    ) -> None:
        self._env = env
        self._serve_waiting = serve
        self._forgotten = forgotten
        self._by_spi: dict[bytes, Session] = {}  # by our SPI
        self._unproved: list[Session] = []  # begun by a peer; those half-open are among them
        self._over: deque[Session] = deque()  # closed ones we still know, oldest first

    # --- found ---------------------------------------------------------------------------------

    def all(self) -> list[Session]:
        """Oldest first."""
        return list(self._by_spi.values())

    def find(self, our_spi: bytes) -> Session | None:
        return self._by_spi.get(our_spi)

    def of(self, peering: Peering) -> list[Session]:
        """Those that are part of it, in the order in which they became so."""
        return [session for session in peering.sessions if isinstance(session, Session)]

    def half_open(self) -> list[IpAddress]:
        """The peers of half-open IKE SAs; one that is no longer half-open never is again."""
        self._unproved = [session for session in self._unproved if session.half_open]
        return [session.sa.remote[0] for session in self._unproved]

    def current(self, whose: KeyPolicy) -> Session | None:
        """The newest established one, preferably the one that carries the tunnel's traffic."""
        established = [one for one in self.of(peering_of(whose)) if one.established]
        staying = [one for one in established if not one.leaving] or established
        active = None if isinstance(whose, Peering) else whose.active
        for session in staying:
            if active is not None and active.owner is session:
                return session
        return staying[-1] if staying else None

    # --- made and forgotten --------------------------------------------------------------------

    def add(self, sa: IkeSa) -> Session:
        """A new IKE SA of its peering."""
        session = self.admit(sa)
        session.join()
        return session

    def admit(self, sa: IkeSa) -> Session:
        """One that joins its peering later: it takes another one's place."""
        session = Session(sa, admit=self.admit, ended=self._ended, serve=self._serve_waiting)
        self._by_spi[sa.our_spi] = session
        if session.half_open:
            self._unproved.append(session)
        return session

    def _ended(self, session: Session) -> None:
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
        self._forgotten(session)


def peering_of(whose: KeyPolicy) -> Peering:
    return whose if isinstance(whose, Peering) else whose.peering
