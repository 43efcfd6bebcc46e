"""What the IKE core knows about a tunnel, for status. Times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.identity import Identity
from gateway.model import EspMode, IpAddress, IpNetwork, KeyId, Mixed, PpkMethod, Role, SaId


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeFacts:
    spi_i: bytes  # 8 octets
    spi_r: bytes  # 8 octets; zeros while the responder's is not known
    role: Role
    state: str  # an IkeState by its value
    local: tuple[IpAddress, int]
    remote: tuple[IpAddress, int]
    proposal: str  # "" while nothing is chosen
    key_exchanges: tuple[str, ...]
    ppk_method: PpkMethod | None
    key_id: KeyId | None  # also one that came with the SK_d of the IKE SA before
    mixed: Mixed  # for this IKE SA itself
    established_at: float | None
    nat: bool
    fragmentation: bool
    peer_is_qsgw: bool
    local_id: Identity  # as in the ID payloads of this IKE SA, or the one it was rekeyed from
    remote_id: Identity | None  # None before IKE_AUTH
    local_proof: str  # e.g. "ECDSA-P384-SHA384 CN=moon", "pre-shared key"; "" before IKE_AUTH
    remote_proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFacts:
    spi_in: int
    spi_out: int
    state: str  # a ChildState by its value
    mixed: Mixed
    encryption: str
    mode: EspMode
    esn: bool
    local_networks: tuple[IpNetwork, ...]
    remote_networks: tuple[IpNetwork, ...]
    carries_outbound: bool
    established_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelFacts:
    name: str
    connection: str  # tunnels of one connection have their IKE SAs in common
    ike: tuple[IkeFacts, ...]  # newest first
    children: tuple[ChildFacts, ...]  # newest first
    early: tuple[SaId, ...] = ()  # inbound SAs in the kernel before the peer's answer
