"""One tunnel at work: its Child SAs, and which of them carries traffic.

Exactly one child carries our outbound traffic. Inbound, every child does until its SA is
taken out of the kernel, which for a replaced one happens ``linger`` seconds late.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.ike.child import ChildSa
from gateway.ike.commands import RemoveSas
from gateway.ike.config import ChildConfig, PpkMode, Timing
from gateway.ike.environment import Environment
from gateway.ike.events import ChildDown, ChildUp, ExchangeFailed
from gateway.ike.limits import LINGERING_MAX
from gateway.ike.states import ChildInput, ChildState
from gateway.model import Ended, SaId

if TYPE_CHECKING:
    from gateway.ike.peering import Peering


class Tunnel:
    """The Child SAs of one ChildConfig, whichever IKE SAs they were made in."""

    def __init__(self, config: ChildConfig, peering: Peering, env: Environment) -> None:
        self.config = config
        self.peering = peering
        self.mode: PpkMode = config.ppk
        self.children: list[ChildSa] = []  # oldest first
        self.steered: ChildSa | None = None  # where our traffic leaves once the kernel is done
        self.early: list[SaId] = []  # inbound SAs that are in the kernel before their time
        self._env = env

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def key_source(self) -> str:
        """The tunnel that looks up QKD keys for this one: itself."""
        return self.name

    @property
    def timing(self) -> Timing:
        return self.peering.timing

    def agrees_with(self, config: ChildConfig) -> bool:
        """Whether SAs made under our settings hold under these."""
        return replace(config, ppk=self.config.ppk) == self.config

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
            self.peering.settle_sessions(child.owner, now)

    def retire(
        self,
        child: ChildSa,
        *,
        reason: str,
        rekeyed: bool,
        now: float,
        ended: Ended = Ended.HERE,
    ) -> None:
        """Out of use: the outbound half goes now, the inbound half after the linger."""
        if child.state in (ChildState.LINGERING, ChildState.GONE):
            return
        child.happened(ChildInput.RETIRE)
        self._env.outbox.commands.append(RemoveSas(tunnel=self.name, sa_ids=(child.outbound,)))
        self._report(child, reason, rekeyed=rekeyed, ended=ended)

        def end(_when: float) -> None:
            child.happened(ChildInput.REMOVE)
            self.children.remove(child)
            self._env.outbox.commands.append(RemoveSas(tunnel=self.name, sa_ids=(child.inbound,)))

        self._env.deadlines.set(("linger", id(child)), now + self.timing.linger, end)
        lingering = [one for one in self.children if one.state is ChildState.LINGERING]
        for oldest in lingering[:-LINGERING_MAX]:
            self.remove(oldest, reason=reason)

    def remove(self, child: ChildSa, *, reason: str, ended: Ended = Ended.HERE) -> None:
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
            self._report(child, reason, rekeyed=False, ended=ended)

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
        """An attempt came to nothing; the arguments are those of ExchangeFailed."""
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

    def _report(self, child: ChildSa, reason: str, *, rekeyed: bool, ended: Ended) -> None:
        if not child.announced:
            return
        self._env.outbox.events.append(
            ChildDown(
                tunnel=self.name,
                spi_in=child.spi_in,
                spi_out=child.spi_out,
                reason=reason,
                rekeyed=rekeyed,
                ended=ended,
            )
        )


def _child_up(child: ChildSa) -> ChildUp:
    return ChildUp(
        tunnel=child.tunnel.name,
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
