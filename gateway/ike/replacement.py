"""An IKE SA that makes way for another one, set up anew: its tunnels move there first.

A tunnel whose only Child SA is in the IKE SA that goes gets one in the other, by
CREATE_CHILD_SA, before the old one is deleted: no packet is lost. (Where an IKE SA is rekeyed
its Child SAs go on as they are, see ``succession``.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.ike import limits
from gateway.ike.child import PeerSession
from gateway.ike.tunnel import Tunnel


class Leaving(PeerSession, Protocol):
    """The session that is to go."""

    @property
    def rekeying_ike(self) -> bool:
        """We are rekeying the IKE SA; what comes out of it goes in its place."""

    def successor(self) -> PeerSession | None:
        """What takes over from it."""

    def at(self, when: float, name: str, action: Callable[[float], None]) -> None:
        """Do something then, unless the IKE SA ends before."""

    def leave(self, reason: str, *, tell_peer: bool) -> None:
        """Go now."""


class Replacement:
    """Of one IKE SA."""

    def __init__(self, session: Leaving, only_here: Callable[[], list[Tunnel]]) -> None:
        self._session = session
        self._only_here = only_here  # tunnels that have a Child SA in this IKE SA and in no other
        self._moves = 0  # times we tried to find its tunnels another place
        self._due: tuple[float, bool] | None = None  # when, and whether to tell the peer

    @property
    def due(self) -> bool:
        return self._due is not None

    def begin(self, when: float, *, tell_peer: bool) -> None:
        """Not before ``when``; where it is to be earlier already, nothing changes."""
        if self._due is None or when < self._due[0]:
            self._due = (when, tell_peer)
            self._session.at(when, "replace", self._go_on)

    def inherit(self, before: Replacement) -> None:
        """The IKE SA that was to go was rekeyed: now it is this one."""
        if before._due is not None:
            when, tell_peer = before._due
            self.begin(when, tell_peer=tell_peer)

    def go_on(self, now: float) -> None:
        """Our rekey of the IKE SA is over, and was waited for."""
        if self._due is not None:
            self._session.at(max(self._due[0], now), "replace", self._go_on)

    def _go_on(self, now: float) -> None:
        session, successor = self._session, self._session.successor()
        if self._due is None or not session.established or session.rekeying_ike:
            return
        if successor is None:
            self._due = None  # what was to take over is gone itself
            return
        tell_peer = self._due[1]
        homeless = self._only_here() if tell_peer else []
        if tell_peer and (session.busy or any(successor.creating(one) for one in homeless)):
            session.at(now + limits.REPLACE_RETRY, "replace", self._go_on)
        elif homeless and self._moves < limits.MOVE_TRIES:
            wait = limits.REPLACED_GRACE if self._moves else limits.REPLACE_RETRY
            session.at(now + wait, "replace", self._go_on)
            self._moves += 1
            for tunnel in homeless:
                successor.move(tunnel, now)
        else:
            session.leave("replaced by another IKE SA", tell_peer=tell_peer)
