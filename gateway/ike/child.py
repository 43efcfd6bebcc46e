"""One Child SA: its two ESP SAs, what keyed them, and where it is in its life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.ike import limits
from gateway.ike.collision import OwnRekey
from gateway.ike.cookies import RateLimit
from gateway.ike.states import (
    CARRYING,
    CHILD_TRANSITIONS,
    USABLE,
    ChildInput,
    ChildState,
    step,
)
from gateway.ike.views import ChildFacts
from gateway.model import EspMode, IpAddress, IpNetwork, Mixed, Role, SaId

if TYPE_CHECKING:
    from gateway.ike.tunnel import Tunnel


@dataclass(slots=True, kw_only=True, eq=False)
class Origin:
    """The initial exchanges of an IKE SA and of all that replace it by rekeying: one object."""

    role: Role
    began_at: float
    established_at: float | None = None
    lowest_nonce: bytes = b""  # of Ni and Nr of IKE_SA_INIT
    child_requests: RateLimit = field(  # CREATE_CHILD_SA of the peer's
        default_factory=lambda: RateLimit(
            rate=limits.CHILD_REQUESTS_PER_SECOND, burst=limits.CHILD_REQUESTS_BURST
        )
    )
    rivals: list[Origin] = field(default_factory=list)  # under way when this was established

    def overlaps(self, other: Origin) -> bool:
        """Whether each began before the other was established."""
        return self in other.rivals or other in self.rivals


class PeerSession(Protocol):
    """What a peering needs to know of its sessions, and may ask of them."""

    @property
    def origin(self) -> Origin:
        """The initial exchanges it goes back to."""

    @property
    def children(self) -> Sequence[ChildSa]:
        """Its Child SAs, oldest first, but for those that only linger."""

    @property
    def established(self) -> bool:
        """Established, and not being deleted."""

    @property
    def initial_contact(self) -> bool:
        """The peer said that it has no other IKE SA with us."""

    @property
    def busy(self) -> bool:
        """A Child SA is being made or deleted, by us or by the peer."""

    @property
    def leaving(self) -> bool:
        """Another IKE SA is about to take over."""

    def release(self, child: ChildSa) -> None:
        """This child of ours is gone, or on its way out."""

    def disinherit(self, reason: str) -> None:
        """The IKE SA that the peer made in our place is none at the peer."""

    def replace(self, *, tell_peer: bool, now: float) -> None:
        """A newer IKE SA has taken over."""

    def creating(self, tunnel: Tunnel) -> bool:
        """We are making a Child SA for this tunnel, or replacing one."""

    def move(self, tunnel: Tunnel, now: float) -> None:
        """Make a Child SA for a tunnel whose IKE SA is about to go."""

    def stand_in(self, child: ChildSa, now: float) -> None:
        """Our traffic has lost its child: move it to this one of ours."""

    def replace_later(self, now: float) -> None:
        """The same, if the peer does not do it itself in good time."""

    def peer_moved(self, child: ChildSa, source: tuple[IpAddress, int], now: float) -> None:
        """Authentic ESP of this child came from here."""


@dataclass(slots=True, kw_only=True, eq=False)
class ChildSa:
    """Keys are not here: they went to the kernel with InstallChild."""

    tunnel: Tunnel
    owner: PeerSession  # the session of the IKE SA it belongs to
    role: Role  # ours in the exchange that made it
    local_address: IpAddress
    remote_address: IpAddress
    spi_in: int
    spi_out: int
    mixed: Mixed
    encryption: str
    esp_mode: EspMode
    esn: bool
    local_networks: tuple[IpNetwork, ...]
    remote_networks: tuple[IpNetwork, ...]
    established_at: float
    peer_port: int | None = None  # of ESP in UDP, as the kernel has it; None: not in UDP
    replaces: int | None = None  # inbound SPI of the Child SA it rekeys
    state: ChildState = field(default=ChildState.INSTALLING)
    activating: bool = False  # our traffic is about to move to it
    announced: bool = False  # ChildUp was emitted
    own_rekey: OwnRekey | None = None  # while we are replacing it

    @property
    def inbound(self) -> SaId:
        return SaId(self.local_address, self.spi_in)

    @property
    def outbound(self) -> SaId:
        return SaId(self.remote_address, self.spi_out)

    @property
    def usable(self) -> bool:
        return self.state in USABLE

    @property
    def carries_outbound(self) -> bool:
        return self.state in CARRYING

    def happened(self, what: ChildInput) -> None:
        self.state = step(CHILD_TRANSITIONS, self.state, what)

    def facts(self) -> ChildFacts:
        return ChildFacts(
            spi_in=self.spi_in,
            spi_out=self.spi_out,
            state=self.state.value,
            mixed=self.mixed,
            encryption=self.encryption,
            mode=self.esp_mode,
            esn=self.esn,
            local_networks=self.local_networks,
            remote_networks=self.remote_networks,
            carries_outbound=self.carries_outbound,
            established_at=self.established_at,
        )
