"""What the operator wants, as the IKE core needs it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.ike import limits
from gateway.ike.credentials import LocalAuth, OwnKey, RemoteAuth, SharedKey
from gateway.ike.identity import Identity
from gateway.ike.proposals import ProposalSpec
from gateway.model import EspMode, IpAddress, IpNetwork


class PpkMode(StrEnum):
    """What we insist on, or accept, from the peer about QKD keys."""

    REQUIRE = "require"  # no SA without one
    PREFER = "prefer"  # with one if both sides have it, else without
    OFF = "off"  # never


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """All in seconds but the two numbers of the retransmission schedule."""

    retransmit_base: float = limits.RETRANSMIT_BASE
    retransmit_factor: float = limits.RETRANSMIT_FACTOR
    retransmit_tries: int = limits.RETRANSMIT_TRIES
    close_tries: int = limits.CLOSE_TRIES
    half_open_timeout: float = limits.HALF_OPEN_TIMEOUT
    command_timeout: float = limits.COMMAND_TIMEOUT
    ppk_timeout: float = limits.PPK_TIMEOUT
    followup_timeout: float = limits.FOLLOWUP_TIMEOUT
    liveness_interval: float = limits.LIVENESS_INTERVAL
    linger: float = limits.LINGER
    init_error_grace: float = limits.INIT_ERROR_GRACE


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """One tunnel: what its Child SA carries and how it is protected. It runs in an IKE SA.

    ``ppk`` is the mode to start with and says whether the tunnel can use QKD keys at all:
    a tunnel configured OFF never uses them, whatever ``set_ppk_mode`` says later.
    """

    name: str  # the tunnel's, for commands, events, policy and kernel
    esp_proposals: tuple[ProposalSpec, ...]
    local_networks: tuple[IpNetwork, ...]
    remote_networks: tuple[IpNetwork, ...]
    esp_mode: EspMode = EspMode.TUNNEL
    ppk: PpkMode = PpkMode.PREFER


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One peer and the tunnels to it. At most one connection per pair of addresses."""

    name: str
    local_address: IpAddress
    remote_address: IpAddress
    local_id: Identity
    remote_id: Identity
    local_auth: LocalAuth  # how we prove who we are
    remote_auth: RemoteAuth  # how the peer has to
    ike_proposals: tuple[ProposalSpec, ...]
    children: tuple[ChildConfig, ...]  # names unique over all connections; none: childless
    ppk: PpkMode = PpkMode.OFF  # of an IKE SA without children; otherwise theirs count
    allow_classical: bool = False  # accept an SA without ML-KEM
    fragment_size: int = limits.FRAGMENT_SIZE  # octets of the IP datagram
    nat_port_first: bool = False  # our IKE_SA_INIT goes from 4500 to 4500, not from 500 to 500
    force_encap: bool = False  # ESP in UDP though there is no NAT
    ike_lifetime: float | None = None  # seconds until an IKE SA is replaced; None: never
    timing: Timing | None = None  # None: the endpoint's

    @property
    def uses_ppk(self) -> bool:
        """Whether a QKD key may ever be mixed: some tunnel can use one."""
        modes = [child.ppk for child in self.children] or [self.ppk]
        return any(mode is not PpkMode.OFF for mode in modes)

    @property
    def signatures(self) -> bool:
        """Whether either side signs."""
        return isinstance(self.local_auth, OwnKey) or not isinstance(self.remote_auth, SharedKey)
