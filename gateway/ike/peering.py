"""One connection at work: its IKE SAs, and the tunnels they serve.

One IKE SA serves them all; there are two while one replaces another, and where both sides
set one up at the same time.
"""

from __future__ import annotations

from gateway.ike.child import PeerSession
from gateway.ike.config import Connection, PpkMode, Timing
from gateway.ike.cookies import RateLimit
from gateway.ike.downgrade import DowngradeWatch, Offers
from gateway.ike.environment import Environment
from gateway.ike.events import Dropped, DropReason, ExchangeFailed
from gateway.ike.limits import (
    IKE_SAS_PER_PEER_MAX,
    STRANGER_FAILURES_BURST,
    STRANGER_FAILURES_PER_SECOND,
)
from gateway.ike.outbox import Address
from gateway.ike.tunnel import Tunnel
from gateway.ike.wish import Wish
from gateway.model import Role


class Peering:
    """What the sessions and tunnels of one connection share."""

    def __init__(self, connection: Connection, env: Environment) -> None:
        self.connection = connection
        self.sessions: list[PeerSession] = []  # oldest first
        self.waiting: list[Wish] = []  # for the IKE SA we are setting up
        self._env = env
        self.tunnels = {child.name: Tunnel(child, self, env) for child in connection.children}
        self.own_mode = connection.ppk  # of an IKE SA without children
        self.watch = DowngradeWatch(connection.name, env.outbox, env.deadlines)
        self._strangers = RateLimit(
            rate=STRANGER_FAILURES_PER_SECOND, burst=STRANGER_FAILURES_BURST
        )

    @property
    def name(self) -> str:
        return self.connection.name

    @property
    def timing(self) -> Timing:
        return self.connection.timing or self._env.timing

    @property
    def mode(self) -> PpkMode:
        """What to insist on while the tunnel an IKE SA is made for is not known.

        REQUIRE only where every tunnel does: what one tunnel wants is asked again for its child.
        """
        modes = {tunnel.mode for tunnel in self.tunnels.values()} or {self.own_mode}
        return modes.pop() if len(modes) == 1 else PpkMode.PREFER

    @property
    def key_source(self) -> str:
        """The tunnel that looks QKD keys up where no message says which one they are for.

        Of those that use QKD any does: all have the same KMEs and peer SAE (gateway.config.check).
        """
        for tunnel in self.tunnels.values():
            if tunnel.mode is not PpkMode.OFF:
                return tunnel.name
        return self.name

    def reconfigure(self, connection: Connection) -> list[Tunnel]:
        """Other tunnels, or other settings that change nothing for the IKE SA.

        Returns the tunnels that are no more, or are others under the same name now.
        """
        self.connection = connection
        self.own_mode = connection.ppk
        before = self.tunnels
        self.tunnels = {}
        for child in connection.children:
            tunnel = before.get(child.name)
            if tunnel is not None and tunnel.agrees_with(child):
                tunnel.config = child
                tunnel.mode = child.ppk
            else:
                tunnel = Tunnel(child, self, self._env)
            self.tunnels[child.name] = tunnel
        return [one for name, one in before.items() if self.tunnels.get(name) is not one]

    def failed(
        self,
        what: str,
        reason: str,
        *,
        notify: str | None = None,
        from_peer: bool = False,
        ppk_missing: bool = False,
        yielded: bool = False,
    ) -> None:
        """An attempt that was for no tunnel, or not yet known for which, came to nothing."""
        self._env.outbox.events.append(
            ExchangeFailed(
                tunnel=self.name,
                what=what,
                reason=reason,
                notify=notify,
                from_peer=from_peer,
                ppk_missing=ppk_missing,
                yielded=yielded,
            )
        )

    def missing(self, role: Role, heard: Offers) -> tuple[str, ...]:
        """What the peer's IKE_SA_INIT lacks: see ``DowngradeWatch``."""
        return self.watch.missing(self.connection, role, heard)

    def tells(self, reason: str, remote: Address, now: float) -> bool:
        """Whether to report one more failure of a peer that has not proved who it is.

        If not, it is counted as Dropped.
        """
        if self._strangers.allow(now):
            return True
        self._env.outbox.events.append(
            Dropped(
                reason=DropReason.RATE_LIMIT, detail=reason, remote=remote, connection=self.name
            )
        )
        return False

    def take_waiting(self, *, of: Tunnel | None = None) -> list[Wish]:
        """What waits, or what waits for one tunnel; it waits no more."""
        taken = [wish for wish in self.waiting if of is None or wish.tunnel is of]
        self.waiting = [wish for wish in self.waiting if wish not in taken]
        return taken

    def successor(self, of: PeerSession) -> PeerSession | None:
        """The IKE SA that takes over from another: the newest that is here to stay."""
        others = [one for one in self.sessions if one.established and one.origin is not of.origin]
        staying = [one for one in others if not one.leaving]
        found = staying or others
        return found[-1] if found else None

    def established(self, newest: PeerSession, now: float) -> None:
        """One more IKE SA. A peer that sets them up and deletes none loses the oldest."""
        newest.origin.rivals[:] = [
            one.origin for one in self.sessions if one.origin.established_at is None
        ]
        carrying = {
            tunnel.active.owner for tunnel in self.tunnels.values() if tunnel.active is not None
        }
        others = [
            one
            for one in self.sessions
            if one.established and one is not newest and one not in carrying
        ]
        for other in others[: max(0, len(others) + 2 - IKE_SAS_PER_PEER_MAX)]:
            other.replace(tell_peer=False, now=now)

    def settle_sessions(self, newest: PeerSession, now: float) -> None:
        """A session has got a child into use: what becomes of the others."""
        origin = newest.origin
        for other in tuple(self.sessions):
            if other.origin is origin or not other.established:
                continue
            if origin.overlaps(other.origin) and origin.role is not other.origin.role:
                self._settle_duplicate(newest, other, now)
            elif other.origin.began_at > origin.began_at:
                continue
            elif origin.role is Role.INITIATOR:
                other.replace(tell_peer=True, now=now)
            elif newest.initial_contact:  # RFC 7296 2.4: the peer has forgotten the others
                other.replace(tell_peer=False, now=now)
            else:
                other.replace_later(now)

    @staticmethod
    def _settle_duplicate(one: PeerSession, two: PeerSession, now: float) -> None:
        """Both sides began at the same time and now there are two IKE SAs.

        As for simultaneous rekeying (RFC 7296 2.8.1): the one with the lowest of the four
        nonces is redundant, and whoever began it deletes it.
        """
        redundant = one if one.origin.lowest_nonce < two.origin.lowest_nonce else two
        if redundant.origin.role is Role.INITIATOR:
            redundant.replace(tell_peer=True, now=now)
        else:
            redundant.replace_later(now)
