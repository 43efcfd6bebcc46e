"""What a capture at a MACsec link proves: kinds of frames, SAKs in order, scapy's decryption."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netns_lab import macsec_proof, pcap
from netns_lab.errors import LabError
from netns_lab.macsec_proof import ClaimedSa
from netns_lab.traffic import MARKER

MAC, PEER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
SCI = MAC + b"\x00\x01"
SALT = bytes(range(100, 112))
UDP_OF_ALICE = b"\x08\x00" + bytes(44) + MARKER


def sa(number: int, an: int, **changes: object) -> ClaimedSa:
    made = {
        "ki": f"{number:032x}",
        "an": an,
        "sci": SCI,
        "ssci": None,
        "suite": "GCM_AES_256",
        "key": bytes([number]) * 32,
        "salt": None,
    }
    return ClaimedSa(**{**made, **changes})


def protected(by: ClaimedSa, number: int, inner: bytes = UDP_OF_ALICE) -> pcap.Frame:
    """802.1AE clause 9 and 14.5, made without scapy."""
    header = PEER + MAC + struct.pack("!HBBI", 0x88E5, 0x2C | by.an, 0, number) + by.sci
    iv = by.sci + struct.pack("!I", number)
    if by.ssci is not None and by.salt is not None:
        plain = struct.pack("!IQ", by.ssci, number)
        iv = bytes(a ^ b for a, b in zip(plain, by.salt, strict=True))
    return pcap.Frame(0.0, header + AESGCM(by.key).encrypt(iv, inner, header))


def eapol(more: bytes = b"") -> pcap.Frame:
    return pcap.Frame(0.0, PEER + MAC + b"\x88\x8e" + bytes(46) + more)


def test_frames_are_counted_by_type_and_what_is_in_the_clear_is_found() -> None:
    arp = pcap.Frame(0.0, PEER + MAC + b"\x08\x06" + bytes(28))
    frames = [eapol(), protected(sa(1, 0), 1), eapol(), arp]
    assert macsec_proof.ethertypes(frames) == {"0x0806": 1, "0x888e": 2, "0x88e5": 1}
    assert macsec_proof.in_the_clear(frames) == 1
    assert macsec_proof.in_the_clear([eapol(MARKER)]) == 1


@pytest.mark.parametrize("xpn", [False, True])
def test_saks_of_one_an_are_told_apart_and_each_is_opened(xpn: bool) -> None:
    changes = {"ssci": 1, "salt": SALT} if xpn else {}
    first, unused, again = (sa(number, 1, **changes) for number in (1, 2, 3))
    frames = [protected(first, number) for number in (1, 2, 3)]
    frames += [eapol(), protected(again, 1), protected(again, 2)]
    found = macsec_proof.decrypt(frames, [first, unused, again])
    assert (found.runs, found.decrypted, found.numbered, found.saks) == (2, 2, 2, 2)
    assert found.proven


def test_a_frame_that_no_claimed_sak_opens_is_a_failure() -> None:
    found = macsec_proof.decrypt([protected(sa(1, 0), 1)], [sa(2, 0), sa(1, 1)])
    assert (found.runs, found.decrypted) == (1, 0)
    assert not found.proven
    assert "none of 1 SAKs" in found.failed[0]
    assert not macsec_proof.decrypt([], []).proven


def row(claimed: ClaimedSa) -> str:
    return f"{claimed.ki},{claimed.an},{claimed.sci.hex()},,{claimed.suite},{claimed.key.hex()},"


def test_only_what_both_gateways_claim_counts(tmp_path: Path) -> None:
    moon, sun = tmp_path / "moon", tmp_path / "sun"
    moon.write_text(f"{row(sa(1, 0))}\n{row(sa(2, 1))}\n")
    sun.write_text(f"{row(sa(2, 1))}\n")
    assert macsec_proof.agreed([moon, sun]) == [sa(2, 1)]
    sun.write_text(f"{row(replace(sa(2, 1), key=bytes(32)))}\n")
    with pytest.raises(LabError, match="different SAKs"):
        macsec_proof.agreed([moon, sun])


def test_every_cak_and_sak_is_searched_for(tmp_path: Path) -> None:
    assert macsec_proof.secrets_in([tmp_path]) == []
    (tmp_path / "macsec_sak").write_text(f"{row(sa(1, 0))}\n")
    (tmp_path / "mka_ckn_info").write_text(f'6d6f,"metro",{"07" * 32}\n')
    assert macsec_proof.secrets_in([tmp_path]) == [sa(1, 0).key, bytes([7]) * 32]
