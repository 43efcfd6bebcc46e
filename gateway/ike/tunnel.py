"""One connection at work: its IKE SAs, its Child SAs, and which of them carries traffic.

Exactly one child carries our outbound traffic. Inbound, every child does until its SA is
taken out of the kernel, which for a replaced one happens ``linger`` seconds late.
"""

from __future__ import annotations

from gateway.ike.child import ChildSa, TunnelSession
from gateway.ike.commands import RemoveSas
from gateway.ike.config import Connection, PpkMode, Timing
from gateway.ike.environment import Environment
from gateway.ike.events import ChildDown, ChildUp, ExchangeFailed
from gateway.ike.limits import IKE_SAS_PER_TUNNEL_MAX, LINGERING_MAX
from gateway.ike.states import ChildInput, ChildState
from gateway.model import Role


class Tunnel:
    """What the sessions of one connection share."""

    def __init__(self, connection: Connection, env: Environment) -> None:
        self.connection = connection
        self.mode: PpkMode = connection.ppk
        self.sessions: list[TunnelSession] = []  # oldest first
        self.children: list[ChildSa] = []  # oldest first
        self._env = env

    @property
    def name(self) -> str:
        return self.connection.name

    @property
    def timing(self) -> Timing:
        return self.connection.timing or self._env.timing

    @property
    def active(self) -> ChildSa | None:
        """The child that carries our outbound traffic."""
        return next((child for child in self.children if child.carries_outbound), None)

    def stand_in(self, *leaving: ChildSa) -> ChildSa | None:
        """The newest other child our traffic could move to."""
        for child in reversed(self.children):
            if child not in leaving and child.usable:
                return child
        return None

    def add(self, child: ChildSa) -> None:
        """A child is in the kernel."""
        child.happened(ChildInput.INSTALL)
        self.children.append(child)

    def activated(self, child: ChildSa, now: float) -> None:
        """Our traffic has moved to ``child``."""
        before = self.active
        if before is not None:
            before.happened(ChildInput.REPLACE)
        child.happened(ChildInput.ACTIVATE)
        if not child.announced:
            child.announced = True
            self._env.outbox.events.append(_child_up(child))
            self._settle_sessions(child.owner, now)

    def retire(self, child: ChildSa, *, reason: str, rekeyed: bool, now: float) -> None:
        """Out of use: the outbound half goes now, the inbound half after the linger."""
        if child.state in (ChildState.LINGERING, ChildState.GONE):
            return
        child.happened(ChildInput.RETIRE)
        self._env.outbox.commands.append(RemoveSas(tunnel=self.name, sa_ids=(child.outbound,)))
        self._report(child, reason, rekeyed=rekeyed)

        def end(_when: float) -> None:
            child.happened(ChildInput.REMOVE)
            self.children.remove(child)
            self._env.outbox.commands.append(RemoveSas(tunnel=self.name, sa_ids=(child.inbound,)))

        self._env.deadlines.set(("linger", id(child)), now + self.timing.linger, end)
        lingering = [one for one in self.children if one.state is ChildState.LINGERING]
        for oldest in lingering[:-LINGERING_MAX]:
            self.remove(oldest, reason=reason)

    def remove(self, child: ChildSa, *, reason: str, rekeyed: bool = False) -> None:
        """Both halves go now."""
        if child.state is ChildState.GONE:
            return
        reported = child.state is ChildState.LINGERING
        self._env.deadlines.cancel(("linger", id(child)))
        child.happened(ChildInput.REMOVE)
        self.children.remove(child)
        self._env.outbox.commands.append(
            RemoveSas(tunnel=self.name, sa_ids=(child.outbound, child.inbound))
        )
        if not reported:
            self._report(child, reason, rekeyed=rekeyed)

    def failed(
        self,
        what: str,
        reason: str,
        *,
        notify: str | None = None,
        from_peer: bool = False,
        ppk_missing: bool = False,
    ) -> None:
        """An attempt came to nothing; the arguments are those of ExchangeFailed."""
        self._env.outbox.events.append(
            ExchangeFailed(
                tunnel=self.name,
                what=what,
                reason=reason,
                notify=notify,
                from_peer=from_peer,
                ppk_missing=ppk_missing,
            )
        )

    def _report(self, child: ChildSa, reason: str, *, rekeyed: bool) -> None:
        if not child.announced:
            return
        self._env.outbox.events.append(
            ChildDown(
                tunnel=self.name,
                spi_in=child.spi_in,
                spi_out=child.spi_out,
                reason=reason,
                rekeyed=rekeyed,
            )
        )

    def make_room(self, newest: TunnelSession, now: float) -> None:
        """A peer that sets up IKE SAs and deletes none loses the oldest."""
        carrying = None if self.active is None else self.active.owner
        others = [
            one
            for one in self.sessions
            if one.established and one is not newest and one is not carrying
        ]
        for other in others[: max(0, len(others) + 2 - IKE_SAS_PER_TUNNEL_MAX)]:
            other.replace(tell_peer=False, now=now)

    def _settle_sessions(self, newest: TunnelSession, now: float) -> None:
        """A session has got its first child into use: what becomes of the others."""
        for other in tuple(self.sessions):
            if other is newest or not other.established:
                continue
            if _overlap(newest, other) and newest.role is not other.role:
                self._settle_duplicate(newest, other, now)
            elif other.began_at > newest.began_at:
                continue
            elif newest.role is Role.INITIATOR:
                other.replace(tell_peer=True, now=now)
            elif newest.initial_contact:  # RFC 7296 2.4: the peer has forgotten the others
                other.replace(tell_peer=False, now=now)
            else:
                other.replace_later(now)

    @staticmethod
    def _settle_duplicate(one: TunnelSession, two: TunnelSession, now: float) -> None:
        """Both sides began at the same time and now there are two IKE SAs.

        As for simultaneous rekeying (RFC 7296 2.8.1): the one with the lowest of the four
        nonces is redundant, and whoever began it deletes it.
        """
        redundant = one if one.lowest_nonce < two.lowest_nonce else two
        if redundant.role is Role.INITIATOR:
            redundant.replace(tell_peer=True, now=now)
        else:
            redundant.replace_later(now)


def _overlap(one: TunnelSession, two: TunnelSession) -> bool:
    """Whether each began before the other was established."""
    if one.established_at is None or two.established_at is None:
        return False
    return one.began_at < two.established_at and two.began_at < one.established_at


def _child_up(child: ChildSa) -> ChildUp:
    return ChildUp(
        tunnel=child.tunnel,
        role=child.role,
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        mixed=child.mixed,
        encryption=child.encryption,
        esn=child.esn,
        local_networks=child.local_networks,
        remote_networks=child.remote_networks,
        replaces=child.replaces,
    )
