"""The configuration of moon or sun, as the file would give it, for gateways in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

from gateway.config.schema import (
    GatewayConfig,
    GatewaySettings,
    KmeConfig,
    MacsecConfig,
    OnStop,
    Start,
    TunnelConfig,
)
from gateway.crypto.secret import Secret
from gateway.ike.credentials import SharedKey
from gateway.mka.registry import CipherSuite
from gateway.model import EspMode, PortSecurity, QkdPolicy
from kms_client.tls import TlsFiles

PSK = SharedKey(key=Secret(b"a pre-shared key of good length"))
MOON, SUN = ip_address("10.0.12.1"), ip_address("10.0.23.3")


def site_config(
    name: str,
    *,
    more: Mapping[str, Mapping[str, object]] | None = None,
    macsec: Mapping[str, Mapping[str, object]] | None = None,
    **changes: object,
) -> GatewayConfig:
    """The configuration of one side; ``changes`` go into its tunnel.

    ``more``: tunnels that share its IKE SA, each with what it differs in. ``macsec``: links.
    """
    moon = name == "moon"
    peer = "sun" if moon else "moon"
    networks = (ip_network("10.1.0.0/24"),), (ip_network("10.2.0.0/24"),)
    settings: dict[str, object] = {
        "name": peer,
        "shares": None,
        "local": MOON if moon else SUN,
        "remote": SUN if moon else MOON,
        "local_id": f"{name}.example",
        "remote_id": f"{peer}.example",
        "local_auth": PSK,
        "remote_auth": PSK,
        "own_certificate": None,
        "trust": None,
        "mode": EspMode.TUNNEL,
        "local_subnets": networks[0 if moon else 1],
        "remote_subnets": networks[1 if moon else 0],
        "start": Start.INITIATE if moon else Start.RESPOND,
        "dpd_action": None,
        "close_action": None,
        "idle_timeout": None,
        "qkd": QkdPolicy.PREFER,
        "kmes": ("primary",),
        "peer_sae": peer,
        "pool_target": 4,
        "restore_dwell": 20.0,
        "degraded_max": None,
        "rekey_min": 30.0,
        "rekey_max": 60.0,
        "ike_rekey": None,
        "rekey_bytes": None,
        "rekey_packets": None,
        "key_reserve": 1,
        "ike": ("aes256gcm16-prfsha512-x25519-ke1_mlkem768",),
        "esp": ("aes256gcm16-x25519-ke1_mlkem768-esn",),
        "allow_classical": False,
        "liveness": 30.0,
        "retransmit_base": None,
        "fragment_size": 1280,
        "port": 500,
        "force_encap": False,
    }
    return GatewayConfig(
        file=Path("/nonexistent/qsgw.toml"),
        gateway=GatewaySettings(
            name=name,
            listen=(MOON if moon else SUN,),
            sae_id=name,
            control_socket=Path("/nonexistent/control.sock"),
            control_group=None,
            on_stop=OnStop.KEEP,
        ),
        mqtt=None,
        metrics=None,
        kmes={kme: _kme(kme) for kme in ("primary", "secondary")},
        tunnels=_tunnels(peer, moon, {**settings, **changes}, more or {}),
        macsec={link: _macsec(link, peer, given) for link, given in (macsec or {}).items()},
    )


def _macsec(link: str, connection: str, changes: Mapping[str, object]) -> MacsecConfig:
    settings: dict[str, object] = {
        "name": link,
        "interface": "eth1",
        "device": f"macsec-{link}",
        "addresses": (),
        "mtu": None,
        "connection": connection,
        "link": link,
        "cak_size": 32,
        "static": None,
        "priority": 16,
        "suite": CipherSuite.GCM_AES_256,
        "accept": frozenset({CipherSuite.GCM_AES_256}),
        "encrypt": True,
        "security": PortSecurity.MUST_SECURE,
        "delay_protect": False,
        "replay_window": 64,
        "sak_lifetime": None,
    }
    return MacsecConfig(**{**settings, **changes})  # type: ignore[arg-type]


def _tunnels(
    peer: str,
    moon: bool,
    settings: Mapping[str, object],
    more: Mapping[str, Mapping[str, object]],
) -> dict[str, TunnelConfig]:
    made = {peer: TunnelConfig(**settings)}  # type: ignore[arg-type]
    for number, (name, changes) in enumerate(more.items(), 1):
        sides = (ip_network(f"10.1.{number}.0/24"),), (ip_network(f"10.2.{number}.0/24"),)
        own = {
            "name": name,
            "shares": peer,
            "local_subnets": sides[0 if moon else 1],
            "remote_subnets": sides[1 if moon else 0],
        }
        made[name] = replace(made[peer], **{**own, **changes})  # type: ignore[arg-type]
    return made


def _kme(name: str) -> KmeConfig:
    return KmeConfig(
        name=name,
        url=f"https://{name}.test",
        credentials=TlsFiles(
            ca=Path("/nonexistent/ca.pem"),
            certificate=Path("/nonexistent/cert.pem"),
            key=Path("/nonexistent/key.pem"),
        ),
        timeout=3.0,
    )
