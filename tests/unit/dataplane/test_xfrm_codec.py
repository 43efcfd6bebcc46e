"""XFRM messages octet by octet, at the offsets of linux/xfrm.h."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gateway.crypto.secret import Secret
from gateway.dataplane.netlink.layout import Layout
from gateway.dataplane.netlink.monitor import decode_event
from gateway.dataplane.netlink.xfrm_codec import (
    decode_policy,
    decode_sa,
    encode_policy,
    encode_policy_id,
    encode_sa,
    encode_sa_id,
    encode_spi_request,
    is_our_sa,
)
from gateway.dataplane.netlink.xfrm_messages import (
    EVENT_CLASSES,
    USERPOLICY_INFO,
    XfrmMessage,
    policy_message,
    sa_reply,
)
from gateway.dataplane.port import PeerMoved, SaExpired, TrafficWaiting
from gateway.dataplane.reconcile import reqid_for
from gateway.errors import DataplaneError
from gateway.model import Direction, EspMode, SaId, SaLifetime, SaSpec, UdpEncap
from tests.support.policies import tunnel_policies

MOON, SUN = ip_address("10.0.12.1"), ip_address("10.0.23.3")
MOON6, SUN6 = ip_address("fd00:12::1"), ip_address("fd00:23::3")
REQID = reqid_for("sun")
KEY = bytes(range(36))
NEVER = 2**64 - 1
OUTBOUND = SaSpec(
    tunnel="sun",
    direction=Direction.OUTBOUND,
    spi=0xC1020304,
    source=MOON,
    destination=SUN,
    reqid=REQID,
    key=Secret(KEY),
)
INBOUND = replace(
    OUTBOUND, direction=Direction.INBOUND, source=SUN, destination=MOON, replay_window=256
)


def encoded(message):
    """The body, without the netlink header."""
    message.encode()
    assert struct.unpack_from("I", message.data)[0] == len(message.data)
    return bytes(message.data[16:])


def attributes(data):
    found = {}
    while data:
        length, kind = struct.unpack_from("HH", data)
        found[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def decoded(cls, body, message_type):
    header = struct.pack("IHHII", 16 + len(body), message_type, 0, 0, 0)
    message = cls(header + body)
    message.decode()
    return message


# --- SAs -------------------------------------------------------------------------------------


def test_an_outbound_sa():
    body = encoded(encode_sa(OUTBOUND, with_direction=True))
    info, attrs = body[:224], attributes(body[224:])
    assert info[:56] == bytes(56)  # selector: any, both families (AF_UNSPEC)
    assert info[56:72] == SUN.packed + bytes(12)
    assert info[72:76] == bytes.fromhex("c1020304")  # network order
    assert info[76] == 50
    assert info[80:96] == MOON.packed + bytes(12)
    assert struct.unpack_from("8Q", info, 96) == (NEVER, NEVER, NEVER, NEVER, 0, 0, 0, 0)
    assert struct.unpack_from("IHBBB", info, 208) == (REQID, 2, 1, 0, 128 | 32)
    assert attrs[18][:64] == b"rfc4106(gcm(aes))".ljust(64, b"\0")
    assert struct.unpack_from("II", attrs[18], 64) == (288, 128)
    assert attrs[18][72:] == KEY
    assert attrs[23] == bytes(24)  # with a direction: no window, no bitmap
    assert attrs[33] == b"\x02"
    assert set(attrs) == {18, 23, 33}


def test_an_inbound_sa_has_the_window():
    attrs = attributes(encoded(encode_sa(INBOUND, with_direction=True))[224:])
    assert struct.unpack("6I", attrs[23]) == (8, 0, 0, 0, 0, 256)
    assert attrs[33] == b"\x01"


def test_an_older_kernel_gets_no_direction_and_a_window_outbound():
    attrs = attributes(encoded(encode_sa(OUTBOUND, with_direction=False))[224:])
    assert 33 not in attrs
    assert struct.unpack("6I", attrs[23]) == (1, 0, 0, 0, 0, 1)


def test_ipv6_encapsulation_limits_and_no_esn():
    sa = replace(
        OUTBOUND,
        source=MOON6,
        destination=SUN6,
        esn=False,
        encap=UdpEncap(source_port=4500, destination_port=32768),
        lifetime=SaLifetime(soft_packets=3, hard_bytes=4, soft_seconds=5, hard_seconds=6),
    )
    body = encoded(encode_sa(sa, with_direction=True))
    assert body[56:72] == SUN6.packed
    assert struct.unpack_from("8Q", body, 96) == (NEVER, 4, 3, NEVER, 5, 6, 0, 0)
    assert struct.unpack_from("HBBB", body, 212) == (10, 1, 0, 32)
    encap = attributes(body[224:])[4]
    assert encap == struct.pack("H", 2) + struct.pack(">HH", 4500, 32768) + bytes(18)


def test_transport_mode_has_the_family_of_its_ends():
    sa = replace(OUTBOUND, mode=EspMode.TRANSPORT)
    body = encoded(encode_sa(sa, with_direction=True))
    assert struct.unpack_from("HBBB", body, 212) == (2, 0, 0, 128)  # AF_UNSPEC is for tunnels
    for policy in all_policies():
        if policy.reqid:
            policy = replace(policy, mode=EspMode.TRANSPORT)  # noqa: PLW2901
        body = encoded(encode_policy(policy))
        read = decode_policy(decoded(policy_message, body, XfrmMessage.NEWPOLICY))
        assert read == replace(policy, tunnel="")


def test_a_key_of_the_wrong_size_is_refused_without_showing_it():
    with pytest.raises(DataplaneError, match="32 octets") as caught:
        encode_sa(replace(OUTBOUND, key=Secret(b"K" * 32)), with_direction=True)
    assert "KK" not in str(caught.value)


def test_reserving_an_spi():
    body = encoded(encode_spi_request(SUN, MOON, REQID, with_direction=True))
    assert body[56:60] == MOON.packed
    assert body[80:84] == SUN.packed
    assert struct.unpack_from("II", body, 224) == (0xC0000000, 0xCFFFFFFF)
    assert attributes(body[232:]) == {33: b"\x01"}
    assert len(encoded(encode_spi_request(SUN, MOON, REQID, with_direction=False))) == 232


def test_naming_an_sa():
    body = encoded(encode_sa_id(SaId(SUN, 0xC1020304)))
    assert body == SUN.packed + bytes(12) + bytes.fromhex("c1020304") + struct.pack("HBx", 2, 50)


def test_reading_an_sa_back_leaves_the_key_out():
    body = bytearray(encoded(encode_sa(INBOUND, with_direction=True)))
    struct.pack_into("4Q3I", body, 160, 4200, 42, 1700000000, 0, 1, 2, 3)
    message = decoded(sa_reply, bytes(body), XfrmMessage.NEWSA)
    state = decode_sa(message)
    assert state.sa_id == INBOUND.sa_id
    assert (state.source, state.reqid, state.larval, state.esn) == (SUN, REQID, False, True)
    assert (state.bytes, state.packets, state.added_at) == (4200, 42, 1700000000)
    assert (state.replay_drops, state.integrity_failures) == (3, 3)
    assert is_our_sa(message)
    shown = repr(message)
    assert "XFRMA_ALG_AEAD" in shown
    assert repr(KEY[:8])[2:-1] not in shown
    assert KEY.hex(":")[:12] not in shown


def test_an_sa_without_cipher_is_a_reservation():
    body = encoded(encode_sa(INBOUND, with_direction=True))[:224]
    assert decode_sa(decoded(sa_reply, body, XfrmMessage.NEWSA)).larval


# --- policies --------------------------------------------------------------------------------


def all_policies(version=4):
    nets = {
        4: (ip_network("10.1.0.0/24"), ip_network("10.2.0.0/16")),
        6: (ip_network("fd01::/64"), ip_network("fd02::/48")),
    }[version]
    return tunnel_policies(
        "sun",
        [nets[0]],
        [nets[1]],
        local_addr=MOON,
        remote_addr=SUN,
        reqid=REQID,
        spi=0xC1020304,
    )


@pytest.mark.parametrize("version", [4, 6])
def test_policies_come_back_as_they_went_in(version):
    for policy in all_policies(version):
        body = encoded(encode_policy(policy))
        read = decode_policy(decoded(policy_message, body, XfrmMessage.NEWPOLICY))
        assert read == replace(policy, tunnel="")


def test_an_outbound_protect_policy():
    policy = next(p for p in all_policies() if p.outbound_spi)
    body = encoded(encode_policy(policy))
    assert body[:4] == bytes([10, 2, 0, 0])
    assert body[16:20] == bytes([10, 1, 0, 0])
    assert struct.unpack_from(">HH", body, 32) == (policy.priority, 0)  # matches any port
    assert struct.unpack_from("HBB", body, 40) == (2, 16, 24)
    assert struct.unpack_from("IIBB", body, 152) == (policy.priority, 0, 1, 0)
    template = attributes(body[168:])[5]
    assert len(template) == 64
    assert template[:4] == SUN.packed
    assert template[16:20] == bytes.fromhex("c1020304")
    assert struct.unpack_from("H", template, 24)[0] == 2
    assert template[28:32] == MOON.packed
    assert struct.unpack_from("IBBB", template, 44) == (REQID, 1, 0, 0)
    assert template[52:] == b"\xff" * 12


def test_policies_of_all_layers_differ_in_the_selector():
    selectors = {encoded(encode_policy_id(policy)) for policy in all_policies()}
    assert len(selectors) == 6


def test_naming_a_policy_uses_the_very_selector_it_was_set_with():
    for policy in all_policies():
        assert encoded(encode_policy_id(policy))[:56] == encoded(encode_policy(policy))[:56]


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (32, b"\0\0"),  # no mark
        (34, b"\xff\xff"),  # a real port selector
        (152, struct.pack("I", 100)),  # another priority
        (160, b"\x07"),  # a per-socket direction
        (161, b"\x01"),  # block, with a template
    ],
)
def test_policies_of_others_are_not_ours(offset, value):
    policy = next(p for p in all_policies() if p.outbound_spi)
    body = bytearray(encoded(encode_policy(policy)))
    body[offset : offset + len(value)] = value
    assert decode_policy(decoded(policy_message, bytes(body), XfrmMessage.NEWPOLICY)) is None


def test_an_allow_policy_is_not_ours():
    block = all_policies()[0]
    body = bytearray(encoded(encode_policy(block)))
    body[161] = 0
    assert decode_policy(decoded(policy_message, bytes(body), XfrmMessage.NEWPOLICY)) is None


def test_a_struct_without_header():
    packed = Layout(USERPOLICY_INFO).pack({"sel_family": 2, "dir": 1})
    assert len(packed) == 168
    assert packed[40] == 2
    assert packed[160] == 1
    assert sum(packed) == 3


# --- events ----------------------------------------------------------------------------------


def event(kind, body):
    return decode_event(decoded(EVENT_CLASSES[kind], body, kind))


@pytest.mark.parametrize("hard", [0, 1])
def test_expire(hard):
    body = encoded(encode_sa(OUTBOUND, with_direction=True))[:224] + struct.pack("B7x", hard)
    assert event(XfrmMessage.EXPIRE, body) == SaExpired(
        sa_id=OUTBOUND.sa_id, reqid=REQID, hard=bool(hard)
    )


@pytest.mark.parametrize("sa", [replace(OUTBOUND, reqid=1), replace(OUTBOUND, spi=0)])
def test_expiry_of_what_is_not_ours_or_no_sa_is_not_told(sa):
    body = encoded(encode_sa(sa, with_direction=True))[:224] + bytes(8)
    assert event(XfrmMessage.EXPIRE, body) is None


def acquire(reqid):
    policy = replace(next(p for p in all_policies() if p.outbound_spi), reqid=reqid)
    template = encoded(encode_policy(policy))[168:]
    selector = (
        ip_address("10.2.0.10").packed.ljust(16, b"\0")
        + ip_address("10.1.0.10").packed.ljust(16, b"\0")
        + struct.pack("8xHBBB3x8x", 2, 32, 32, 17)
    )
    return bytes(24) + bytes(16) + selector + bytes(168) + bytes(16) + template


def test_acquire():
    assert event(XfrmMessage.ACQUIRE, acquire(REQID)) == TrafficWaiting(
        reqid=REQID, source=ip_address("10.1.0.10"), destination=ip_address("10.2.0.10")
    )
    assert event(XfrmMessage.ACQUIRE, acquire(1)) is None


def test_mapping():
    def body(reqid):
        return (
            encoded(encode_sa_id(INBOUND.sa_id))
            + struct.pack("I", reqid)
            + SUN.packed.ljust(16, b"\0")
            + ip_address("192.0.2.7").packed.ljust(16, b"\0")
            + struct.pack(">HH", 4500, 61234)
        )

    assert event(XfrmMessage.MAPPING, body(REQID)) == PeerMoved(
        sa_id=INBOUND.sa_id, reqid=REQID, address=ip_address("192.0.2.7"), port=61234
    )
    assert event(XfrmMessage.MAPPING, body(1)) is None
