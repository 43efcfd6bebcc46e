"""How the two ends of a scenario are configured. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from netns_lab.peers.facts import Child, PeerSettings, PpkUse, Proof
from netns_lab.site_files import (
    NAT_OUTSIDE,
    OUTER,
    Gateway,
    SiteOptions,
    TunnelOptions,
)
from netns_lab.toml import Table

IKE = "aes256gcm16-prfsha512-x25519-ke1_mlkem768"
ESP = "aes256gcm16-x25519-ke1_mlkem768-esn"
SECOND = "second"  # our name for the tunnel of a second Child SA


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """They agree unless told otherwise."""

    ike: str = IKE
    esp: str = ESP
    peer_ike: str | None = None
    peer_esp: str | None = None
    qkd: str = "off"  # our policy
    peer_ppk: PpkUse = "off"
    outer: Literal[4, 6] = 4
    nat: bool = False  # in front of whoever initiates
    certificates: str | None = None  # an algorithm of "qsgw pki", instead of the PSK
    psk_ends: tuple[Gateway, ...] = ()  # with certificates: who shows the PSK all the same
    children: tuple[Child, ...] = (Child(),)  # a second one is a tunnel of its own at our end
    tunnel: Mapping[str, Any] = field(default_factory=dict)  # more of TunnelOptions
    peer: Mapping[str, Any] = field(default_factory=dict)  # more of PeerSettings
    outage: bool = False  # packets for SAs that are gone are part of it

    @property
    def esn(self) -> bool:
        return "esn" in (self.peer_esp or self.esp)

    def proof(self, gateway: Gateway) -> Proof:
        """How this end shows who it is."""
        return "psk" if self.certificates is None or gateway in self.psk_ends else "certificate"


CLASSICAL_ESP = "aes256gcm16-x25519-esn"
CLASSICAL = Setup(
    ike="aes256gcm16-prfsha512-x25519", esp=CLASSICAL_ESP, tunnel={"allow_classical": True}
)
"""For peers without ML-KEM."""


def site_options(setup: Setup, *, we_initiate: bool) -> SiteOptions:
    common = {"rekey_min": "30m", "qkd": setup.qkd, "ike": (setup.ike,), "esp": (setup.esp,)}
    tunnel = TunnelOptions(**common | dict(setup.tunnel))
    return SiteOptions(
        moon=replace(tunnel, beside=_second(setup, tunnel, we_initiate=we_initiate)),
        sun=tunnel,
        initiator="moon" if we_initiate else "sun",
        outer=setup.outer,
        nat=setup.nat,
        certificates=setup.certificates,
        psk_ends=setup.psk_ends,
        key_rate=20.0,
        mqtt=False,
    )


def _second(setup: Setup, first: TunnelOptions, *, we_initiate: bool) -> Mapping[str, Table]:
    """Our tunnel for a second Child SA, if the peer has one."""
    if len(setup.children) < 2:
        return {}
    child = setup.children[1]
    table: Table = {
        "local_subnets": child.remote,
        "remote_subnets": child.local,
        "start": "initiate" if we_initiate else "respond",
        "qkd": first.qkd,
        "rekey_min": first.rekey_min,
        "rekey_max": first.rekey_max,
        "esp": first.esp,
    }
    return {SECOND: table}


def peer_settings(setup: Setup, psk: str, pki: Path, *, we_initiate: bool) -> PeerSettings:
    """The peer's side of ``setup``. ``pki``: where ``certificates`` are."""
    outer = OUTER[setup.outer]
    return PeerSettings(
        local=outer["sun"],
        remote=NAT_OUTSIDE["moon"] if setup.nat and we_initiate else outer["moon"],
        local_id="sun.example",
        remote_id="moon.example",
        psk=psk,
        local_proof=setup.proof("sun"),
        remote_proof=setup.proof("moon"),
        pki=pki if setup.certificates else None,
        ike=setup.peer_ike or setup.ike,
        esp=setup.peer_esp or setup.esp,
        children=setup.children,
        ppk=setup.peer_ppk,
        **setup.peer,
    )
