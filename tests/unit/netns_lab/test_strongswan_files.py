"""strongSwan's files as we write them, and its list of SAs as we read it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netns_lab.errors import LabError
from netns_lab.peers import strongswan_files as files
from netns_lab.peers import vici
from netns_lab.peers.facts import Child, ChildFacts, PeerSettings, SaFacts

SETTINGS = PeerSettings(
    local="10.0.23.3",
    remote="10.0.12.1",
    local_id="sun.example",
    remote_id="moon.example",
    psk="not a secret",
    ike="aes256gcm16-prfsha512-x25519-ke1_mlkem768",
    esp="aes256gcm16-x25519-ke1_mlkem768-esn",
)
KEY_ID = "4fa4c6cc-0000-4000-8000-000000000001"

LIST_SAS = """\
list-sa event {
  qsgw {
    uniqueid = 3
    version = 2
    state = ESTABLISHED
    local-host = 10.0.23.3
    local-port = 500
    local-id = C=XX, O=qsgw = lab, CN=sun.example
    remote-id = moon.example
    initiator-spi = c1fe3e0d8ea8c0ec
    responder-spi = 6dc6a8ac1f1b7b2b
    encr-alg = AES_GCM_16
    encr-keysize = 256
    prf-alg = PRF_HMAC_SHA2_512
    dh-group = CURVE_25519
    ake1 = ML_KEM_768
    ppk = yes
    established = 4
    child-sas {
      net-1 {
        name = net
        uniqueid = 1
        state = INSTALLED
        mode = TUNNEL
        protocol = ESP
        spi-in = c7e8b52f
        spi-out = c3cc717f
        encr-alg = AES_GCM_16
        encr-keysize = 256
        esn = 1
        local-ts = [
          10.2.0.0/24
        ]
        remote-ts = [
          10.1.0.0/24
        ]
      }
    }
  }
}
list-sas reply {
}
"""


def test_sas_are_read_in_our_words() -> None:
    child = ChildFacts(
        name="net",
        spi_in="c7e8b52f",
        spi_out="c3cc717f",
        installed=True,
        algorithms="AES_GCM_16-256/ESN",
    )
    assert files.sas(LIST_SAS) == (
        SaFacts(
            number="3",
            established=True,
            initiator=False,
            spi_i="c1fe3e0d8ea8c0ec",
            spi_r="6dc6a8ac1f1b7b2b",
            algorithms="AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768/PPK",
            ppk=True,
            children=(child,),
        ),
    )


def test_no_sas_is_no_sas() -> None:
    assert files.sas("list-sas reply {\n}\n") == ()


def test_message_that_does_not_end_is_an_error() -> None:
    with pytest.raises(LabError, match="does not end"):
        vici.messages("list-sa event {\n  qsgw {\n")
    with pytest.raises(LabError, match="begins no message"):
        vici.messages("connecting failed\n")


def test_value_with_an_equals_sign_and_list_are_kept_whole() -> None:
    ((_, message), _) = vici.messages(LIST_SAS)
    assert message["qsgw"]["local-id"] == "C=XX, O=qsgw = lab, CN=sun.example"
    assert message["qsgw"]["child-sas"]["net-1"]["local-ts"] == ["10.2.0.0/24"]


def test_ppk_is_asked_for_only_where_it_is_wanted() -> None:
    assert "ppk" not in files.connections_file(SETTINGS)
    asked = files.connections_file(replace(SETTINGS, ppk="require", ppk_id=KEY_ID))
    assert "ppk_required = yes" in asked
    assert f"ppk_id = {KEY_ID}" in asked
    assert "ppk_required = no" in files.connections_file(replace(SETTINGS, ppk="prefer"))


def test_ppk_stands_under_its_key_id_as_octets() -> None:
    text = files.ppk_file(KEY_ID, bytes([0xAB] * 32))
    assert f"ppk-{KEY_ID} {{" in text
    assert f"id = {KEY_ID}" in text
    assert f"secret = 0x{'ab' * 32}" in text


def test_every_child_has_a_section_and_braces_match() -> None:
    children = (Child(), Child(name="second", local=("10.2.9.0/24",)))
    text = files.connections_file(replace(SETTINGS, children=children))
    assert text.count("local_ts = ") == 2
    assert "second {" in text
    assert text.count("{") == text.count("}")


def test_cookies_are_demanded_only_on_request() -> None:
    assert "cookie" not in files.daemon_file(SETTINGS)
    assert "cookie_threshold = 1" in files.daemon_file(replace(SETTINGS, cookies=True))


def test_each_end_is_authenticated_as_it_is_told() -> None:
    both = files.connections_file(SETTINGS)
    assert both.count("auth = psk") == 2
    assert "pubkey" not in both
    mixed = files.connections_file(replace(SETTINGS, local_proof="certificate"))
    assert f"certs = {files.CERTIFICATE}" in mixed
    assert mixed.count("auth = psk") == 1
    assert "revocation" not in mixed
    strict = files.connections_file(replace(SETTINGS, remote_proof="certificate"))
    assert "revocation = strict" in strict
    assert "certs = " not in strict


def test_limits_leave_time_for_a_rekey_and_none_is_none() -> None:
    text = files.connections_file(replace(SETTINGS, rekey_child=3.0, rekey_packets=150))
    assert "rekey_time = 3s" in text
    assert "life_time = 63s" in text
    assert "life_packets = 3000" in text
    assert "life_time = 0s" in files.connections_file(SETTINGS)
    assert "life_packets = 0\n" in files.connections_file(SETTINGS)
