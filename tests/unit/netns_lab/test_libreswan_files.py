"""libreswan's files as we write them, and what whack and its log tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netns_lab.errors import LabError
from netns_lab.peers import libreswan_files as files
from netns_lab.peers.facts import ChildFacts, PeerSettings, SaFacts

SETTINGS = PeerSettings(
    local="10.0.23.3",
    remote="10.0.12.1",
    local_id="sun.example",
    remote_id="moon.example",
    psk="not a secret",
    ike="aes256gcm16-prfsha512-x25519",
    esp="aes256gcm16-x25519-esn",
)
KEY_ID = "4fa4c6cc-0000-4000-8000-000000000001"

STATUS = """\
"qsgw":   routing: routed-tunnel; owner: Child SA #3; established IKE SA: #1;
#1: "qsgw":500 ESTABLISHED_IKE_SA (established IKE SA); EXPIRE in 28797s; newest; idle;
#3: "qsgw":500 ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #1; idle;
#3: "qsgw" esp.c4fba7f3@10.0.12.1 esp.3b4e7af@10.0.23.3 tun.0@10.0.12.1 tun.0@10.0.23.3 Traffic:
"""
LOG = """\
"qsgw" #1: sent IKE_SA_INIT response to 10.0.12.1:UDP/500 {cipher=AES_GCM_16_256 integ=n/a \
prf=HMAC_SHA2_512 group=DH31}
"qsgw" #1: PPK AUTH calculated as responder
"qsgw" #2: responder established Child SA using #1; IPsec tunnel [10.2.0.0/24===10.1.0.0/24] \
{ESP/ESN=>0xc8db6309 <0x20d7ec51 xfrm=AES_GCM_16_256-NONE DPD=passive}
"qsgw" #3: initiator rekeyed Child SA #2 using #1; IPsec tunnel [10.2.0.0/24===10.1.0.0/24] \
{ESP/ESN=>0xc4fba7f3 <0x03b4e7af xfrm=AES_GCM_16_256-NONE-DH31 DPD=passive}
"""


def test_sas_are_read_in_our_words() -> None:
    child = ChildFacts(
        name="qsgw",
        spi_in="03b4e7af",
        spi_out="c4fba7f3",
        installed=True,
        algorithms="AES_GCM_16-256/X25519/ESN",
    )
    assert files.sas(STATUS, LOG) == (
        SaFacts(
            number="1",
            established=True,
            initiator=False,
            spi_i="",
            spi_r="",
            algorithms="AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/PPK",
            ppk=True,
            children=(child,),
        ),
    )


def test_ppk_is_seen_only_where_the_log_has_it_for_this_sa() -> None:
    other = LOG.replace("#1: PPK AUTH", "#11: PPK AUTH")
    (found,) = files.sas(STATUS, other)
    assert not found.ppk
    assert "PPK" not in found.algorithms


def test_log_that_lacks_an_sa_is_an_error_and_no_sas_are_no_sas() -> None:
    with pytest.raises(LabError, match="does not tell"):
        files.sas(STATUS, "")
    assert files.sas('"qsgw":   routing: unrouted;\n', LOG) == ()


def test_proposals_in_its_words() -> None:
    assert files.ike_proposal("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024") == (
        "aes_gcm256-sha2_384-dh20;addke1=ml_kem_1024"
    )
    assert files.ike_proposal(SETTINGS.ike) == "aes_gcm256-sha2_512-dh31"
    assert files.esp_proposal(SETTINGS.esp) == "aes_gcm256;dh31"
    assert files.esp_proposal("aes256gcm16") == "aes_gcm256"
    with pytest.raises(LabError, match="no additional key exchange"):
        files.esp_proposal("aes256gcm16-x25519-ke1_mlkem768")


def test_ppk_policy_and_esn_stand_as_asked() -> None:
    plain = files.ipsec_conf(SETTINGS)
    assert "ppk=no\n" in plain
    assert "esn=yes\n" in plain
    asked = files.ipsec_conf(replace(SETTINGS, ppk="require", ppk_id=KEY_ID, esp="aes256gcm16"))
    assert "ppk=insist\n" in asked
    assert f"ppk-ids={KEY_ID}\n" in asked
    assert "esn=no\n" in asked


def test_secrets_name_each_ppk_by_its_key_id() -> None:
    text = files.ipsec_secrets(SETTINGS, {KEY_ID: bytes([0xAB] * 32)})
    assert f'PPKS "{KEY_ID}" 0x{"ab" * 32}\n' in text
    assert '@sun.example @moon.example : PSK "not a secret"\n' in text
