"""What may stand in the configuration file: every table, key, type and default.

These are the file's own types (text, numbers); ``load`` turns them into ``schema``'s.
A key that is not listed here is an error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.config.schema import OnStop, Start
from gateway.ike.limits import FRAGMENT_SIZE
from gateway.model import EspMode, PortSecurity, QkdPolicy, Renewal, Revocation
from kms_client.connect import KeyProtocol
from kms_client.profiles import DEFAULT_PROFILE

NonEmpty = Annotated[str, Meta(min_length=1)]
NonEmptyList = Annotated[tuple[str, ...], Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables."""


class GatewayTable(Table, frozen=True):
    name: NonEmpty
    listen: NonEmptyList
    sae_id: NonEmpty
    control_socket: NonEmpty = "/run/qsgw/control.sock"
    control_group: NonEmpty | None = None
    on_stop: OnStop = OnStop.KEEP


class MqttTable(Table, frozen=True):
    host: NonEmpty
    port: Port | None = None  # 1883, with TLS 8883
    prefix: NonEmpty = "qsgw"
    username: NonEmpty | None = None
    password_file: NonEmpty | None = None
    ca: NonEmpty | None = None
    certificate: NonEmpty | None = None
    key: NonEmpty | None = None
    key_ids: bool = False


class MetricsTable(Table, frozen=True):
    listen: NonEmpty = "127.0.0.1:9464"


class KmeTable(Table, frozen=True):
    url: NonEmpty
    protocol: KeyProtocol = KeyProtocol.ETSI014
    profile: NonEmpty = DEFAULT_PROFILE
    peers: dict[str, str] = {}
    ca: NonEmpty | None = None  # all three of them, or psk
    certificate: NonEmpty | None = None
    key: NonEmpty | None = None
    psk: NonEmpty | None = None
    psk_identity: NonEmpty | None = None
    retention: NonEmpty | None = None
    timeout: str = "3s"


class TunnelTable(Table, frozen=True):
    local: NonEmpty
    remote: NonEmpty
    remote_id: NonEmpty
    mode: EspMode = EspMode.TUNNEL
    local_subnets: NonEmptyList | None = None  # required in tunnel mode
    remote_subnets: NonEmptyList | None = None
    local_id: NonEmpty | None = None
    psk: NonEmpty | None = None
    certificate: NonEmpty | None = None
    private_key: NonEmpty | None = None
    ca: NonEmptyList | None = None
    crl: tuple[str, ...] = ()
    revocation: Revocation | None = None
    remote_public_key: NonEmpty | None = None
    shares: NonEmpty | None = None
    start: Start = Start.INITIATE
    dpd_action: Renewal | None = None  # as at the start
    close_action: Renewal | None = None
    idle_timeout: str = "0"
    qkd: QkdPolicy = QkdPolicy.PREFER
    kmes: tuple[str, ...] = ()
    peer_sae: str = ""
    pool_target: Annotated[int, Meta(ge=1, le=128)] = 4
    restore_dwell: str = "60s"
    degraded_max: str = "0"
    rekey_min: str = "30s"
    rekey_max: str = "1h"
    rekey_bytes: str = "512 GiB"  # the hard limit, twice this, see daemon/lifetimes
    rekey_packets: str = "2000M"
    ike_rekey: str = "4h"
    key_reserve: Annotated[int, Meta(ge=0, le=128)] = 1
    ike: NonEmptyList = ("aes256gcm16-prfsha512-x25519-ke1_mlkem768",)
    esp: NonEmptyList = ("aes256gcm16-x25519-ke1_mlkem768-esn",)
    allow_classical: bool = False
    liveness: str = "30s"
    retransmit_base: str | None = None
    fragment_size: int = FRAGMENT_SIZE
    port: Literal[500, 4500] = 500
    force_encap: bool = False


class ConnectionTable(Table, frozen=True):
    """An IKE SA without tunnels. Keys and defaults are those of a tunnel's table."""

    local: NonEmpty
    remote: NonEmpty
    remote_id: NonEmpty
    local_id: NonEmpty | None = None
    psk: NonEmpty | None = None
    certificate: NonEmpty | None = None
    private_key: NonEmpty | None = None
    ca: NonEmptyList | None = None
    crl: tuple[str, ...] = ()
    revocation: Revocation | None = None
    remote_public_key: NonEmpty | None = None
    start: Literal["initiate", "respond"] = "initiate"
    qkd: QkdPolicy = QkdPolicy.PREFER
    kmes: tuple[str, ...] = ()
    peer_sae: str = ""
    pool_target: Annotated[int, Meta(ge=1, le=128)] = 4
    restore_dwell: str = "60s"
    degraded_max: str = "0"
    rekey_min: str = "30s"
    rekey_max: str = "1h"
    key_reserve: Annotated[int, Meta(ge=0, le=128)] = 1
    ike: NonEmptyList = ("aes256gcm16-prfsha512-x25519-ke1_mlkem768",)
    allow_classical: bool = False
    liveness: str = "30s"
    retransmit_base: str | None = None
    fragment_size: int = FRAGMENT_SIZE
    port: Literal[500, 4500] = 500
    force_encap: bool = False

    def as_tunnel(self) -> TunnelTable:
        """A tunnel's table without subnets and ``esp``."""
        own = {name: getattr(self, name) for name in self.__struct_fields__}
        own |= {"start": Start(self.start), "ike_rekey": "0", "rekey_bytes": "0"}
        return TunnelTable(**own, esp=(), rekey_packets="0")


class Suite(StrEnum):
    """A cipher suite of 802.1AE, as ``ip macsec`` writes them."""

    GCM_AES_128 = "gcm-aes-128"
    GCM_AES_256 = "gcm-aes-256"
    GCM_AES_XPN_128 = "gcm-aes-xpn-128"
    GCM_AES_XPN_256 = "gcm-aes-xpn-256"


class MacsecTable(Table, frozen=True):
    interface: NonEmpty
    device: NonEmpty | None = None  # macsec-NAME
    addresses: tuple[str, ...] = ()
    mtu: Annotated[int, Meta(ge=68, le=65535)] | None = None  # RFC 791; 16 bits
    connection: NonEmpty | None = None  # or cak and ckn
    link: NonEmpty | None = None  # NAME
    cak_bits: Literal[128, 256] | None = None  # 256
    cak: NonEmpty | None = None
    ckn: NonEmpty | None = None
    allow_classical: bool = False
    priority: Annotated[int, Meta(ge=0, le=255)] = 16
    suite: Suite = Suite.GCM_AES_256
    accept: tuple[Suite, ...] = ()  # the suite alone
    encryption: bool = True
    security: PortSecurity = PortSecurity.MUST_SECURE
    delay_protect: bool = False
    replay_window: Annotated[int, Meta(ge=0, lt=1 << 30)] = 0  # 802.1AEbw 10.7.8, of XPN
    sak_lifetime: str = "0"
