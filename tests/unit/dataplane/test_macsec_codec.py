"""MACsec, link and filter messages octet by octet: linux/if_macsec.h, if_link.h, pkt_cls.h."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from gateway.crypto.secret import Secret
from gateway.dataplane.macsec_port import ReceiveSaSpec, SecySpec, TransmitSaSpec
from gateway.dataplane.macsec_rules import next_pn_for
from gateway.dataplane.netlink import link_codec, macsec_codec
from gateway.dataplane.netlink.link_messages import (
    TC_ACT_OK,
    TC_ACT_SHOT,
    TC_H_EGRESS,
    address_message,
    filter_message,
    link_message,
)
from gateway.dataplane.netlink.macsec_messages import family_message, macsec_reply
from gateway.dataplane.netlink.parent_filter import (
    HANDLE,
    RULES,
    Rule,
    decode_filter,
    encode_filter,
    encode_qdisc,
)
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.registry import CipherSuite

KEY = bytes(range(0x40, 0x60))
MI = MemberId(bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaab"))
KI = KeyIdentifier(MI, 0x01020304)
KI_OCTETS = bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaab01020304")
SCI = Sci(bytes.fromhex("020000005101"), 1)
PEER = Sci(bytes.fromhex("020000005102"), 0x0203)
PEER_OCTETS = bytes.fromhex("0200000051020203")
SALT = bytes.fromhex("000302020405060708090a0b")
TRANSMIT = TransmitSaSpec(an=2, key=Secret(KEY), ki=KI, ssci=None, salt=None)
RECEIVE = ReceiveSaSpec(
    sci=PEER, an=3, lowest_pn=1, key=Secret(KEY), ki=KI, ssci=0x01020304, salt=SALT
)
SPEC = SecySpec(
    link="core",
    parent="eth1",
    device="macsec-core",
    suite=CipherSuite.GCM_AES_256,
    encrypt=True,
    replay_window=64,
    filtered=True,
)


def encoded(message):
    """The body, without the netlink header."""
    message.encode()
    assert struct.unpack_from("I", message.data)[0] == len(message.data)
    return bytes(message.data[16:])


def attributes(data):
    """Number and content; the flag for nesting aside."""
    found = {}
    while data:
        length, kind = struct.unpack_from("HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def attribute(kind, content):
    return struct.pack("HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def listed(*contents):
    return b"".join(attribute(number, content) for number, content in enumerate(contents, 1))


def decoded(cls, body, message_type=0x20):
    message = cls(struct.pack("IHHII", 16 + len(body), message_type, 0, 0, 0) + body)
    message.decode()
    return message


def generic(message, command):
    """The attributes of a request of the family."""
    body = encoded(message)
    assert body[:4] == bytes([command, 1, 0, 0])
    return attributes(body[4:])


# --- SAs -------------------------------------------------------------------------------------


def test_a_transmit_sa_is_not_active_and_begins_at_1():
    top = generic(macsec_codec.encode_add_transmit_sa(7, TRANSMIT, xpn=False), 4)
    assert set(top) == {1, 3}
    assert top[1] == struct.pack("I", 7)
    assert attributes(top[3]) == {
        1: b"\x02",
        2: b"\x00",
        3: struct.pack("I", 1),
        4: KEY,
        5: KI_OCTETS,
    }


def test_the_whole_message_of_a_receive_sa_with_xpn():
    message = macsec_codec.encode_add_receive_sa(7, RECEIVE, next_pn=(1 << 32) + 5, xpn=True)
    assert encoded(message).hex() == "".join(
        (
            "07010000",  # MACSEC_CMD_ADD_RXSA, version 1
            "0800010007000000",  # ifindex
            "10000200" + "0c000100" + PEER_OCTETS.hex(),  # RXSC_CONFIG { SCI }
            "70000300",  # SA_CONFIG
            "0500010003000000",  # AN
            "0500020001000000",  # active
            "0c0003000500000001000000",  # PN, 64 bits
            "14000500" + KI_OCTETS.hex(),
            "0800080001020304",  # SSCI, network order
            "10000900" + SALT.hex(),
            "24000400" + KEY.hex(),
        )
    )


def test_without_xpn_the_packet_number_has_32_bits_and_there_is_no_salt():
    message = macsec_codec.encode_add_receive_sa(7, RECEIVE, next_pn=9, xpn=False)
    sa = attributes(generic(message, 7)[3])
    assert sa[3] == struct.pack("I", 9)
    assert not {8, 9} & set(sa)


@pytest.mark.parametrize(
    ("message", "command", "sci", "sa"),
    [
        (macsec_codec.encode_sa_active(7, 1, active=True), 6, None, {1: b"\x01", 2: b"\x01"}),
        (
            macsec_codec.encode_sa_active(7, 1, active=False, sci=PEER),
            *(9, PEER_OCTETS),
            {1: b"\x01", 2: b"\x00"},
        ),
        (macsec_codec.encode_remove_sa(7, 3), 5, None, {1: b"\x03"}),
        (macsec_codec.encode_remove_sa(7, 3, sci=PEER), 8, PEER_OCTETS, {1: b"\x03"}),
        (
            macsec_codec.encode_next_pn(7, PEER, 0, next_pn=500, xpn=True),
            *(9, PEER_OCTETS),
            {1: b"\x00", 3: struct.pack("Q", 500)},
        ),
        (macsec_codec.encode_remove_channel(7, PEER), 2, PEER_OCTETS, None),
    ],
)
def test_requests_about_one_sa_or_channel(message, command, sci, sa):
    top = generic(message, command)
    assert top.pop(1) == struct.pack("I", 7)
    if sci is not None:
        assert attributes(top.pop(2)) == {1: sci}
    if sa is not None:
        assert attributes(top.pop(3)) == sa
    assert not top


def test_a_channel_is_active_from_the_start():
    top = generic(macsec_codec.encode_add_channel(7, PEER), 1)
    assert attributes(top[2]) == {1: PEER_OCTETS, 2: b"\x01"}


def test_the_dump_and_the_family():
    assert generic(macsec_codec.encode_dump(), 0) == {}
    assert generic(macsec_codec.encode_family_request(), 3) == {2: b"macsec\0"}
    body = bytes([1, 2, 0, 0]) + attribute(2, b"macsec\0") + attribute(1, struct.pack("H", 35))
    assert decoded(family_message, body).get_attr("CTRL_ATTR_FAMILY_ID") == 35


def test_a_refusal_with_the_request_in_it_does_not_show_the_key():
    body = encoded(macsec_codec.encode_add_receive_sa(7, RECEIVE, next_pn=1, xpn=True))
    shown = repr(decoded(macsec_reply, body))
    assert "MACSEC_SA_ATTR_KEY" in shown
    assert repr(KEY[:8])[2:-1] not in shown
    assert KEY.hex(":")[:12] not in shown


# --- what the dump says ----------------------------------------------------------------------


def secy_dump(*, suite=0x0080_0200_0100_0001, validate=2, window=True):
    def sa(an, pn, active):
        fields = ((1, bytes([an])), (3, pn), (5, KI_OCTETS), (2, bytes([active])))
        return b"".join(attribute(kind, content) for kind, content in fields)

    secy = [
        *((1, SCI.encode()), (5, b"\x10"), (4, struct.pack("Q", suite)), (8, b"\x01")),
        *((6, b"\x01"), (7, b"\x01"), (9, bytes([validate])), (10, b"\x01"), (11, b"\x01")),
        *((12, b"\0"), (13, b"\0"), (2, b"\x02")),
        *([(3, struct.pack("I", 64))] if window else []),
    ]

    def counters(first, count):
        return b"".join(
            attribute(kind, struct.pack("Q", first + kind)) for kind in range(1, count + 1)
        )

    channel = (
        attribute(1, PEER_OCTETS)
        + attribute(2, b"\x01")
        + attribute(3, listed(sa(1, struct.pack("I", 77), 1), sa(2, struct.pack("I", 5), 0)))
        + attribute(4, counters(100, 10))
    )
    other = attribute(1, bytes(8)) + attribute(2, b"\x01") + attribute(4, counters(1000, 10))
    return b"".join(
        (
            bytes([0, 1, 0, 0]),
            attribute(1, struct.pack("I", 9)),
            attribute(9, attribute(1, b"\0")),  # offload, which is not looked at
            attribute(4, b"".join(attribute(kind, content) for kind, content in secy)),
            attribute(7, counters(10, 4)),
            attribute(8, counters(50, 8)),
            attribute(5, listed(sa(2, struct.pack("Q", (3 << 32) + 1), 1))),
            attribute(6, listed(channel, other)),
        )
    )


def test_a_device_is_read_with_all_its_sas_and_counters():
    secy = macsec_codec.decode_secy(decoded(macsec_reply, secy_dump()))
    assert (secy.index, secy.sci, secy.encoding_an, secy.window, secy.icv_size) == (
        *(9, SCI, 2),
        *(64, 16),
    )
    assert secy.suite is CipherSuite.GCM_AES_128  # by the number that the kernel still sends
    assert secy.protects
    assert secy.strict
    assert secy.operational
    assert secy.encrypt
    assert [(sa.sci, sa.an, sa.pn, sa.active) for sa in secy.transmit] == [
        (SCI, 2, (3 << 32) + 1, True)
    ]
    assert [(sa.sci, sa.an, sa.pn, sa.active, sa.ki) for sa in secy.receive] == [
        (PEER, 1, 77, True, KI_OCTETS),
        (PEER, 2, 5, False, KI_OCTETS),
    ]
    assert secy.channels == (PEER, Sci(bytes(6), 0))
    counters = secy.counters
    assert counters.out_packets == 11 + 12
    assert counters.out_octets == 13 + 14
    assert (counters.out_untagged, counters.in_untagged, counters.in_no_tag) == (51, 52, 54)
    assert (counters.in_bad_tag, counters.in_unknown_sci, counters.in_no_sci) == (55, 56, 57)
    assert counters.in_overrun == 58
    assert counters.in_octets == 101 + 102 + 1001 + 1002
    both = [1100 + 2 * kind for kind in range(3, 11)]
    assert both == [
        *(counters.in_unchecked, counters.in_delayed, counters.in_ok, counters.in_invalid),
        *(counters.in_late, counters.in_not_valid, counters.in_not_using_sa),
        counters.in_unused_sa,
    ]


@pytest.mark.parametrize("validate", [0, 1])
def test_other_validation_is_not_strict(validate):
    assert not macsec_codec.decode_secy(decoded(macsec_reply, secy_dump(validate=validate))).strict


def test_a_suite_that_is_not_known_and_no_replay_protection():
    dump = secy_dump(suite=0x1234, window=False)
    secy = macsec_codec.decode_secy(decoded(macsec_reply, dump))
    assert secy.suite is None
    assert secy.window == 2**32 - 1


@pytest.mark.parametrize(
    ("lowest", "window", "xpn", "expected"),
    [
        *((1, 64, False, 1), (2, 0, False, 2), (100, 64, False, 164)),
        *((2**32 - 5, 64, False, 2**32 - 1), (2**32 - 5, 64, True, 2**32 + 59)),
    ],
)
def test_the_lowest_acceptable_number_is_the_next_less_the_window(lowest, window, xpn, expected):
    assert next_pn_for(lowest, window, xpn=xpn) == expected


# --- devices ---------------------------------------------------------------------------------


def test_a_new_device_protects_and_is_strict_from_its_first_moment():
    body = encoded(link_codec.encode_new_macsec(SPEC, 5, SCI))
    assert body[:16] == bytes(16)  # not up
    top = attributes(body[16:])
    assert top[3] == b"macsec-core\0"
    assert top[5] == struct.pack("I", 5)
    info = attributes(top[18])
    assert info[1] == b"macsec\0"
    assert attributes(info[2]) == {
        1: SCI.encode(),
        4: struct.pack("Q", 0x0080C20001000002),
        5: struct.pack("I", 64),
        7: b"\x01",  # encrypt
        8: b"\x01",  # protect
        9: b"\x01",  # SCI in each frame
        10: b"\x00",
        11: b"\x00",
        12: b"\x01",  # replay protection
        13: b"\x02",  # strict
    }


def test_what_can_be_changed_of_a_device():
    def data(message):
        body = encoded(message)
        assert struct.unpack_from("i", body, 4) == (9,)
        return attributes(attributes(attributes(body[16:])[18])[2])

    changed = data(link_codec.encode_macsec_settings(9, replace(SPEC, encrypt=False)))
    assert not {1, 2, 3, 4} & set(changed)  # SCI, port, ICV and suite: refused by the kernel
    assert (changed[7], changed[8], changed[13]) == (b"\0", b"\x01", b"\x02")
    assert data(link_codec.encode_macsec_port(9, clear=True)) == {8: b"\0", 13: b"\x01"}
    assert data(link_codec.encode_macsec_port(9, clear=False)) == {8: b"\x01", 13: b"\x02"}
    assert data(link_codec.encode_encoding_an(9, 3)) == {6: b"\x03"}


def test_up_mtu_and_addresses():
    assert encoded(link_codec.encode_link_up(9)) == struct.pack("BxHiII", 0, 0, 9, 1, 1)
    assert attributes(encoded(link_codec.encode_link_mtu(9, 1468))[16:]) == {
        4: struct.pack("I", 1468)
    }
    body = encoded(link_codec.encode_new_address(9, ip_interface("10.9.3.1/30")))
    assert body[:8] == struct.pack("BBBBI", 2, 30, 0, 0, 9)
    assert attributes(body[8:]) == {1: bytes([10, 9, 3, 1]), 2: bytes([10, 9, 3, 1])}
    body = encoded(link_codec.encode_new_address(9, ip_interface("fd00::1/64")))
    assert body[:8] == struct.pack("BBBBI", 10, 64, 2, 0, 9)  # IFA_F_NODAD


def test_links_and_addresses_read():
    body = struct.pack("BxHiII", 0, 1, 9, 0x10043, 0) + b"".join(
        (
            *(attribute(3, b"macsec-core\0"), attribute(1, SCI.mac)),
            *(attribute(4, struct.pack("I", 1468)), attribute(5, struct.pack("I", 5))),
            attribute(18, attribute(1, b"macsec\0")),
        )
    )
    link = link_codec.decode_link(decoded(link_message, body))
    assert (link.index, link.name, link.mac, link.mtu) == (9, "macsec-core", SCI.mac, 1468)
    assert (link.up, link.running, link.kind, link.below) == (True, True, "macsec", 5)
    elsewhere = body + attribute(37, struct.pack("i", 0))
    assert link_codec.decode_link(decoded(link_message, elsewhere)).below is None
    down = body[:8] + struct.pack("I", 0x10000) + body[12:]
    assert not link_codec.decode_link(decoded(link_message, down)).running

    body = struct.pack("BBBBI", 2, 30, 0, 0, 9) + attribute(1, bytes([10, 9, 3, 2]))
    with_local = body + attribute(2, bytes([10, 9, 3, 1]))
    for octets, address in ((body, "10.9.3.2/30"), (with_local, "10.9.3.1/30")):
        read = link_codec.decode_address(decoded(address_message, octets))
        assert read == (9, ip_interface(address))


# --- the parent's filter ---------------------------------------------------------------------


def test_the_rules_pass_eapol_and_macsec_and_drop_the_rest():
    assert [(rule.protocol, rule.action) for rule in RULES] == [
        (0x888E, TC_ACT_OK),
        (0x88E5, TC_ACT_OK),
        (0x0003, TC_ACT_SHOT),
    ]
    assert [rule.priority for rule in RULES] == sorted(rule.priority for rule in RULES)


def test_the_qdisc():
    body = encoded(encode_qdisc(5))
    assert body[:20] == struct.pack("BxxxiIII", 0, 5, 0xFFFF0000, 0xFFFFFFF1, 0)
    assert attributes(body[20:]) == {1: b"clsact\0"}


@pytest.mark.parametrize("rule", RULES)
def test_a_filter_comes_back_as_it_went_in(rule):
    body = encoded(encode_filter(5, TC_H_EGRESS, rule, with_action=True))
    index, handle, parent, info = struct.unpack_from("iIII", body, 4)
    assert (index, handle, parent) == (5, 0x71736777, 0xFFFFFFF3)
    assert struct.pack("I", info) == rule.protocol.to_bytes(2) + struct.pack("H", rule.priority)
    top = attributes(body[20:])
    assert top[1] == b"matchall\0"
    (action,) = attributes(attributes(top[2])[2]).values()
    assert attributes(action)[1] == b"gact\0"
    parameters = attributes(attributes(action)[2])[2]
    assert parameters == struct.pack("IIiii", 0, 0, rule.action, 0, 0)
    found = decode_filter(decoded(filter_message, body))
    assert found is not None
    assert (found.priority, found.handle, found.rule) == (rule.priority, HANDLE, rule)


def test_other_filters_are_not_taken_for_ours():
    rule = RULES[2]
    message = encode_filter(5, TC_H_EGRESS, rule, with_action=True)
    body = encoded(message)
    handleless = body[:8] + bytes(4) + body[12:]
    assert decode_filter(decoded(filter_message, handleless)) is None
    chained = body + attribute(11, struct.pack("I", 3))
    assert decode_filter(decoded(filter_message, chained)) is None
    for words, others in ((b"matchall", b"flowerxx"), (b"gact", b"mirr")):
        found = decode_filter(decoded(filter_message, body.replace(words, others)))
        assert found is not None
        assert found.rule is None
    forged = Rule(rule.priority, rule.protocol, TC_ACT_OK)
    body = encoded(encode_filter(5, TC_H_EGRESS, forged, with_action=True))
    found = decode_filter(decoded(filter_message, body))
    assert found is not None
    assert found.rule == forged != rule
