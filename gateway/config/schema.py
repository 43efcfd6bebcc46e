"""The configuration as the daemon uses it: checked, typed, frozen.

Made from a TOML file by ``gateway.config.load.load_config``. Durations are seconds, file
references are absolute paths, secrets are ``Secret``. Two configurations compare equal when
they mean the same, so a reload sees which tunnels changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from gateway.crypto.secret import Secret
from gateway.ike.credentials import LocalAuth, RemoteAuth
from gateway.mka.registry import CipherSuite
from gateway.model import (
    EspMode,
    IpAddress,
    IpNetwork,
    PortSecurity,
    QkdPolicy,
    Renewal,
    Revocation,
)
from kms_client.connect import KeyProtocol
from kms_client.profiles import DEFAULT_PROFILE
from kms_client.tls import TlsFiles
from kms_client.tls_psk import PskFile

NATT_PORT = 4500  # RFC 3948 2.2


class OnStop(StrEnum):
    """What happens to the SAs in the kernel when the daemon ends."""

    KEEP = "keep"  # they stay: a restarted daemon takes over without losing a packet
    CLOSE = "close"  # they are deleted, the block policies stay


class Start(StrEnum):
    """Who sets a tunnel up."""

    INITIATE = "initiate"
    RESPOND = "respond"
    TRAP = "trap"  # traffic does


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Table ``[gateway]``."""

    name: str
    listen: tuple[IpAddress, ...]  # UDP 500 and 4500 on each
    sae_id: str  # who we are to the KMEs
    control_socket: Path
    control_group: str | None
    on_stop: OnStop


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttConfig:
    """Table ``[mqtt]``. TLS is used when ``ca`` is given."""

    host: str
    port: int
    prefix: str
    username: str | None
    password: Secret | None
    ca: Path | None
    certificate: Path | None
    key: Path | None
    key_ids: bool  # publish QKD key_IDs


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Table ``[metrics]``: where the Prometheus endpoint listens."""

    address: IpAddress
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeConfig:
    """Table ``[kme.NAME]``: one key-management entity, or key provider of Cisco SKIP."""

    name: str
    url: str  # https://host:port, no trailing slash
    credentials: TlsFiles | PskFile
    timeout: float  # seconds per request
    protocol: KeyProtocol = KeyProtocol.ETSI014
    profile: str = DEFAULT_PROFILE  # in kms_client.profiles
    peers: tuple[tuple[str, str], ...] = ()  # SAE, and what this KME calls it
    retention: float | None = None  # seconds a key waits for the peer; None: long enough


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificate:
    """What we show the peer, for status and alarms."""

    file: Path
    subject: str
    not_after: datetime  # the earliest end in the chain


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustConfig:
    """Whose certificates count, and what is asked of CRLs. The files are read when needed."""

    ca: tuple[Path, ...]
    crl: tuple[Path, ...]
    revocation: Revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """How the two ends of a tunnel prove who they are."""

    local: LocalAuth
    remote: RemoteAuth
    own_certificate: OwnCertificate | None
    trust: TrustConfig | None
    local_id: str  # as written, or what our certificate says


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelConfig:
    """Table ``[tunnel.NAME]``, with what it has from the tunnel whose IKE SA it shares.

    Or ``[connection.NAME]``: an IKE SA without tunnels, so without subnets, ``esp`` and what is
    about traffic; ``rekey_min`` and ``rekey_max`` are those of the IKE SA.
    """

    name: str
    shares: str | None  # that tunnel's name; None: it has an IKE SA of its own
    local: IpAddress
    remote: IpAddress
    local_id: str
    remote_id: str
    local_auth: LocalAuth
    remote_auth: RemoteAuth
    own_certificate: OwnCertificate | None
    trust: TrustConfig | None  # with a peer that shows certificates
    mode: EspMode
    local_subnets: tuple[IpNetwork, ...]  # in transport mode the two ends themselves
    remote_subnets: tuple[IpNetwork, ...]
    start: Start
    dpd_action: Renewal | None  # when the peer is lost; None = as at the start
    close_action: Renewal | None  # when the peer closes; None = as at the start
    idle_timeout: float | None  # seconds without traffic until the tunnel closes; None = never
    qkd: QkdPolicy
    kmes: tuple[str, ...]  # names of [kme.*] tables, in order of preference
    peer_sae: str  # "" when qkd is off
    pool_target: int  # keys kept ready
    restore_dwell: float  # seconds QKD must be healthy before HYBRID again
    degraded_max: float | None  # seconds PQC_ONLY may last; None = unlimited
    rekey_min: float  # seconds
    rekey_max: float  # seconds
    rekey_bytes: int | None  # octets through one SA; None = unlimited
    rekey_packets: int | None  # through one SA; None = as many as its sequence numbers allow
    ike_rekey: float | None  # seconds an IKE SA lives at most; None = for ever
    key_reserve: int  # keys kept back for the next rekey
    ike: tuple[str, ...]  # each parses as gateway.ike.proposals.ProposalSpec
    esp: tuple[str, ...]
    allow_classical: bool
    liveness: float  # seconds of silence before the peer is probed; 0 = never
    retransmit_base: float | None  # seconds; None = the default of gateway.ike
    fragment_size: int  # octets of an IP datagram with IKE in it
    port: int  # UDP 500 or 4500: where setting up begins, at both ends
    force_encap: bool  # ESP in UDP though there is no NAT

    @property
    def childless(self) -> bool:
        """It is a connection without tunnels (RFC 6023)."""
        return not self.esp

    @property
    def table(self) -> str:
        """Where it stands in the file."""
        return f"{'connection' if self.childless else 'tunnel'}.{self.name}"

    @property
    def connection(self) -> str:
        """Names the peer: all tunnels of one connection run in one IKE SA."""
        return self.shares or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticCak:
    """A CAK that was agreed by hand, for a peer of another make."""

    ckn: bytes  # 1 to 32 octets, public
    cak: Secret  # 16 or 32 octets


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsecConfig:
    """Table ``[macsec.NAME]``: one layer-2 link. Either ``connection`` or ``static``."""

    name: str
    interface: str  # the parent: a port, bond or VLAN with nothing else on it
    device: str  # the MACsec device we make on it
    addresses: tuple[IPv4Interface | IPv6Interface, ...]  # of the device
    mtu: int | None  # of the device; None: as the parent allows
    connection: str | None  # a [connection.NAME]: each of its IKE SAs gives a CAK
    link: str  # what both ends call the link; bound into the CAK
    cak_size: int  # octets of a CAK made from the connection: 16 or 32
    static: StaticCak | None
    priority: int  # to be key server: the lowest of 0 to 254 is, 255 never
    suite: CipherSuite  # that we distribute as key server
    accept: frozenset[CipherSuite]  # that we take from a key server; with ``suite``
    encrypt: bool  # False: integrity only
    security: PortSecurity
    delay_protect: bool
    replay_window: int  # frames that may come late
    sak_lifetime: float | None  # seconds; None: until its packet numbers run out

    @property
    def table(self) -> str:
        """Where it stands in the file."""
        return f"macsec.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """A whole configuration file."""

    file: Path
    gateway: GatewaySettings
    mqtt: MqttConfig | None
    metrics: MetricsConfig | None
    kmes: dict[str, KmeConfig]
    tunnels: dict[str, TunnelConfig]
    macsec: dict[str, MacsecConfig] = field(default_factory=dict)
