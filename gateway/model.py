"""The vocabulary the parts of the gateway share. Data only, no logic.

Protocol cores, data plane, policy, telemetry and daemon speak to each other in these types,
so none of them has to import another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

from gateway.crypto.secret import Secret

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

KeyId = NewType("KeyId", str)
"""An ETSI GS QKD 014 key_ID: UUID as lower-case text, 36 characters."""


class Protection(StrEnum):
    """What protects a tunnel now, derived from what was mixed into the SA in the kernel."""

    HYBRID = "HYBRID"  # ECDH + ML-KEM + QKD
    PQC_ONLY = "PQC_ONLY"  # ECDH + ML-KEM
    CLASSICAL = "CLASSICAL"  # ECDH only; explicit legacy peers
    BLOCKED = "BLOCKED"  # policy wants QKD and there is none: traffic is dropped
    DOWN = "DOWN"  # no SA: traffic is dropped


class QkdPolicy(StrEnum):
    """What a tunnel wants of the quantum link."""

    REQUIRE = "require"
    PREFER = "prefer"
    OFF = "off"


class Renewal(StrEnum):
    """What a tunnel that has no SA does about it."""

    RESTART = "restart"  # set up again, until it is up
    TRAP = "trap"  # set up when traffic wants to leave
    NONE = "none"  # wait for the peer or the operator


class Ended(StrEnum):
    """Who ended a Child SA that nothing replaced."""

    HERE = "here"  # us, or our kernel
    BY_PEER = "by-peer"
    PEER_LOST = "peer-lost"  # it does not answer any more


class Revocation(StrEnum):
    """What is asked of CRLs when a peer shows its certificate."""

    OFF = "off"  # they are not looked at
    SOFT = "soft"  # a certificate in a CRL is refused; a missing or outdated CRL does not matter
    REQUIRE = "require"  # every certificate needs a current CRL of its issuer


class Role(StrEnum):
    INITIATOR = "initiator"
    RESPONDER = "responder"


class Direction(StrEnum):
    INBOUND = "in"
    OUTBOUND = "out"
    FORWARD = "fwd"  # policies only


class PpkMethod(StrEnum):
    """How a QKD key entered the key schedule."""

    INTERMEDIATE = "RFC9867"  # IKE_INTERMEDIATE, RFC 9867
    AUTH = "RFC8784"  # IKE_AUTH, RFC 8784
    CREATE_CHILD = "RFC9867-child"  # CREATE_CHILD_SA, RFC 9867, between qsgw peers


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppk:
    """A QKD key on its way into one key exchange. Wiped by whoever mixes or burns it."""

    key_id: KeyId
    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Which secrets went into the keys of one Child SA."""

    key_exchanges: tuple[str, ...]  # in order, e.g. ("X25519", "ML-KEM-768")
    key_id: KeyId | None  # the fresh QKD key mixed for this SA, if one was
    ppk_method: PpkMethod | None
    key_shared: bool = False  # key_id is the IKE SA's: it keys its first Child SA as well

    @property
    def protection(self) -> Protection:
        """HYBRID, PQC_ONLY or CLASSICAL: what these secrets amount to."""
        if not any(name.startswith(PQ_PREFIXES) for name in self.key_exchanges):
            return Protection.CLASSICAL
        return Protection.PQC_ONLY if self.key_id is None else Protection.HYBRID


PQ_PREFIXES = ("ML-KEM", "FrodoKEM", "HQC", "Classic-McEliece")


# --- data plane ------------------------------------------------------------------------------


class EspMode(StrEnum):
    """What ESP encapsulates (RFC 4303 3.1)."""

    TUNNEL = "tunnel"  # whole packets, between any hosts behind the two ends
    TRANSPORT = "transport"  # payloads, between the two ends themselves


@dataclass(frozen=True, slots=True)
class SaId:
    """Names an ESP SA in the kernel: the destination's SPI."""

    destination: IpAddress
    spi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpEncap:
    """ESP in UDP (RFC 3948). Ports as they stand in packets of this SA."""

    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SaLifetime:
    """Kernel limits of an SA; None = unlimited. Soft raises an event, hard removes the SA."""

    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None
    soft_seconds: int | None = None
    hard_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaSpec:
    """One ESP SA with AES-256-GCM, as the kernel is to hold it."""

    tunnel: str
    direction: Direction  # INBOUND or OUTBOUND
    spi: int
    source: IpAddress
    destination: IpAddress
    reqid: int
    key: Secret  # 36 octets: AES-256 key | 4-octet salt (RFC 4106 8.1)
    mode: EspMode = EspMode.TUNNEL
    esn: bool = True
    replay_window: int = 256  # packets; inbound only
    encap: UdpEncap | None = None
    lifetime: SaLifetime = field(default_factory=SaLifetime)

    @property
    def sa_id(self) -> SaId:
        return SaId(self.destination, self.spi)


class PolicyAction(StrEnum):
    PROTECT = "protect"  # only through an SA
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """One kernel policy. ``outbound_spi`` pins an outbound PROTECT policy to one SA."""

    tunnel: str
    direction: Direction
    source: IpNetwork  # selector as the packet shows it
    destination: IpNetwork
    action: PolicyAction
    priority: int  # lower wins
    tunnel_source: IpAddress | None = None  # outer addresses, PROTECT only
    tunnel_destination: IpAddress | None = None
    reqid: int = 0
    outbound_spi: int = 0
    mode: EspMode = EspMode.TUNNEL  # of the SAs, PROTECT only


@dataclass(frozen=True, slots=True, kw_only=True)
class SaState:
    """An SA as read back from the kernel (never with its key)."""

    sa_id: SaId
    source: IpAddress
    reqid: int
    larval: bool  # an SPI reservation without keys
    esn: bool
    bytes: int
    packets: int
    replay_drops: int
    integrity_failures: int
    added_at: int  # Unix seconds
    lifetime: SaLifetime = field(default_factory=SaLifetime)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSnapshot:
    """Everything of ours in the kernel at one moment."""

    sas: tuple[SaState, ...]
    policies: tuple[PolicySpec, ...]  # tunnel is "" where the kernel cannot tell


# --- MACsec ----------------------------------------------------------------------------------


class PortState(StrEnum):
    """What passes the controlled port of a MACsec link (802.1X 12.4)."""

    BLOCKED = "blocked"
    CLEAR = "clear"  # unprotected: should-secure only
    SECURED = "secured"  # protected frames only


class PortSecurity(StrEnum):
    """What passes the controlled port while no SAK is in use."""

    MUST_SECURE = "must-secure"  # nothing
    SHOULD_SECURE = "should-secure"  # everything, unprotected: for a migration, with a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsecCounters:
    """Of one MACsec device since it was made, as the kernel counts them (802.1AE 10.7).

    What came in is counted by the channel that it came in, and goes with the channel.
    """

    out_packets: int  # protected, encrypted or not
    out_octets: int
    out_untagged: int  # left in the clear
    in_ok: int
    in_octets: int  # decrypted or validated
    in_untagged: int  # taken in without protection
    in_no_tag: int  # came in the clear and were dropped; Linux counts EAPOL frames as well
    in_bad_tag: int
    in_no_sci: int  # no channel for them, dropped
    in_unknown_sci: int  # no channel for them, taken
    in_not_using_sa: int  # no SA for them, dropped
    in_unused_sa: int
    in_not_valid: int  # wrong ICV, dropped
    in_invalid: int
    in_late: int  # replayed or too old, dropped
    in_delayed: int
    in_unchecked: int
    in_overrun: int


# --- what users see --------------------------------------------------------------------------
# One snapshot type feeds CLI, control socket, MQTT and Prometheus. Times are RFC 3339 in UTC.


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A condition that holds now, with the moment it began."""

    id: str  # stable, e.g. "qkd-loss", "kme-unreachable"
    severity: Severity
    subject: str  # tunnel or KME name
    text: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeView:
    spi_i: str  # 16 hex digits
    spi_r: str
    role: Role
    state: str
    local: str  # address:port
    remote: str
    proposal: str  # e.g. "AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768/PPK"
    key_exchanges: tuple[str, ...]
    ppk_method: str | None
    key_id: str | None  # also one that came with the secrets of the IKE SA before
    protection: Protection  # what was mixed for this IKE SA itself
    established_at: str | None
    nat: bool
    fragmentation: bool
    local_proof: str  # how we proved who we are, e.g. "ECDSA-P384-SHA384 CN=moon"; "" before
    remote_proof: str  # how the peer did


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildView:
    spi_in: str  # 8 hex digits
    spi_out: str
    protection: Protection
    key_exchanges: tuple[str, ...]
    ppk_method: str | None
    key_id: str | None
    key_shared: bool  # it is the IKE SA's, and keys other Child SAs as well
    encryption: str
    mode: EspMode
    esn: bool
    in_kernel: bool  # both SAs read back from the kernel
    carries_outbound: bool  # the outbound policy is pinned to this one
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int
    established_at: str
    rekey_at: str | None  # when the policy means to replace it
    rekey_bytes: int | None  # limits the kernel holds for the outbound SA: at these it is replaced
    rekey_packets: int | None
    life_bytes: int | None  # and beyond these it carries nothing
    life_packets: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysView:
    """QKD keys of one tunnel."""

    peer_sae: str
    pool: int  # keys held here, ready for use
    key_ids: tuple[str, ...]  # theirs, the next to be used in front
    pool_target: int
    stored_at_kme: int | None  # as the KME's status says; None = unknown
    rate: float  # keys per second, measured
    used: int
    burned: int  # delivered but not used: expired, refused, quarantined
    reused: int  # 0, or something is badly wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelView:
    name: str
    connection: str  # the tunnel whose IKE SA this one runs in: itself, or the one it shares
    protection: Protection
    reason: str
    since: str
    qkd: QkdPolicy
    on_demand: bool  # it is DOWN while nobody needs it, and traffic sets it up
    childless: bool  # a connection without tunnels: its IKE SA is what is protected and rekeyed
    rekey_at: str | None  # when the policy means to replace what protects it
    local_id: str
    remote_id: str
    local_address: str
    remote_address: str
    local_subnets: tuple[str, ...]
    remote_subnets: tuple[str, ...]
    ike: IkeView | None
    children: tuple[ChildView, ...]
    keys: KeysView | None
    rekeys: int
    rekeys_hybrid: int
    rekeys_pqc_only: int
    ike_rekeys: int
    failures: int
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CakView:
    """One CAK of a MACsec link, without its key."""

    ckn: str  # hex
    protection: Protection  # what it was made of
    key_exchanges: tuple[str, ...]  # of the IKE SA it comes from
    ppk_method: str | None
    key_id: str | None
    principal: bool  # it decides which SAK is in use
    key_server: str | None  # SCI
    live_peers: int
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsecPeerView:
    """Another member under the principal CAK."""

    sci: str
    mi: str  # hex
    live: bool
    priority: int
    key_server: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SakView:
    """One SAK that is installed."""

    an: int
    ki: str  # key identifier: the key server's MI and the key number, MI.KN
    kn: int
    ckn: str  # of the CAK it was distributed under; "" from before a restart
    suite: str
    encrypted: bool  # False: integrity only
    transmits: bool
    in_kernel: bool  # transmit SA and every live peer's receive SA read back, with this KI
    next_pn: int  # of our own channel, read back


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsecView:
    """One MACsec link."""

    name: str
    interface: str  # the parent
    device: str
    sci: str  # ours
    link: str  # what both ends call it
    connection: str | None  # its IKE SA gives the CAKs; None: a static one
    qkd: QkdPolicy  # of the connection; OFF with a static CAK
    protection: Protection
    reason: str
    since: str
    security: PortSecurity
    port: PortState  # read back from the kernel
    we_are_key_server: bool
    caks: tuple[CakView, ...]  # the newest last
    cak_at: str | None  # when the next one is due
    peers: tuple[MacsecPeerView, ...]
    saks: tuple[SakView, ...]  # the newest first
    counters: MacsecCounters | None  # None: the device is not there
    mtu: int | None
    cak_rollovers: int
    cak_rollovers_hybrid: int
    cak_rollovers_pqc_only: int
    sak_rollovers: int
    failures: int
    last_error: str | None
    drops: dict[str, int]  # EAPOL frames without effect, by reason


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeView:
    name: str
    url: str
    healthy: bool
    active: bool  # the one keys come from now
    last_error: str | None
    requests: int
    failures: int
    refused_by: tuple[str, ...]  # peer SAEs that did not take its keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    schema: int  # 1
    gateway: str
    version: str
    time: str
    started_at: str
    tunnels: tuple[TunnelView, ...]
    kmes: tuple[KmeView, ...]
    alarms: tuple[Alarm, ...]
    drops: dict[str, int]  # malformed or unexpected datagrams, by reason
    macsec: tuple[MacsecView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """Something that happened, for ``qsgw monitor``, MQTT and the log."""

    time: str
    type: str  # e.g. "protection", "child-up", "alarm-raised"
    tunnel: str | None
    text: str
    fields: dict[str, str | int | float | bool | None]
