"""``[connection.NAME]``: an IKE SA without tunnels."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.load import inspect_config, load_config
from gateway.config.schema import Start
from gateway.config.subnets import read_subnets
from gateway.daemon import build
from gateway.errors import ConfigError
from gateway.ike.config import PpkMode
from gateway.model import QkdPolicy

MARS = {
    "local": "10.0.12.1",
    "remote": "10.0.34.4",
    "local_id": "moon.example",
    "remote_id": "mars.example",
    "psk": "sun.psk",
    "kmes": ["primary"],
    "peer_sae": "mars",
}


def with_connection(folder: Any, **changes: Any) -> Any:
    table = {**MARS, **changes}
    folder.tables["connection"] = {
        "mars": {key: value for key, value in table.items() if value is not None}
    }
    folder.write()
    return folder.file


def errors(folder: Any, **changes: Any) -> list[str]:
    _, problems = inspect_config(with_connection(folder, **changes))
    return [f"{one.table} {one.key}: {one.message}" for one in problems.errors]


def test_it_stands_beside_the_tunnels(folder: Any) -> None:
    config = load_config(with_connection(folder, qkd="require", start="respond")).config
    mars = config.tunnels["mars"]
    assert mars.childless
    assert not config.tunnels["sun"].childless
    assert (mars.qkd, mars.start) == (QkdPolicy.REQUIRE, Start.RESPOND)
    assert mars.local_subnets == mars.remote_subnets == mars.esp == ()
    assert (mars.ike_rekey, mars.rekey_min, mars.rekey_max) == (None, 30.0, 3600.0)
    sun, alone = build.connections(config.tunnels, lambda _name: None)
    assert [child.name for child in sun.children] == ["sun"]
    assert (alone.name, alone.children, alone.ppk) == ("mars", (), PpkMode.REQUIRE)
    (alone,) = build.connections({"mars": mars}, lambda _name: PpkMode.OFF)
    assert alone.ppk is PpkMode.OFF, "as policy has it by now"


def test_it_may_stand_alone(folder: Any) -> None:
    del folder.tables["tunnel"]
    assert list(load_config(with_connection(folder)).config.tunnels) == ["mars"]


def test_nothing_is_blocked_for_it(folder: Any) -> None:
    subnets, problems = read_subnets(with_connection(folder))
    assert [one.tunnel for one in subnets] == ["sun"]
    assert not problems


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"local_subnets": ["10.1.0.0/24"]}, "connection.mars local_subnets: unknown key"),
        ({"esp": ["aes256gcm16-esn"]}, "connection.mars esp: unknown key"),
        ({"shares": "sun"}, "connection.mars shares: unknown key"),
        ({"start": "trap"}, "connection.mars start: "),
        ({"remote": "10.0.23.3"}, "connection.mars remote: 10.0.12.1 to 10.0.23.3 is [tunnel.sun]"),
        ({"remote": None}, "connection.mars remote: this key is missing"),
        ({"peer_sae": ""}, "connection.mars peer_sae: "),
        ({"kmes": ["other"]}, "connection.mars kmes: "),
        ({"ike": ["aes256gcm16-prfsha512-x25519"]}, "connection.mars ike: "),
        ({"rekey_min": "2h"}, "connection.mars rekey_min: "),
        ({"psk": None}, "connection.mars psk: "),
    ],
)
def test_what_is_wrong(folder: Any, changes: dict[str, Any], told: str) -> None:
    (error,) = errors(folder, **changes)
    assert error.startswith(told)


def test_a_name_is_for_one(folder: Any) -> None:
    folder.tables["connection"] = {"sun": {**MARS}}
    folder.write()
    with pytest.raises(ConfigError, match=r"there is a \[tunnel.sun\]"):
        load_config(folder.file)


def test_no_tunnel_shares_it(folder: Any) -> None:
    with_connection(folder)
    folder.tables["tunnel"]["more"] = {
        "shares": "mars",
        "local_subnets": ["10.7.0.0/24"],
        "remote_subnets": ["10.8.0.0/24"],
    }
    folder.write()
    with pytest.raises(ConfigError, match=r"there is no \[tunnel.mars\]"):
        load_config(folder.file)
