"""The lab writes configurations that the programs it starts accept, and that say what was meant."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from gateway.config.load import load_config
from gateway.pki import site
from kms_client.certificates import KeyAlgorithm
from netns_lab import metro, site_files
from netns_lab.interop.setup import Setup, site_options
from netns_lab.metro import MacsecOptions
from netns_lab.peers.facts import Child
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions
from netns_lab.toml import toml
from netns_lab.topology import METRO
from qkd_adapters.kme.config import load_kme
from qkd_adapters.link.config import load_link
from qkd_adapters.pki import make_pki, parse_kme_name

VARIANTS = [
    SiteOptions(),
    SiteOptions(twin=True, metrics=True, outer=6),
    SiteOptions(moon=TunnelOptions(qkd="off"), initiator="sun", mqtt=False),
    SiteOptions(certificates="ed25519"),
    SiteOptions(certificates="ed25519", psk_ends=("moon",)),
    site_options(
        Setup(children=(Child(), Child(local=("fd02::/64",), remote=("fd01::/64",)))),
        we_initiate=True,
    ),
    SiteOptions(nat=True, initiator="sun"),
    SiteOptions(macsec=MacsecOptions()),
]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    names = [parse_kme_name(f"{kme.name}:{kme.address}") for kme in site_files.ALL_KMES]
    make_pki(folder / "pki", kmes=names, saes=GATEWAYS, force=False)
    certificates = folder / site_files.GATEWAY_PKI
    algorithm = KeyAlgorithm.ED25519
    site.init(certificates, name="CA", algorithm=algorithm, intermediate=True)
    for gateway in GATEWAYS:
        names_in = (x509.DNSName(f"{gateway}.example"),)
        site.issue(certificates, site.Order(name=gateway, days=365, alternatives=names_in))
    return folder


@pytest.mark.parametrize("options", VARIANTS)
def test_the_gateways_accept_their_files(options: SiteOptions, pki: Path) -> None:
    for gateway in GATEWAYS:
        folder = pki / gateway
        folder.mkdir(exist_ok=True)
        (folder / "psk").write_text("0123456789abcdef0123456789abcdef\n")
        (folder / "psk").chmod(0o600)
        file = folder / "qsgw.toml"
        file.write_text(site_files.gateway_file(options, gateway, pki))
        config = load_config(file).config
        tunnel = config.tunnels[site_files.peer(gateway)]
        shown = (
            options.certificates is not None and site_files.peer(gateway) not in options.psk_ends
        )
        assert (tunnel.trust is not None) == shown
        assert set(config.macsec) == ({metro.NAME} if options.macsec else set())
        assert tunnel.childless == (options.macsec is not None)
        beside = options.tunnel(gateway).beside
        assert all(config.tunnels[name].shares == tunnel.name for name in beside)
        assert tunnel.qkd == options.tunnel(gateway).qkd
        assert tunnel.start == ("initiate" if options.initiator == gateway else "respond")
        assert str(tunnel.local) == site_files.OUTER[options.outer][gateway]
        assert len(config.kmes) == (2 if options.twin else 1)
        assert (config.mqtt is not None) == options.mqtt
        assert (config.metrics is not None) == options.metrics


def test_the_two_ends_mirror_each_other(tmp_path: Path) -> None:
    moon, sun = (
        tomllib.loads(site_files.gateway_file(SiteOptions(), gateway, tmp_path))
        for gateway in GATEWAYS
    )
    at_moon, at_sun = moon["tunnel"]["sun"], sun["tunnel"]["moon"]
    for here, there in (
        ("local", "remote"),
        ("local_id", "remote_id"),
        ("local_subnets", "remote_subnets"),
    ):
        assert at_moon[here] == at_sun[there]
        assert at_moon[there] == at_sun[here]
    assert at_moon["peer_sae"] == sun["gateway"]["sae_id"]


def test_a_macsec_link_takes_the_place_of_the_tunnel(tmp_path: Path) -> None:
    options = SiteOptions(
        macsec=MacsecOptions(both={"suite": "gcm-aes-xpn-256"}, sun={"link": "elsewhere"})
    )
    moon, sun = (
        tomllib.loads(site_files.gateway_file(options, gateway, tmp_path)) for gateway in GATEWAYS
    )
    assert "tunnel" not in moon
    assert not {"esp", "local_subnets", "remote_subnets"} & set(moon["connection"]["sun"])
    table = moon["macsec"]["metro"]
    assert table["interface"] == METRO.link("moon", "sun").interface("moon")
    assert table["addresses"] == ["10.9.3.1/30"]
    assert {table["suite"], sun["macsec"]["metro"]["suite"]} == {"gcm-aes-xpn-256"}
    assert "link" not in table
    assert sun["macsec"]["metro"]["link"] == "elsewhere"


def test_with_a_cak_agreed_by_hand_there_is_neither_ike_nor_qkd(tmp_path: Path) -> None:
    table: dict[str, Any] = {"cak": "cak", "ckn": "6d6f", "allow_classical": True}
    options = SiteOptions(macsec=MacsecOptions(both=table), mqtt=False)
    moon = tomllib.loads(site_files.gateway_file(options, "moon", tmp_path))
    assert set(moon) == {"gateway", "macsec"}
    assert moon["macsec"]["metro"].items() >= table.items()
    assert "connection" not in moon["macsec"]["metro"]


def test_without_its_device_nothing_for_the_other_site_leaves() -> None:
    over = metro.route("sun")
    assert over[2:5] == ["10.2.0.0/24", "via", "10.9.3.2"]
    assert "route replace blackhole 10.2.0.0/24 metric 4096" in metro.blackholes("sun")


def test_ends_that_are_told_to_disagree_do() -> None:
    options = SiteOptions(sun=replace(TunnelOptions(), qkd="require"))
    assert options.tunnel("moon").qkd == "prefer"
    assert options.tunnel("sun").qkd == "require"


@pytest.mark.parametrize("options", VARIANTS)
def test_the_key_side_accepts_its_files(options: SiteOptions, tmp_path: Path) -> None:
    served = {}
    for kme in site_files.kmes(options):
        file = tmp_path / f"{kme.name}.toml"
        file.write_text(site_files.kme_file(options, kme, tmp_path))
        served[kme.name] = load_kme(file)
        assert served[kme.name].pairs == ((kme.gateway, site_files.peer(kme.gateway)),)
    for name in site_files.links(options):
        file = tmp_path / f"{name}.toml"
        file.write_text(site_files.link_file(options, name, tmp_path))
        link = load_link(file)
        assert link.rate == options.key_rate
        for kme_id, address in link.sides:
            assert served[kme_id].link == address
            assert served[served[kme_id].peer_kme].kme_id in dict(link.sides)


def test_toml_text_survives_quotes_and_backslashes() -> None:
    tables = {"a.b": {"text": 'say "\\"', "list": ("x", "y"), "yes": True, "n": 1.5}}
    assert tomllib.loads(toml(tables)) == {
        "a": {"b": {"text": 'say "\\"', "list": ["x", "y"], "yes": True, "n": 1.5}}
    }
