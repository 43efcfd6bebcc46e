"""What must hold between keys and between tables."""

from typing import Any

import msgspec
import pytest

from gateway.config.load import load_config
from gateway.config.tables import GatewayTable, KmeTable, TunnelTable
from gateway.errors import ConfigProblem

OTHER = {
    "remote": "10.0.99.9",
    "remote_id": "venus.example",
    "remote_subnets": ["10.9.9.0/24"],
    "peer_sae": "venus",
}


def warnings_of(file: Any) -> tuple[ConfigProblem, ...]:
    return load_config(file).warnings


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        ({"local": "10.0.12.9"}, "local", "is not in [gateway] listen (10.0.12.1, 2001:db8::1)"),
        ({"remote": "2001:db8::3"}, "remote", "both ends of a tunnel are of one version"),
        ({"remote": "10.0.12.1"}, "remote", "is our own address"),
        ({"remote_id": "MOON.example"}, "remote_id", "is also local_id"),
        ({"local_id": "a..b"}, "local_id", "is not a host name"),
        ({"kmes": ["primry"]}, "kmes", 'there is no [kme.primry]; did you mean "primary"?'),
        ({"kmes": ["primary", "primary"]}, "kmes", "names a KME twice"),
        ({"kmes": []}, "kmes", 'qkd = "prefer" needs at least one KME'),
        ({"kmes": [], "qkd": "require"}, "kmes", 'qkd = "require" needs at least one KME'),
        ({"peer_sae": None}, "peer_sae", "needs the SAE_ID of the peer"),
        ({"peer_sae": "moon"}, "peer_sae", "is our own [gateway] sae_id"),
        ({"key_reserve": 4}, "key_reserve", "leaves none to use"),
        ({"local_subnets": None}, "local_subnets", "this key is missing"),
        ({"mode": "transport"}, "local_subnets", "leave it out, or 10.0.12.1"),
        ({"idle_timeout": "5m"}, "idle_timeout", 'write start = "trap"'),
        ({"start": "on-demand"}, "start", "on-demand"),
        ({"rekey_bytes": "1 kB"}, "rekey_bytes", "below 1 MiB it would rekey without end"),
        ({"rekey_packets": "10"}, "rekey_packets", "below 1000 it would rekey without end"),
        ({"fragment_size": 575}, "fragment_size", "is not between 576 octets"),
        ({"fragment_size": 1501}, "fragment_size", "every IPv4 path takes, and 1500"),
        (
            {"local": "2001:db8::1", "remote": "2001:db8::3", "fragment_size": 1279},
            "fragment_size",
            "is not between 1280 octets, which every IPv6 path takes",
        ),
        ({"rekey_min": "2h"}, "rekey_min", "7200 s is more than rekey_max = 3600 s"),
        ({"remote_subnets": ["10.1.0.0/24"]}, "remote_subnets", "is on both sides"),
        (
            {"remote_subnets": ["10.2.0.0/24", "10.2.0.0/25"]},
            "remote_subnets",
            "10.2.0.0/25 overlaps 10.2.0.0/24",
        ),
        ({"remote_subnets": ["2001:db8:2::/64"]}, "remote_subnets", "share no IP version"),
        ({"ike": ["aes256gcm16-x25519-ke1_mlkem768"]}, "ike", "no PRF"),
        ({"ike": ["rot13-x25519"]}, "ike", "'rot13' is not known"),
        ({"esp": ["aes256gcm16-prfsha512-x25519-ke1_mlkem768"]}, "esp", "has no PRF"),
        ({"ike": ["aes256gcm16-prfsha512-x25519"]}, "ike", "no ML-KEM that is always used"),
        (
            {"ike": ["aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke1_none"]},
            "ike",
            "no ML-KEM that is always used",
        ),
        ({"esp": ["aes256gcm16-esn"]}, "esp", "rekeys bring no fresh ML-KEM secret"),
        ({"ike": ["aes256gcm16-prfsha512-mlkem768"]}, "ike", "beside an elliptic curve"),
        (
            {"ike": ["aes256gcm16-prfsha512-x25519-ke1_mlkem768"] * 2},
            "ike",
            "names a proposal twice",
        ),
    ],
)
def test_within_a_tunnel(
    folder: Any, problems_of: Any, changes: dict[str, Any], key: str, expected: str
) -> None:
    (problem,) = problems_of(folder.set("tunnel.sun", **changes))
    assert problem.startswith(f"[tunnel.sun] {key}: ")
    assert expected in problem


def test_without_qkd_no_kme_is_needed(folder: Any, problems_of: Any) -> None:
    assert problems_of(folder.set("tunnel.sun", qkd="off", kmes=[], peer_sae=None)) == []


def test_both_ip_versions_in_one_tunnel(folder: Any, problems_of: Any) -> None:
    file = folder.set(
        "tunnel.sun",
        local_subnets=["10.1.0.0/24", "2001:db8:1::/64"],
        remote_subnets=["10.2.0.0/24", "2001:db8:2::/64"],
    )
    assert problems_of(file) == []


def test_classical_only_where_it_is_written(folder: Any) -> None:
    file = folder.set(
        "tunnel.sun",
        ike=["aes256gcm16-prfsha512-x25519"],
        esp=["aes256gcm16"],
        allow_classical=True,
    )
    found = warnings_of(file)
    assert [warning.key for warning in found] == ["ike", "esp"]
    assert all(warning.message.endswith("(allow_classical)") for warning in found)


def test_a_kem_that_is_not_there(
    folder: Any, problems_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.crypto.kem_oqs.problem", lambda method: "there is no liboqs.so")
    proposal = "aes256gcm16-prfsha512-x25519-ke1_frodokem976shake"
    (problem,) = problems_of(folder.set("tunnel.sun", ike=[proposal]))
    assert "FRODOKEM_976_SHAKE is not available here: there is no liboqs.so" in problem


# --- between tunnels -------------------------------------------------------------------------


def test_two_tunnels(folder: Any, problems_of: Any) -> None:
    assert problems_of(folder.set("tunnel.venus", **OTHER)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"remote_subnets": ["10.2.0.0/24"]}, "traffic can take only one tunnel"),
        (
            {"local_subnets": ["10.1.0.0/16"], "remote_subnets": ["10.2.0.128/25"]},
            "traffic can take only one tunnel",  # neither pair lies inside the other
        ),
        ({"remote": "10.0.23.3"}, "10.0.12.1 to 10.0.23.3 is [tunnel.sun] already"),
    ],
)
def test_two_tunnels_that_collide(
    folder: Any, problems_of: Any, changes: dict[str, Any], expected: str
) -> None:
    (problem,) = problems_of(folder.set("tunnel.venus", **{**OTHER, **changes}))
    assert problem.startswith("[tunnel.venus] remote")
    assert expected in problem


def test_a_narrower_tunnel_beside_a_wide_one_is_worth_a_warning(folder: Any) -> None:
    (warning,) = warnings_of(
        folder.set("tunnel.venus", **{**OTHER, "remote_subnets": ["10.2.0.0/16"]})
    )
    assert "the narrower one wins" in warning.message


def test_reqid_collision(folder: Any, problems_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dataplane.reconcile.reqid_for", lambda name: 7)
    (problem,) = problems_of(folder.set("tunnel.venus", **OTHER))
    assert "its kernel reqid collides with [tunnel.sun]: rename one" in problem


# --- worth a warning -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"qkd": "require", "degraded_max": "1h"}, "degraded_max"),
        ({"remote_subnets": ["10.9.0.0/16"]}, "remote_subnets"),  # the KME's network
        (
            {"local_subnets": ["10.0.12.0/24"], "remote_subnets": ["10.0.23.0/24"]},
            "remote_subnets",
        ),
        ({"liveness": "0"}, "liveness"),
    ],
)
def test_warnings(folder: Any, changes: dict[str, Any], key: str) -> None:
    (warning,) = warnings_of(folder.set("tunnel.sun", **changes))
    assert (warning.table, warning.key) == ("tunnel.sun", key)


def own_traffic(folder: Any, **changes: Any) -> list[str]:
    found = warnings_of(folder.set("tunnel.sun", **changes))
    return [warning.message for warning in found if warning.key == "remote_subnets"]


IPV6 = {"local": "2001:db8::1", "remote": "2001:db8::3"}


def test_policies_over_the_ends_of_an_ipv6_tunnel_stop_neighbour_discovery(folder: Any) -> None:
    """With both outer addresses inside, ends on one link cannot find each other."""
    inside = {"local_subnets": ["2001:db8::/127"], "remote_subnets": ["2001:db8::2/127"]}
    (message,) = own_traffic(folder, **IPV6, **inside)
    assert message.endswith("lie inside the tunnel; on one link they cannot find each other then")
    outside = {"local_subnets": ["2001:db8:1::/64"], "remote_subnets": ["2001:db8:2::/64"]}
    assert own_traffic(folder, **IPV6, **outside) == []


@pytest.mark.parametrize(
    ("local", "remote", "end"),
    [
        ("10.1.0.0/24", "0.0.0.0/0", "taken for the tunnel's and lost"),
        ("2001:db8:1::/64", "::/0", "lost, neighbour discovery included"),
    ],
)
def test_remote_networks_that_hold_the_local_ones(
    folder: Any, local: str, remote: str, end: str
) -> None:
    found = own_traffic(folder, local_subnets=[local], remote_subnets=[remote])
    assert [message for message in found if message.endswith(end)] == [found[0]]
    assert found[0].startswith(f"{remote} overlaps {local} of local_subnets")


def test_a_kme_nobody_uses(folder: Any) -> None:
    (warning,) = warnings_of(folder.set("kme.spare"))
    assert (warning.table, warning.message) == ("kme.spare", "no tunnel names this KME in its kmes")


def test_no_tunnel(folder: Any) -> None:
    assert "nothing to do" in str(warnings_of(folder.remove("tunnel"))[0])


def test_errors_in_one_key_hide_none_in_another(folder: Any, problems_of: Any) -> None:
    """One round shows all: what could not be read costs only the checks that need it."""
    folder.set("gateway", listen=["10.0.12.1", "10.0.12.x"])
    folder.set(
        "tunnel.sun",
        degraded_max="x",
        remote_id=None,
        local_subnets=["10.1.0.0/24"],
        remote_subnets=["10.1.0.0/24"],
        peer_sae="moon",
        kmes=["primry"],
        rekey_min="2h",
        ike=["aes256gcm16-foo"],
        key_reserve=9,
    )
    keys = {
        "[gateway] listen",
        *(
            f"[tunnel.sun] {key}"
            for key in (
                *("degraded_max", "remote_id", "remote_subnets", "peer_sae", "kmes", "rekey_min"),
                *("ike", "key_reserve"),
            )
        ),
    }
    assert {problem.split(":")[0] for problem in problems_of(folder.file)} == keys


@pytest.mark.parametrize("table", ["gateway", "tunnel.sun", "kme.primary"])
def test_one_value_of_the_wrong_kind_is_one_error(
    folder: Any, problems_of: Any, table: str
) -> None:
    kind = {"gateway": GatewayTable, "tunnel.sun": TunnelTable, "kme.primary": KmeTable}[table]
    values = folder.tables
    for name in table.split("."):
        values = values[name]
    keys = {field.name for field in msgspec.structs.fields(kind)}
    for key in sorted(keys - {"shares"}):  # that one says which other keys are due
        before = values.get(key)
        found = problems_of(folder.set(table, **{key: 1.5}))
        assert [text.split(":")[0] for text in found] == [f"[{table}] {key}"]
        folder.set(table, **{key: before})
    assert problems_of(folder.file) == []
