"""The key log is for the lab: right formats, private files, refused under systemd."""

from __future__ import annotations

import stat
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.crypto.algorithms import EncryptionId
from gateway.crypto.secret import Secret
from gateway.daemon.keylog import KeyLog
from gateway.errors import StartupError
from gateway.ike.commands import RecordIkeKeys
from gateway.mka.commands import ReceiveSa, SaKey, TransmitSa
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.model import Direction, SaSpec

SA = SaSpec(
    tunnel="sun",
    direction=Direction.OUTBOUND,
    spi=0xC0000001,
    source=ip_address("10.0.12.1"),
    destination=ip_address("10.0.23.3"),
    reqid=1,
    key=Secret(bytes(range(36))),
)


SK_EI, SK_ER = bytes(range(36)), bytes(range(100, 136))


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)


def ike_keys(generation: int = 0, *, size: int = 36, **changes: object) -> RecordIkeKeys:
    made = {
        "tunnel": "sun",
        "spi_i": bytes.fromhex("a435a7f38b3305da"),
        "spi_r": bytes.fromhex("708d2feef0e55179"),
        "generation": generation,
        "encryption": EncryptionId.AES_GCM_16,
        "sk_ei": Secret(SK_EI[:size]),
        "sk_er": Secret(SK_ER[:size]),
    }
    return RecordIkeKeys(**{**made, **changes})


def test_an_esp_sa_is_a_row_of_wiresharks_esp_sa_table(tmp_path: Path) -> None:
    log = KeyLog(tmp_path / "log")
    log.write_sa(SA)
    log.close()
    assert (tmp_path / "log" / "esp_sa").read_text() == (
        '"IPv4","10.0.12.1","10.0.23.3","0xc0000001","AES-GCM with 16 octet ICV [RFC4106]",'
        f'"0x{SK_EI.hex()}","NULL",""\n'
    )


@pytest.mark.parametrize(("size", "bits"), [(36, 256), (20, 128)])
def test_ike_keys_are_a_row_of_wiresharks_ikev2_table(tmp_path: Path, size: int, bits: int) -> None:
    log = KeyLog(tmp_path / "log")
    log.write_ike(ike_keys(size=size))
    log.close()
    row = (
        f"a435a7f38b3305da,708d2feef0e55179,{SK_EI[:size].hex()},{SK_ER[:size].hex()},"
        f'"AES-GCM-{bits} with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"\n'
    )
    for folder in ("log", "log/generation-0"):
        assert (tmp_path / folder / "ikev2_decryption_table").read_text() == row


def test_the_last_generation_is_the_last_row_and_each_has_a_table_of_its_own(
    tmp_path: Path,
) -> None:
    log = KeyLog(tmp_path / "log")
    for generation in range(3):
        log.write_ike(ike_keys(generation, sk_ei=Secret(bytes((generation,)) * 36)))
    log.close()
    rows = (tmp_path / "log" / "ikev2_decryption_table").read_text().splitlines()
    for generation, row in enumerate(rows):
        alone = tmp_path / "log" / f"generation-{generation}" / "ikev2_decryption_table"
        assert alone.read_text() == row + "\n"
        assert f"{generation:02x}" * 36 in row


def test_what_wireshark_cannot_open_is_left_out_and_wiped_all_the_same(tmp_path: Path) -> None:
    log = KeyLog(tmp_path / "log")
    keys = ike_keys(encryption=EncryptionId.CHACHA20_POLY1305)
    log.write_ike(keys)
    log.close()
    assert (tmp_path / "log" / "ikev2_decryption_table").read_text() == ""
    assert keys.sk_ei.wiped
    assert keys.sk_er.wiped


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    log = KeyLog(tmp_path / "log")
    log.write_ike(ike_keys())
    log.close()
    for path in (tmp_path / "log", *(tmp_path / "log").rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_restart_adds_to_it(tmp_path: Path) -> None:
    for _ in range(2):
        log = KeyLog(tmp_path / "log")
        log.write_sa(SA)
        log.close()
    assert len((tmp_path / "log" / "esp_sa").read_text().splitlines()) == 2
    assert len((tmp_path / "log" / "preferences").read_text().splitlines()) == 1


def test_refused_under_systemd(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    with pytest.raises(StartupError, match="systemd"):
        KeyLog(tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file or directory"):
        KeyLog(tmp_path / "missing" / "log")


@pytest.mark.parametrize("suite", [CipherSuite.GCM_AES_256, CipherSuite.GCM_AES_XPN_256])
def test_a_sak_is_a_row_for_each_of_its_channels(suite: CipherSuite, tmp_path: Path) -> None:
    ours, peers = (Sci(bytes.fromhex(f"02000000000{end}")) for end in (1, 2))
    salt = bytes(range(12)) if suite.xpn else None
    sak = SaKey(
        an=3,
        ki=KeyIdentifier(MemberId(bytes(range(12))), 7),
        key=Secret(bytes(range(32))),
        suite=suite,
        confidentiality=Confidentiality.OFFSET_0,
        salt=salt,
    )
    log = KeyLog(tmp_path / "log")
    numbers = (1, 2) if suite.xpn else (None, None)
    log.write_sak(
        sak,
        (
            TransmitSa(sci=ours, ssci=numbers[0]),
            ReceiveSa(sci=peers, lowest_pn=1, ssci=numbers[1]),
        ),
    )
    log.write_cak("core", bytes.fromhex("6d6f"), Secret(bytes(16)))
    log.close()
    table = tmp_path / "log" / "macsec_sak"
    ki = bytes(range(12)).hex() + "00000007"
    tail = f"{suite.name},{bytes(range(32)).hex()},{salt.hex() if salt else ''}"
    ssci = [str(number or "") for number in numbers]
    assert table.read_text().splitlines() == [
        f"{ki},3,{ours.encode().hex()},{ssci[0]},{tail}",
        f"{ki},3,{peers.encode().hex()},{ssci[1]},{tail}",
    ]
    ckns = tmp_path / "log" / "mka_ckn_info"
    assert ckns.read_text() == f'6d6f,"core",{"00" * 16}\n'
    assert {stat.S_IMODE(file.stat().st_mode) for file in (table, ckns)} == {0o600}
