"""Tunnels that share another one's IKE SA: what they have from it, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from gateway.config.load import load_config
from gateway.config.shares import INHERITED_KEYS, OWN_KEYS, PEER_KEYS
from gateway.config.subnets import read_subnets
from gateway.config.tables import TunnelTable
from gateway.model import QkdPolicy

SCADA = {
    "shares": "sun",
    "local_subnets": ["10.1.1.0/24"],
    "remote_subnets": ["10.2.1.0/24"],
}


def with_tunnel(folder: Any, name: str, **entry: Any) -> Any:
    folder.tables["tunnel"][name] = {
        key: value for key, value in entry.items() if value is not None
    }
    return folder.write()


def test_every_key_of_a_tunnel_is_either_its_own_or_the_peers() -> None:
    assert set(TunnelTable.__struct_fields__) == OWN_KEYS | PEER_KEYS
    assert not OWN_KEYS & PEER_KEYS
    assert INHERITED_KEYS <= OWN_KEYS


def test_what_is_the_peers_is_the_other_tunnels(folder: Any) -> None:
    file = with_tunnel(folder, "scada", **SCADA, qkd="require", rekey_max="5m")
    tunnels = load_config(file).config.tunnels
    sun, scada = tunnels["sun"], tunnels["scada"]
    shared = {*PEER_KEYS, *INHERITED_KEYS, "local_auth", "remote_auth", "trust"}
    for key in shared & {field.name for field in fields(sun)}:
        assert getattr(scada, key) == getattr(sun, key), key
    assert (sun.connection, scada.connection) == ("sun", "sun")
    assert (scada.qkd, scada.rekey_max) == (QkdPolicy.REQUIRE, 300)
    assert (sun.qkd, sun.rekey_max) == (QkdPolicy.PREFER, 3600)


def test_the_order_of_the_tables_does_not_matter(folder: Any) -> None:
    sun = folder.tables["tunnel"].pop("sun")
    folder.tables["tunnel"] = {"scada": SCADA, "sun": sun}
    assert set(load_config(folder.write()).config.tunnels) == {"scada", "sun"}


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        ({"shares": "son"}, "shares", 'there is no [tunnel.son]; did you mean "sun"?'),
        ({"shares": "scada"}, "shares", "names this tunnel itself"),
        ({"shares": 7}, "shares", "the name of another tunnel in quotes"),
        ({"shares": "voice"}, "shares", "[tunnel.voice] has no IKE SA of its own: write shares"),
        ({"psk": "sun.psk"}, "psk", "is that of [tunnel.sun]"),
        ({"remote": "10.0.23.3"}, "remote", "is that of [tunnel.sun]"),
        ({"ike": ["aes256gcm16-prfsha512-x25519-ke1_mlkem768"]}, "ike", "remove it"),
        ({"local_subnets": None}, "local_subnets", "this key is missing"),
        ({"rekey_max": "soon"}, "rekey_max", "soon"),
        ({"peer_sae": "other"}, "peer_sae", "differs from that of [tunnel.sun]"),
        (
            {"local_subnets": ["10.1.0.0/24"], "remote_subnets": ["10.2.0.0/24"]},
            "remote_subnets",
            "traffic can take only one tunnel",
        ),
    ],
)
def test_what_is_refused(
    folder: Any, problems_of: Any, changes: dict[str, Any], key: str, expected: str
) -> None:
    if changes.get("shares") == "voice":
        other = {**SCADA, "local_subnets": ["10.1.2.0/24"], "remote_subnets": ["10.2.2.0/24"]}
        with_tunnel(folder, "voice", **other)
    problems = problems_of(with_tunnel(folder, "scada", **{**SCADA, **changes}))
    (problem,) = [one for one in problems if one.startswith("[tunnel.scada]")]
    assert problem.startswith(f"[tunnel.scada] {key}")
    assert expected in problem


def test_a_fault_of_the_peer_is_told_once(folder: Any, problems_of: Any) -> None:
    with_tunnel(folder, "scada", **SCADA)
    (problem,) = problems_of(folder.set("tunnel.sun", psk="nowhere.psk"))
    assert problem.startswith("[tunnel.sun] psk")


def test_the_same_addresses_without_shares_are_told_of_it(folder: Any, problems_of: Any) -> None:
    entry = {**folder.tables["tunnel"]["sun"], **SCADA, "shares": None}
    (problem,) = problems_of(with_tunnel(folder, "scada", **entry))
    assert 'write shares = "sun"' in problem


def test_keys_may_be_given_where_the_other_tunnel_has_none(folder: Any) -> None:
    folder.set("tunnel.sun", qkd="off", kmes=None, peer_sae=None)
    file = with_tunnel(folder, "scada", **SCADA, kmes=["primary"], peer_sae="sun")
    assert load_config(file).config.tunnels["scada"].kmes == ("primary",)


def test_the_block_policies_at_boot_know_the_addresses_of_a_shared_peer(folder: Any) -> None:
    file = with_tunnel(folder, "direct", shares="sun", mode="transport")
    found, problems = read_subnets(file)
    assert problems == ()
    (direct,) = [one for one in found if one.tunnel == "direct"]
    assert str(direct.local[0]) == "10.0.12.1/32"
    assert str(direct.remote[0]) == "10.0.23.3/32"
