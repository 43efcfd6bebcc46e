"""The data plane of one side of an ``ike_pair``: what it is asked to hold, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    Command,
    InstallChild,
    InstallInbound,
    RemoveSas,
)
from gateway.model import SaId, SaSpec, UdpEncap

if TYPE_CHECKING:
    from tests.support.ike_pair import Side

KERNEL_COMMANDS = (AllocateSpi, InstallInbound, InstallChild, ActivateOutbound, RemoveSas)


class Kernel:
    """The data plane of one side, as far as the IKE core can tell."""

    def __init__(self, name: str, first_spi: int) -> None:
        self.name = name
        self.reserved: set[SaId] = set()
        self.early: set[SaId] = set()  # inbound, before the peer has answered
        self.guesses = self.replaced = 0  # such SAs, and those that were wrong
        self.sas: dict[SaId, SaSpec] = {}
        self.keys: dict[SaId, bytes] = {}
        self.leads: dict[str, SaId] = {}  # by tunnel: where the outbound policy points
        self.watched: set[SaId] = set()
        self.seen: set[bytes] = set()  # every key ever installed, per direction
        self.fail_install = ""
        self.fail_early = ""
        self.fail_activate = ""
        self.fail_allocate = ""
        self._next_spi = first_spi

    def allocate(self, command: AllocateSpi) -> SaId:
        self._next_spi += 1
        sa_id = SaId(command.destination, self._next_spi)
        self.reserved.add(sa_id)
        return sa_id

    def install_inbound(self, command: InstallInbound) -> None:
        sa_id = command.inbound.sa_id
        assert sa_id in self.reserved, "installed without a reservation"
        self.reserved.remove(sa_id)
        self.early.add(sa_id)
        self.guesses += 1
        self._put(command.inbound)
        command.inbound.key.wipe()

    def install(self, command: InstallChild) -> None:
        sa_id = command.inbound.sa_id
        assert sa_id in self.reserved | self.early, "installed without a reservation"
        assert sa_id in self.early or not command.replaces_inbound, "nothing to replace"
        self.reserved.discard(sa_id)
        key, esn = command.inbound.key.expose(), command.inbound.esn
        if sa_id not in self.early:
            self._put(command.inbound)
        elif command.replaces_inbound:
            self.replaced += 1
            assert (self.keys[sa_id], self.sas[sa_id].esn) != (key, esn), "replaced by itself"
            self.seen.discard(self.keys[sa_id])  # nothing was ever encrypted with it here
            self._put(command.inbound)
        else:
            assert (self.keys[sa_id], self.sas[sa_id].esn) == (key, esn), "the kernel keeps the key"
        self.early.discard(sa_id)
        self._put(command.outbound)

    def _put(self, spec: SaSpec) -> None:
        key = spec.key.expose()
        assert len(key) == 36
        assert key not in self.seen, "an ESP key came up twice"
        self.seen.add(key)
        self.sas[spec.sa_id] = spec
        self.keys[spec.sa_id] = key

    def activate(self, command: ActivateOutbound) -> None:
        sa_id = SaId(command.destination, command.spi)
        assert sa_id in self.sas, "outbound traffic moved to an SA that is not there"
        self.leads[command.tunnel] = sa_id

    def remove(self, command: RemoveSas) -> None:
        for sa_id in command.sa_ids:
            self.reserved.discard(sa_id)
            self.early.discard(sa_id)
            self.sas.pop(sa_id, None)
            self.keys.pop(sa_id, None)
            self.watched.discard(sa_id)

    @property
    def outbound(self) -> SaId | None:
        """Where the only tunnel's outbound policy points."""
        (sa_id,) = self.leads.values() or (None,)
        return sa_id

    def update_encap(self, encaps: tuple[tuple[SaId, UdpEncap], ...]) -> None:
        for sa_id, encap in encaps:
            if sa_id in self.sas:
                assert self.sas[sa_id].encap is not None, "an SA without UDP is to get ports"
                self.sas[sa_id] = replace(self.sas[sa_id], encap=encap)

    def inbound(self, tunnel: str | None = None) -> list[SaSpec]:
        return [spec for spec in self._of(tunnel) if spec.direction == "in"]

    def outbounds(self, tunnel: str | None = None) -> list[SaSpec]:
        return [spec for spec in self._of(tunnel) if spec.direction == "out"]

    def _of(self, tunnel: str | None) -> list[SaSpec]:
        return [spec for spec in self.sas.values() if tunnel in (None, spec.tunnel)]


class _SlowKernel:
    """In place of ``Side.carry_out``. What is under way when the side starts anew is forgotten."""

    def __init__(self, side: Side, seconds: Callable[[Command], float]) -> None:
        self._side = side
        self._at_once = side.carry_out
        self._seconds = seconds
        self._free_at = 0.0
        self._count = 0

    def __call__(self, command: Command, now: float) -> None:
        if not isinstance(command, KERNEL_COMMANDS):
            self._at_once(command, now)
            return
        self._free_at = max(now, self._free_at) + self._seconds(command)
        self._count += 1
        deadlines = self._side.endpoint._env.deadlines
        mark = ("kernel", self._count)
        deadlines.set(mark, self._free_at, lambda when: self._at_once(command, when))


def slow_kernel(side: Side, seconds: Callable[[Command], float]) -> None:
    """From now on it takes its commands one after the other, and so long for each."""
    side.carry_out = _SlowKernel(side, seconds)  # type: ignore[method-assign]
