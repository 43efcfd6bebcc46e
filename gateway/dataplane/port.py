"""What the daemon needs of a kernel. ``netlink`` does it for real, ``memory`` for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from gateway.model import IpAddress, KernelSnapshot, PolicySpec, SaId, SaSpec, SaState, UdpEncap


@dataclass(frozen=True, slots=True, kw_only=True)
class SaExpired:
    """A lifetime was reached. Hard: the kernel has already removed the SA."""

    sa_id: SaId
    reqid: int
    hard: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficWaiting:
    """Outbound traffic met a PROTECT policy without an SA (XFRM ACQUIRE)."""

    reqid: int
    source: IpAddress
    destination: IpAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMoved:
    """An inbound UDP-encapsulated SA sees another source address or port."""

    sa_id: SaId
    reqid: int
    address: IpAddress
    port: int


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The event socket overran and was reopened: read the kernel back and reconcile."""


KernelEvent = SaExpired | TrafficWaiting | PeerMoved | EventsLost


class DataPlane(Protocol):
    """Eleven verbs. All raise DataplaneError with the kernel's words when refused."""

    async def open(self) -> None:
        """Open the sockets; raises StartupError where the kernel or a capability lacks."""

    async def close(self) -> None:
        """Close the sockets. What is in the kernel stays: traffic stays encrypted or blocked."""

    async def allocate_spi(self, source: IpAddress, destination: IpAddress, reqid: int) -> int:
        """Reserve an inbound SPI (a larval SA) for packets from source to destination (us)."""

    async def install_sa(self, sa: SaSpec) -> None:
        """Put an SA in; an inbound one replaces its larval reservation.

        An inbound SA that is there keeps its key, counters and replay window, whatever ``sa``
        has: only lifetimes and UDP ports change. For another key take it out first.
        """

    async def update_encap(self, sa_id: SaId, encap: UdpEncap) -> None:
        """Give an SA with ESP in UDP other ports. One that is gone is not an error."""

    async def remove_sa(self, sa_id: SaId) -> None:
        """Take an SA or reservation out. One that is already gone is not an error."""

    async def set_policy(self, policy: PolicySpec) -> None:
        """Create a policy or replace the one with the same selector, direction and priority."""

    async def remove_policy(self, policy: PolicySpec) -> None:
        """Take a policy out. One that is already gone is not an error."""

    async def read_sa(self, sa_id: SaId) -> SaState | None:
        """One SA as the kernel has it, or None."""

    async def snapshot(self) -> KernelSnapshot:
        """All SAs and policies in the kernel that carry our reqids or our block policies."""

    def events(self) -> AsyncIterator[KernelEvent]:
        """Kernel events, endless, from a socket of their own."""
