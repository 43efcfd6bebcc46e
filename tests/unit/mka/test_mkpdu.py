"""Frames and parameter sets: round trips, what is refused, and scapy's opinion."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from scapy.layers.eap import EAPOL, MKAPDU, MKADistributedCAKParamSet
from scapy.layers.l2 import Ether

from gateway.mka.announcement import Tlv
from gateway.mka.errors import DropReason, MkpduError
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.keys import MkaKeys
from gateway.mka.mkpdu import Mkpdu, encode_mkpdu, parse_frame
from gateway.mka.registry import ALGORITHM_AGILITY, CipherSuite, SetType
from gateway.mka.sets import (
    Announcement,
    Basic,
    DistributedCak,
    DistributedSak,
    Header,
    KeyUse,
    Kmd,
    ListedPeer,
    PeerList,
    SakUse,
    UnknownSet,
    Xpn,
    decode_set,
)
from tests.support.mka_lan import cak
from tests.support.mka_strategies import mkpdus, sets

KEYS = MkaKeys(cak())
SOURCE = bytes.fromhex("020000000001")
MI, OTHER = MemberId(bytes(range(12))), MemberId(bytes(range(12, 24)))
KI = KeyIdentifier(MI, 7)
BASIC = Basic(
    version=3,
    priority=16,
    key_server=True,
    macsec_desired=True,
    capability=2,
    sci=Sci(SOURCE),
    mi=MI,
    mn=0x01020304,
    ckn=b"four",
)
HEADERS = 14 + 4  # octets before the MKPDU
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)


def frame_of(*items, basic=BASIC) -> bytes:
    return encode_mkpdu(Mkpdu(basic=basic, sets=items), SOURCE, KEYS)


def sealed(content: bytes, length: int | None = None) -> bytes:
    """A frame with this content, whatever it is, and a good ICV."""
    frame = frame_of()[:16] + (len(content) + 16 if length is None else length).to_bytes(2, "big")
    return frame + content + KEYS.icv(frame + content)


def basic_set(basic=BASIC) -> bytes:
    header, body = basic.encode()
    return header.encode() + body + bytes(-len(body) % 4)


def reason_of(frame: bytes) -> DropReason:
    with pytest.raises(MkpduError) as caught:
        parse_frame(frame).open(KEYS)
    return caught.value.reason


@EXAMPLES
@given(mkpdus)
def test_every_mkpdu_comes_back(mkpdu):
    frame = encode_mkpdu(mkpdu, SOURCE, KEYS)
    assert len(frame) % 4 == HEADERS % 4
    envelope = parse_frame(frame)
    assert envelope.source == SOURCE
    assert envelope.basic == mkpdu.basic
    # An empty list says what no list says, and is the only one to come back as it was.
    assert envelope.open(KEYS) == mkpdu


@EXAMPLES
@given(sets)
def test_every_set_comes_back(item):
    header, body = item.encode()
    assert decode_set(header, body) == item


def test_a_short_frame_is_padded_on_the_way():
    assert parse_frame(frame_of() + bytes(30)).open(KEYS).basic == BASIC


def test_an_icv_in_its_indicator():
    begin = sealed(basic_set())[:16] + (len(basic_set()) + 20).to_bytes(2, "big")
    covered = begin + basic_set() + bytes((255, 0, 0, 16))
    assert parse_frame(covered + KEYS.icv(covered)).open(KEYS).basic == BASIC
    short = bytes((255, 0, 0, 8)) + bytes(8)
    assert reason_of(sealed(basic_set() + short)) is DropReason.MALFORMED


def test_unknown_sets_are_skipped():
    strange = UnknownSet(set_type=77, second=1, flags=0x40, body=b"later")
    use = Xpn(latest_high=1, old_high=2)
    mkpdu = parse_frame(frame_of(strange, strange, use)).open(KEYS)
    assert mkpdu.xpn == use


@pytest.mark.parametrize("cut", range(HEADERS, 100, 5))
def test_a_frame_that_ends_early(cut):
    frame = frame_of(PeerList(live=True, peers=(ListedPeer(OTHER, 1),)))
    assert reason_of(frame[: min(cut, len(frame) - 1)]) is DropReason.MALFORMED


@pytest.mark.parametrize(
    ("content", "length"),
    [
        (basic_set()[:12], None),  # below 32 octets
        (basic_set(), 63),  # no multiple of four
        (basic_set() + b"\x01\x00\x00\x40" + bytes(8), None),  # a set beyond the end
        (basic_set() + b"\x01\x00\x00\x0f" + bytes(16), None),  # half a peer
        (basic_set() + b"\x03\x00\x00\x20" + bytes(32), None),  # SAK use
        (basic_set() + b"\x04\x00\x00\x10" + bytes(16), None),  # distributed SAK
        (
            basic_set() + b"\x04\x00\x00\x34" + bytes(52),
            None,
        ),  # of an unknown suite: fine, see below
        (basic_set() + b"\x05\x00\x00\x18" + bytes(24), None),  # a CAK without a name
        (basic_set() + b"\x07\x00\x00\x04" + b"\xe0\x09\x00\x00", None),  # TLV beyond the end
        (basic_set() + b"\x08\x00\x00\x04" + bytes(4), None),
        (basic_set() + 2 * (b"\x08\x00\x00\x08" + bytes(8)), None),  # twice
        (b"\x03\x10\xe0\x1c" + bytes(24) + b"\x00\x80\xc2\x01", None),  # no CKN
        (b"\x03\x10\xe0\x3d" + bytes(24) + b"\x00\x80\xc2\x01" + bytes(36), None),  # 33 octets
    ],
)
def test_what_is_malformed(content, length):
    if content[-52:] == bytes(52):
        known = parse_frame(sealed(content)).open(KEYS).distributed_sak
        assert known is not None
        assert known.suite == 0
        return
    assert reason_of(sealed(content, length)) is DropReason.MALFORMED


def test_a_wrapped_key_of_the_wrong_size_for_its_suite():
    item = DistributedSak(kn=1, suite=CipherSuite.GCM_AES_256, wrapped=bytes(40))
    header, body = item.encode()
    with pytest.raises(MkpduError):
        decode_set(Header(first=4, second=0, flags=0, length=36), body[:36])
    assert decode_set(header, body) == item


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (0, DropReason.NOT_MKA),  # destination
        (12, DropReason.NOT_MKA),  # Ethertype
        (15, DropReason.NOT_MKA),  # EAPOL packet type
        (6, DropReason.BAD_ICV),  # source
        (14, DropReason.BAD_ICV),  # EAPOL version: any will do, were it what was sent
        (HEADERS + 1, DropReason.BAD_ICV),  # priority
        (HEADERS + 28, DropReason.UNKNOWN_ALGORITHM),
        (-1, DropReason.BAD_ICV),
    ],
)
def test_a_changed_octet(at, reason):
    frame = bytearray(frame_of())
    frame[at] ^= 0x80
    assert reason_of(bytes(frame)) is reason


def test_another_cak_does_not_verify():
    other = MkaKeys(cak(2))
    with pytest.raises(MkpduError) as caught:
        parse_frame(frame_of()).open(other)
    assert caught.value.reason is DropReason.BAD_ICV


def test_a_tlv_that_cannot_be():
    for wrong in (Tlv(128, b""), Tlv(1, bytes(512))):
        with pytest.raises(ValueError):
            Announcement(tlvs=(wrong,)).encode()


# --- scapy reads the same --------------------------------------------------------------------


def dissected(*items, basic=BASIC):
    packet = Ether(frame_of(*items, basic=basic))
    assert packet.dst == "01:80:c2:00:00:03"
    assert packet[EAPOL].type == 5
    return packet[MKAPDU]


def field(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def test_scapy_on_the_basic_set():
    seen = dissected().basic_param_set
    assert (seen.mka_version_id, seen.key_server_priority) == (3, 16)
    assert (seen.key_server, seen.macsec_desired, seen.macsec_capability) == (1, 1, 2)
    assert seen.param_set_body_len == 32
    assert bytes(seen.SCI) == BASIC.sci.encode()
    assert (seen.actor_member_id, seen.actor_message_number) == (MI, BASIC.mn)
    assert (seen.algorithm_agility, seen.cak_name) == (ALGORITHM_AGILITY, b"four")


@pytest.mark.parametrize("live", [True, False])
def test_scapy_on_peer_lists(live):
    listed = PeerList(live=live, peers=(ListedPeer(MI, 1), ListedPeer(OTHER, 2)))
    seen = dissected(listed).parameter_sets[0]
    assert seen.param_set_type == (SetType.LIVE_PEER_LIST if live else SetType.POTENTIAL_PEER_LIST)
    first = seen.member_id_message_num[0]
    assert (first.member_id, first.message_number) == (MI, field(1))
    assert bytes(first.payload)[:16] == OTHER + field(2)  # scapy leaves those after it there


def test_scapy_on_sak_use():
    latest = KeyUse(ki=KI, an=2, transmits=False, receives=True, lowest_pn=9)
    old = KeyUse(ki=KeyIdentifier(OTHER, 3), an=1, transmits=True, receives=True, lowest_pn=5)
    seen = dissected(SakUse(latest=latest, old=old, delay_protect=True)).parameter_sets[0]
    assert (seen.latest_key_an, seen.latest_key_tx, seen.latest_key_rx) == (2, 0, 1)
    assert (seen.old_key_an, seen.old_key_tx, seen.old_key_rx) == (1, 1, 1)
    assert (seen.plain_tx, seen.plain_rx, seen.delay_protect) == (0, 0, 1)
    assert seen.latest_key_key_server_member_id + seen.latest_key_key_number == KI.encode()
    assert seen.latest_key_lowest_acceptable_pn == field(9)
    assert seen.old_key_key_server_member_id + seen.old_key_key_number == old.ki.encode()
    assert seen.old_key_lowest_acceptable_pn == field(5)


def test_scapy_on_a_distributed_sak():
    item = DistributedSak(an=3, confidentiality=1, kn=7, wrapped=bytes(range(24)))
    seen = dissected(item).parameter_sets[0]
    assert (seen.distributed_an, seen.confidentiality_offset) == (3, 1)
    assert seen.param_set_body_len == 28
    assert (seen.key_number, seen.sak_aes_key_wrap) == (field(7), bytes(range(24)))


def test_scapy_on_a_distributed_sak_with_its_suite():
    """scapy takes every wrapped key for one of 24 octets; the rest is left over."""
    suite = CipherSuite.GCM_AES_256
    item = DistributedSak(an=1, confidentiality=1, kn=7, suite=suite, wrapped=bytes(range(40)))
    seen = dissected(item).parameter_sets[0]
    assert seen.param_set_body_len == 52
    assert seen.macsec_cipher_suite == field(suite, 8)
    assert seen.sak_aes_key_wrap == bytes(range(24))


def test_scapy_on_a_distributed_cak():
    """Not by way of the frame: scapy has the class, and does not find it by its number."""
    frame = frame_of(DistributedCak(body=bytes(range(24)) + b"name"))
    seen = MKADistributedCAKParamSet(frame[HEADERS + len(basic_set()) : -16])
    assert seen.param_set_type == SetType.DISTRIBUTED_CAK
    assert (seen.cak_aes_key_wrap, seen.cak_key_name) == (bytes(range(24)), b"name")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Kmd(domain=b"site"), b"\x06\x00\x00\x04site"),
        (
            Announcement(tlvs=(Tlv(114, b"id"),)),
            b"\x07\x00\x00\x04" + b"\xe4\x02id",
        ),
        (
            Xpn(latest_high=1, old_high=2, suspension_time=9),
            b"\x08\x09\x00\x08" + field(1) + field(2),
        ),
    ],
)
def test_sets_that_scapy_does_not_know(item, expected):
    frame = frame_of(item)
    assert frame[HEADERS + len(basic_set()) : -16] == expected
