"""The configuration files of two sites, as an operator would write them. Text only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from netns_lab import metro
from netns_lab.metro import MacsecOptions
from netns_lab.qkd_files import DeviceLink
from netns_lab.toml import Scalar, Table, toml

Gateway = Literal["moon", "sun"]
GATEWAYS: tuple[Gateway, Gateway] = ("moon", "sun")

GATEWAY_PKI = "gateway-pki"  # folder of the gateways' own certificates

MQTT_PORT = 1883
METRICS_PORT = 9464


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelOptions:
    """One gateway's table for the tunnel between moon and sun. Durations as in the file."""

    qkd: str = "prefer"
    subnets: Mapping[Gateway, tuple[str, ...]] = field(
        default_factory=lambda: {"moon": ("10.1.0.0/24",), "sun": ("10.2.0.0/24",)}
    )
    pool_target: int = 4
    restore_dwell: str = "2s"
    degraded_max: str = "0"
    rekey_min: str = "2s"
    rekey_max: str = "1h"
    key_reserve: int = 1
    ike: tuple[str, ...] = ("aes256gcm16-prfsha512-x25519-ke1_mlkem768",)
    esp: tuple[str, ...] = ("aes256gcm16-x25519-ke1_mlkem768-esn",)
    allow_classical: bool = False
    liveness: str = "10s"
    retransmit_base: str = "500ms"
    kme_timeout: str = "3s"
    more: Table = field(default_factory=dict)  # other keys of the table, as in the file
    beside: Mapping[str, Table] = field(default_factory=dict)  # by name: tunnels that share it


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """Two gateways with their key network. The two ends agree unless told otherwise."""

    moon: TunnelOptions = field(default_factory=TunnelOptions)
    sun: TunnelOptions = field(default_factory=TunnelOptions)
    initiator: Gateway = "moon"
    outer: Literal[4, 6] = 4  # IP version between the gateways
    nat: bool = False  # in front of the initiator: see netns_lab.nat
    same_psk: bool = True
    certificates: str | None = None  # instead of the PSK: an algorithm of "qsgw pki"
    psk_ends: tuple[Gateway, ...] = ()  # with certificates: who shows the PSK all the same
    key_rate: float = 4.0  # 256-bit keys per second, over both directions
    key_store: int = 64  # keys per direction that a KME holds
    key_lifetime: str = "1h"
    macsec: MacsecOptions | None = None  # a MACsec link instead of the tunnel, see netns_lab.metro
    twin: bool = False  # a second pair of KMEs with a link of their own
    apart: bool = False  # the twins serve a tunnel of their own, IPv6 inside and outside
    devices: Mapping[str, DeviceLink] = field(default_factory=dict)
    """By link: fed by devices and their simulated optics, and not by ``qsgw-kme link``."""
    mqtt: bool = True  # a broker beside each gateway
    metrics: bool = False
    on_stop: str = "keep"

    def tunnel(self, gateway: Gateway) -> TunnelOptions:
        return self.moon if gateway == "moon" else self.sun


@dataclass(frozen=True, slots=True, kw_only=True)
class Kme:
    """One KME and the half of a QKD link it stands on."""

    name: str  # its KME id, certificate and folder
    host: str
    gateway: Gateway
    address: str
    port: int
    peer: str
    link: str  # name and folder of the link

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"


_PAIR = (
    Kme(
        name="kme-moon",
        host="kme-moon",
        gateway="moon",
        address="10.9.1.2",
        port=8443,
        peer="kme-sun",
        link="link",
    ),
    Kme(
        name="kme-sun",
        host="kme-sun",
        gateway="sun",
        address="10.9.2.2",
        port=8443,
        peer="kme-moon",
        link="link",
    ),
)
_TWINS = tuple(
    Kme(
        name=f"{kme.name}-twin",
        host=kme.host,
        gateway=kme.gateway,
        address=kme.address,
        port=8444,
        peer=f"{kme.peer}-twin",
        link="link-twin",
    )
    for kme in _PAIR
)
ALL_KMES = _PAIR + _TWINS

OUTER: Mapping[int, Mapping[Gateway, str]] = {
    4: {"moon": "10.0.12.1", "sun": "10.0.23.3"},
    6: {"moon": "fd12::1", "sun": "fd23::3"},
}

_TRAFFIC = {"local_subnets", "remote_subnets", "esp"}  # of a tunnel, and not of a connection

_TWIN_SUBNETS: Mapping[Gateway, str] = {"moon": "fd01::/64", "sun": "fd02::/64"}

NAT_OUTSIDE: Mapping[Gateway, str] = {"moon": "10.0.23.2", "sun": "10.0.12.2"}
"""Where a gateway behind the NAT seems to be: isp's address on the other side."""


def kmes(options: SiteOptions) -> tuple[Kme, ...]:
    """The KMEs of a site, the preferred pair first."""
    return ALL_KMES if options.twin else _PAIR


def peer(gateway: Gateway) -> Gateway:
    return "sun" if gateway == "moon" else "moon"


def tunnel_name(gateway: Gateway, *, twin: bool = False) -> str:
    """What ``gateway`` calls its tunnel to the other, or that of the twin KMEs."""
    return f"{peer(gateway)}-twin" if twin else peer(gateway)


def gateway_file(options: SiteOptions, gateway: Gateway, run_dir: Path) -> str:
    """``qsgw.toml`` of one gateway."""
    other = peer(gateway)
    tunnel = options.tunnel(gateway)
    outer = OUTER[options.outer]
    static = options.macsec is not None and options.macsec.static
    own_kmes = [kme for kme in kmes(options) if kme.gateway == gateway]
    twins = [kme for kme in own_kmes if kme in _TWINS and options.apart]
    tables: dict[str, Table] = {
        "gateway": {
            "name": gateway,
            "listen": (outer[gateway], *([OUTER[6][gateway]] if twins else [])),
            "sae_id": gateway,
            "control_socket": str(run_dir / gateway / "control.sock"),
            "on_stop": options.on_stop,
        }
    }
    if options.mqtt:
        tables["mqtt"] = {"host": "127.0.0.1", "port": MQTT_PORT}
    if options.metrics:
        tables["metrics"] = {"listen": f"127.0.0.1:{METRICS_PORT}"}
    for kme in () if static else own_kmes:
        tables[f"kme.{kme.name}"] = {
            "url": kme.url,
            **_certificates(gateway),
            "timeout": tunnel.kme_timeout,
        }
    main = _tunnel(options, gateway, [kme for kme in own_kmes if kme not in twins])
    if options.macsec is not None:
        if not static:
            tables[f"connection.{other}"] = {k: v for k, v in main.items() if k not in _TRAFFIC}
        tables[f"macsec.{metro.NAME}"] = options.macsec.table(gateway, other)
    else:
        tables[f"tunnel.{other}"] = main
    if twins:
        tables[f"tunnel.{tunnel_name(gateway, twin=True)}"] = {
            **_tunnel(options, gateway, twins),
            **_apart(gateway),
        }
    for name, keys in tunnel.beside.items():
        tables[f"tunnel.{name}"] = {"shares": other, **keys}
    return toml(tables)


def _tunnel(options: SiteOptions, gateway: Gateway, from_kmes: Sequence[Kme]) -> Table:
    """The tunnel to the other gateway."""
    other = peer(gateway)
    outer = OUTER[options.outer]
    tunnel = options.tunnel(gateway)
    return {
        "local": outer[gateway],
        "remote": NAT_OUTSIDE[other]
        if options.nat and other == options.initiator
        else outer[other],
        "local_id": f"{gateway}.example",
        "remote_id": f"{other}.example",
        **_authentication(options, gateway),
        "local_subnets": tunnel.subnets[gateway],
        "remote_subnets": tunnel.subnets[other],
        "start": "initiate" if options.initiator == gateway else "respond",
        "qkd": tunnel.qkd,
        "kmes": tuple(kme.name for kme in from_kmes),
        "peer_sae": other,
        "pool_target": tunnel.pool_target,
        "restore_dwell": tunnel.restore_dwell,
        "degraded_max": tunnel.degraded_max,
        "rekey_min": tunnel.rekey_min,
        "rekey_max": tunnel.rekey_max,
        "key_reserve": tunnel.key_reserve,
        "ike": tunnel.ike,
        "esp": tunnel.esp,
        "allow_classical": tunnel.allow_classical,
        "liveness": tunnel.liveness,
        "retransmit_base": tunnel.retransmit_base,
        **tunnel.more,
    }


def _apart(gateway: Gateway) -> Table:
    """What is other in the tunnel of the twin KMEs."""
    other = peer(gateway)
    return {
        "local": OUTER[6][gateway],
        "remote": OUTER[6][other],
        "local_id": f"{gateway}6.example",
        "remote_id": f"{other}6.example",
        "local_subnets": (_TWIN_SUBNETS[gateway],),
        "remote_subnets": (_TWIN_SUBNETS[other],),
    }


def kme_file(options: SiteOptions, kme: Kme, run_dir: Path) -> str:
    """``kme.toml`` of one KME."""
    return toml(
        {
            "kme": {
                "id": kme.name,
                "listen": (f"{kme.address}:{kme.port}",),
                **_certificates(kme.name),
                "control_socket": str(run_dir / kme.name / "control.sock"),
            },
            "link": {"connect": link_address(kme, run_dir), "peer_kme": kme.peer},
            "keys": {"max_count": options.key_store, "lifetime": options.key_lifetime},
            f"sae.{kme.gateway}": {"peers": (peer(kme.gateway),)},
        }
    )


def link_file(options: SiteOptions, name: str, run_dir: Path) -> str:
    """``link.toml`` of one emulated QKD link."""
    tables: dict[str, Table] = {
        "link": {
            "name": name,
            "rate": options.key_rate,
            "control_socket": str(run_dir / name / "control.sock"),
        }
    }
    for kme in kmes(options):
        if kme.link == name:
            tables[f"side.{kme.name}"] = {"listen": link_address(kme, run_dir)}
    return toml(tables)


def link_address(kme: Kme, run_dir: Path) -> str:
    return f"unix:{run_dir / kme.link / kme.name}.sock"


def links(options: SiteOptions) -> tuple[str, ...]:
    """Names of the links, the preferred one first."""
    return tuple(dict.fromkeys(kme.link for kme in kmes(options)))


def mosquitto_file() -> str:
    return "\n".join(
        (
            f"listener {MQTT_PORT} 127.0.0.1",
            "allow_anonymous true",
            "persistence false",
            # In a user namespace there is no other user to become.
            "user root",
            "",
        )
    )


def _certificates(name: str) -> dict[str, Scalar]:
    pki = "../pki"
    return {
        "ca": f"{pki}/ca.pem",
        "certificate": f"{pki}/{name}.pem",
        "key": f"{pki}/{name}.key",
    }


def _authentication(options: SiteOptions, gateway: Gateway) -> Table:
    """What a gateway shows, and what it takes of the other. Certificates are ``qsgw pki``'s."""
    psk_ends = options.psk_ends if options.certificates else GATEWAYS
    pki = f"../{GATEWAY_PKI}"
    table: dict[str, Scalar | tuple[str, ...]] = {"psk": "psk"} if psk_ends else {}
    if gateway not in psk_ends:
        table |= {"certificate": f"{pki}/{gateway}.pem", "private_key": f"{pki}/{gateway}.key"}
    if peer(gateway) not in psk_ends:
        table |= {
            "ca": (f"{pki}/ca.pem",),
            "crl": (f"{pki}/ca.crl.pem", f"{pki}/intermediate.crl.pem"),
            "revocation": "require",
        }
    return table
