"""What one IKE SA does for its tunnels: Child SAs made in it, closed, and released at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.ike import limits
from gateway.ike.attempt import ChildAttempt
from gateway.ike.child import ChildSa
from gateway.ike.flows import informational, rekey_child
from gateway.ike.ppk import HeldPpk
from gateway.ike.sa import IkeSa
from gateway.ike.tasks import Task, Tasks
from gateway.ike.tunnel import Tunnel
from gateway.ike.wish import NO_KEY, Wish
from gateway.model import Ended, Role


class ServiceHost(Protocol):
    """The session."""

    @property
    def established(self) -> bool: ...

    @property
    def connecting(self) -> bool: ...

    def stop(self, task: Task, reason: str) -> None:
        """Stop one task of ours. If its request is unanswered, nobody waits for the response."""


class Service:
    """Of one session."""

    def __init__(self, sa: IkeSa, tasks: Tasks, host: ServiceHost) -> None:
        self._sa = sa
        self._tasks = tasks
        self._host = host

    # --- made --------------------------------------------------------------------------------

    def create(self, wish: Wish, now: float) -> None:
        """A Child SA for a tunnel that has none here."""
        sa = self._sa
        sa.now = now
        if wish.ppk is not None and not sa.takes_fresh_ppk:
            wish.ppk.settle(used=False, reason="peer takes no QKD key for a Child SA of its own")
            wish.ppk = None
        if wish.lacks_key and not sa.shares_ppk:
            wish.refuse(NO_KEY, ppk_missing=True)
        else:
            self._make(wish.what, wish.tunnel, wish.ppk)

    def rekey(self, tunnel: Tunnel, child: ChildSa, ppk: HeldPpk | None, now: float) -> None:
        """One in place of ``child``."""
        self._sa.now = now
        self._make("rekey", tunnel, ppk, child)

    def move(self, tunnel: Tunnel, now: float) -> None:
        """One for a tunnel whose own IKE SA is about to go."""
        self._sa.now = now
        attempt = ChildAttempt(self._sa, tunnel, Role.INITIATOR)
        flow = rekey_child.move(attempt)
        self._tasks.start(Task(flow=flow, what="move", tunnel=tunnel, attempt=attempt))

    def _make(
        self, what: str, tunnel: Tunnel, ppk: HeldPpk | None, replaces: ChildSa | None = None
    ) -> None:
        attempt = ChildAttempt(self._sa, tunnel, Role.INITIATOR, replaces)
        flow = rekey_child.rekey(attempt, ppk)
        self._tasks.start(Task(flow=flow, what=what, tunnel=tunnel, attempt=attempt))

    # --- closed ------------------------------------------------------------------------------

    def is_for_others(self, tunnel: Tunnel) -> bool:
        """Whether the IKE SA has something to do for other tunnels than this one."""
        sa = self._sa
        if not self._host.established:
            if self._host.connecting:
                return sa.tunnel is not tunnel
            return len(sa.peering.tunnels) > 1
        return (
            self._tasks.others(tunnel)
            or any(child.usable and child.tunnel is not tunnel for child in sa.children)
            or any(pending.tunnel not in (None, tunnel) for pending in sa.pending.values())
        )

    def close(self, tunnel: Tunnel, reason: str) -> None:
        """One tunnel's Child SAs go, here and with the peer."""
        sa = self._sa
        spis = [child.spi_in for child in sa.children_of(tunnel)]
        for task in self._tasks.of(tunnel):
            if task.attempt is not None:  # the peer may be making it just now
                spis.append(task.attempt.spi_in)
            self._host.stop(task, reason)
        sa.abandon_pending(reason, tunnel)
        for child in sa.children_of(tunnel):
            self.drop(child, reason)
        if self._host.established:
            self.delete(spis)

    def delete(self, spis: Sequence[int]) -> None:
        """Tell the peer; ours are gone already. Zeros, of SPIs never reserved, are left out."""
        octets = [spi.to_bytes(limits.ESP_SPI_SIZE, "big") for spi in dict.fromkeys(spis) if spi]
        if octets:
            self._tasks.start(Task(flow=informational.delete_spis(octets), what="delete-child"))

    def drop(self, child: ChildSa, reason: str) -> None:
        """Out of the kernel, at once."""
        if child in self._sa.children:
            self._sa.children.remove(child)
        child.tunnel.remove(child, reason=reason)

    # --- released ----------------------------------------------------------------------------

    def only_here(self) -> list[Tunnel]:
        """Tunnels that have a Child SA in this IKE SA and in no other."""
        found = dict.fromkeys(child.tunnel for child in self._sa.children if child.usable)
        return [
            tunnel
            for tunnel in found
            if not any(one.usable and one not in self._sa.children for one in tunnel.children)
        ]

    def release(self, reason: str, ended: Ended) -> None:
        """Where another child carries on, packets in flight may still come in on these."""
        sa = self._sa
        leaving, sa.children[:] = tuple(sa.children), ()
        carried_on = {
            child.tunnel for child in leaving if child.tunnel.active not in (None, *leaving)
        }
        for child in leaving:
            if child.tunnel in carried_on:
                child.tunnel.retire(child, reason=reason, rekeyed=True, now=sa.now)
            else:
                child.tunnel.remove(child, reason=reason, ended=ended)
        for tunnel in dict.fromkeys(child.tunnel for child in leaving):
            self.find_stand_in(tunnel)

    def find_stand_in(self, tunnel: Tunnel) -> None:
        """Our traffic may have lost its child: whatever can carry it now shall."""
        other = tunnel.stand_in()
        if tunnel.active is None and other is not None:
            other.owner.stand_in(other, self._sa.now)
