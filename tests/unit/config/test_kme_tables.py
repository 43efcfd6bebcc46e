"""[kme.*]: protocol, profile, names of peers, credentials."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.load import load_config
from gateway.daemon.build import pool_settings
from gateway.daemon.kmes import connect, retention
from kms_client.etsi014 import KmeClient
from kms_client.skip import SkipClient
from kms_client.tls_psk import PskFile

PSK = {
    "protocol": "skip",
    "psk": "kp.psk",
    "psk_identity": "moon",
    "ca": None,
    "certificate": None,
    "key": None,
}


async def test_profile_and_peers(folder: Any) -> None:
    file = folder.set("kme.primary", profile="qkd-kme-server", peers={"sun": "3"})
    kme = load_config(file).config.kmes["primary"]
    assert (kme.profile, kme.peers) == ("qkd-kme-server", (("sun", "3"),))
    client = connect(kme)
    assert isinstance(client, KmeClient)
    await client.close()


async def test_skip_with_certificates(folder: Any) -> None:
    kme = load_config(folder.set("kme.primary", protocol="skip")).config.kmes["primary"]
    client = connect(kme)
    assert isinstance(client, SkipClient)
    await client.close()


async def test_skip_with_a_psk(folder: Any) -> None:
    kme = load_config(folder.set("kme.primary", **PSK)).config.kmes["primary"]
    assert kme.credentials == PskFile(identity="moon", key=folder.path / "kp.psk")
    await connect(kme).close()


@pytest.mark.parametrize(
    ("values", "key", "words"),
    [
        ({"profile": "qkd-kme-sever"}, "profile", 'did you mean "qkd-kme-server"?'),
        ({"protocol": "skip", "profile": "lenient"}, "profile", "profiles are of ETSI 014"),
        ({"ca": None}, "ca", "this key is missing"),
        ({"peers": {"sun": "a/b"}}, "peers", "stands in a URL path"),
        ({"retention": "0"}, "retention", "this cannot be zero"),
        (PSK | {"protocol": "etsi014"}, "psk", 'only protocol = "skip"'),
        (PSK | {"psk_identity": None}, "psk_identity", "this key is missing"),
        (PSK | {"ca": "pki/ca.pem"}, "ca", "leave one of them out"),
    ],
)
def test_what_does_not_go_together(
    folder: Any, problems_of: Any, values: dict[str, Any], key: str, words: str
) -> None:
    (problem,) = problems_of(folder.set("kme.primary", **values))
    assert problem.startswith(f"[kme.primary] {key}: ")
    assert words in problem


def test_a_kme_that_drops_keys_fetched_ahead_is_warned_of(folder: Any) -> None:
    (warning,) = load_config(folder.set("kme.primary", profile="next-door-key")).warnings
    assert (warning.table, warning.key) == ("kme.primary", "profile")
    assert "keys fetched ahead are lost" in warning.message


def test_a_short_retention_ages_the_pool(folder: Any) -> None:
    config = load_config(folder.set("kme.primary", retention="75s")).config
    tunnel = config.tunnels["sun"]
    seconds = retention(config.kmes["primary"])
    assert pool_settings(tunnel, retention=seconds).max_age == pytest.approx(60.0)
    assert pool_settings(tunnel, retention=None).max_age == 900.0
    assert pool_settings(tunnel, retention=86400.0).max_age == 900.0
