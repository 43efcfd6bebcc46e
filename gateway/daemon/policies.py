"""The kernel policies of one tunnel: never in the clear, and traffic into the right SA.

The guard policies (block) of the configured subnets lie beneath everything from the first
moment on. Policies that lead into an SA lie above: inbound ones from the first SA on, the
outbound ones pinned to one SPI. Without those the tunnel drops; that is all blocking needs.

A trap is an outbound policy that leads into an SA but names none, laid while there is none: the
kernel drops the packet and tells (XFRM ACQUIRE), once until its note of that expires
(net.core.xfrm_acq_expires, 30 s), however many packets come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gateway.dataplane.port import DataPlane
from gateway.dataplane.reconcile import (
    PolicyKey,
    guard_policies,
    is_pin,
    outbound_pins,
    policy_key,
    protect_policies,
)
from gateway.errors import DataplaneError
from gateway.ike.commands import InstallChild
from gateway.model import EspMode, IpAddress, IpNetwork, PolicySpec, SaId

Networks = tuple[IpNetwork, ...]


class TunnelPolicies:
    """Owns every policy of a tunnel. Its methods run in the kernel executor's order.

    ``desired`` is what is meant to stand. Where the kernel refuses a step, it is what the next
    audit brings about.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        *,
        tunnel: str,
        reqid: int,
        local: IpAddress,
        remote: IpAddress,
        local_networks: Networks,
        remote_networks: Networks,
        mode: EspMode,
    ) -> None:
        self._dataplane = dataplane
        self._tunnel = tunnel
        self._reqid = reqid
        self._local = local
        self._remote = remote
        self._configured = (local_networks, remote_networks)
        self._guard = guard_policies(tunnel, local_networks, remote_networks)
        self._traps = outbound_pins(self._protecting(local_networks, remote_networks, mode), 0)
        self._protect: dict[PolicyKey, PolicySpec] = {}

    @property
    def desired(self) -> tuple[PolicySpec, ...]:
        """What must stand in the kernel now."""
        return (*self._guard, *self._protect.values())

    @property
    def outbound_spi(self) -> int:
        """The SPI that traffic leaves through; 0 while it is dropped."""
        return next((item.outbound_spi for item in self._protect.values() if is_pin(item)), 0)

    def adopt(self, policies: Iterable[PolicySpec]) -> None:
        """Take over what an earlier run of the daemon left in the kernel for this tunnel."""
        for policy in policies:
            self._protect[policy_key(policy)] = policy

    async def lay_guard(self) -> None:
        """Put the guard policies in."""
        for policy in self._guard:
            await self._dataplane.set_policy(policy)

    async def admit_inbound(self, command: InstallChild) -> None:
        """Let packets in that arrive through an SA of this tunnel."""
        local, remote = command.local_networks, command.remote_networks
        for policy in self._protecting(local, remote, command.inbound.mode):
            if not is_pin(policy):
                await self._set(policy)

    async def steer_outbound(
        self, spi: int, local_networks: Networks, remote_networks: Networks, mode: EspMode
    ) -> None:
        """From now on traffic leaves through this SPI."""
        protecting = self._protecting(local_networks, remote_networks, mode)
        inbound = [policy for policy in protecting if not is_pin(policy)]  # gone after ``block``
        before = dict(self._protect)
        try:
            for policy in (*inbound, *outbound_pins(protecting, spi)):
                await self._set(policy)
            await self.untrap()
        except DataplaneError:
            await self._put_back(before)
            raise

    async def trap(self) -> None:
        """Be told of traffic that wants to leave; it is dropped. Only while there is no SA."""
        for policy in self._traps:
            await self._set(policy)

    async def untrap(self) -> None:
        """Drop without being told."""
        traps = [policy for policy in self._protect.values() if _is_trap(policy)]
        for policy in traps:
            del self._protect[policy_key(policy)]
        await self._remove(traps)

    async def block(self) -> None:
        """Drop everything: take the ways into SAs away, outbound first."""
        ways = sorted(self._protect.values(), key=lambda policy: not is_pin(policy))
        self._protect.clear()
        await self._remove(ways)

    async def block_outbound(self) -> None:
        """Drop what would leave; what comes in through an SA that is there still may."""
        pins = {key: policy for key, policy in self._protect.items() if is_pin(policy)}
        for key in pins:
            del self._protect[key]
        await self._remove(pins.values())

    def leads_into(self, sa_ids: Collection[SaId]) -> bool:
        """Whether traffic leaves through one of these SAs."""
        return any(
            is_pin(policy) and SaId(self._remote, policy.outbound_spi) in sa_ids
            for policy in self._protect.values()
        )

    async def _put_back(self, before: dict[PolicyKey, PolicySpec]) -> None:
        """A move failed half-way: no subnet may go on leading into the new SA."""
        moved = self._protect
        self._protect = before
        for key, policy in moved.items():
            if key in before and before[key] != policy:
                await self._dataplane.set_policy(before[key])
        await self._remove([policy for key, policy in moved.items() if key not in before])

    async def _remove(self, policies: Iterable[PolicySpec]) -> None:
        refused: list[PolicySpec] = []
        for policy in policies:
            try:
                await self._dataplane.remove_policy(policy)
            except DataplaneError:
                refused.append(policy)
        for policy in refused:  # once more: nothing may leave through an SA that is to go
            await self._dataplane.remove_policy(policy)

    async def _set(self, policy: PolicySpec) -> None:
        key = policy_key(policy)
        if self._protect.get(key) != policy:
            await self._dataplane.set_policy(policy)
            self._protect[key] = policy

    def _protecting(
        self, local_networks: Networks, remote_networks: Networks, mode: EspMode
    ) -> tuple[PolicySpec, ...]:
        return protect_policies(
            self._tunnel,
            local_networks,
            remote_networks,
            local_addr=self._local,
            remote_addr=self._remote,
            reqid=self._reqid,
            spi=None,
            esp_mode=mode,
            parts_of=self._configured,
        )


def _is_trap(policy: PolicySpec) -> bool:
    return is_pin(policy) and not policy.outbound_spi
