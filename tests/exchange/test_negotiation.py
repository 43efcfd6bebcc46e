"""What the two ends may agree on: proposals, chains of key exchanges, selectors."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.ike.errors import ProtocolError
from gateway.ike.flows import ike_auth
from gateway.ike.payloads import TsPayload
from gateway.ike.proposals import (
    ProposalSpec,
    Transform,
    decode_proposals,
    encode_proposals,
    select,
)
from gateway.ike.registry import ExchangeType, TransformType
from tests.support.ike_pair import ESP_HYBRID, IKE_HYBRID, MOON, SUN, Pair

ALL_SLOTS = (
    "aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke2_frodokem976shake-ke3_ecp256-ke4_mlkem1024"
    "-ke5_ecp384-ke6_frodokem1344shake-ke7_mlkem512"
)
NAMES = {
    "mlkem768": "ML-KEM-768",
    "frodokem976shake": "FrodoKEM-976-SHAKE",
}


def exchanged(pair: Pair) -> tuple[str, ...]:
    """The key exchanges of the IKE SA; both ends have carried out the same."""
    ours, theirs = (side.established[-1].key_exchanges for side in pair.sides)
    assert ours == theirs
    return ours


def intermediates(pair: Pair) -> int:
    return list(pair.exchanges()).count(ExchangeType.IKE_INTERMEDIATE)


# --- several proposals -----------------------------------------------------------------------


def test_the_responders_preference_decides_between_proposals():
    first = "aes256gcm16-prfsha512-x25519-ke1_mlkem1024"
    pair = Pair(toy_kex=True, moon={"ike": (IKE_HYBRID, first)}, sun={"ike": (first, IKE_HYBRID)})
    pair.initiate()
    assert exchanged(pair) == ("X25519", "ML-KEM-1024")
    pair.check_mirrored()


def test_the_only_one_in_common_is_found_wherever_it_stands():
    others = (
        "aes128gcm16-prfsha256-ecp256-ke1_mlkem512",
        "chacha20poly1305-prfsha384-ecp384-ke2_mlkem768",
    )
    pair = Pair(toy_kex=True, moon={"ike": (*others, IKE_HYBRID)}, sun={"ike": (IKE_HYBRID,)})
    pair.initiate()
    assert exchanged(pair) == ("X25519", "ML-KEM-768")
    pair.check_mirrored()


def test_several_esp_proposals():
    esp = ("chacha20poly1305-x25519-ke1_mlkem768-esn", ESP_HYBRID)
    pair = Pair(toy_kex=True, moon={"esp": esp}, sun={"esp": (ESP_HYBRID,)}).initiate().rekey()
    assert {event.encryption for event in pair.moon.ups} == {"AES_GCM_16-256"}
    pair.run(6)
    pair.check_mirrored()


# --- chains of key exchanges (RFC 9370) --------------------------------------------------------


@pytest.mark.parametrize(
    ("ike", "count"),
    [
        ("aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke2_frodokem976shake", 2),
        ("aes256gcm16-prfsha512-x25519-ke1_frodokem976shake-ke2_mlkem768", 2),
        ("aes256gcm16-prfsha512-x25519-ke3_mlkem768-ke7_frodokem976shake", 2),  # not contiguous
        (ALL_SLOTS, 7),
    ],
)
def test_chains(ike, count):
    esp = ike.replace("prfsha512-", "")
    pair = Pair(toy_kex=True, ike=(ike,), esp=(esp,)).initiate()
    words = [word.partition("_")[2] or word for word in ike.split("-")[2:]]
    assert len(exchanged(pair)) == len(words) == count + 1
    assert intermediates(pair) == count
    pair.rekey()
    followups = list(pair.exchanges()).count(ExchangeType.IKE_FOLLOWUP_KE)
    assert followups == count
    assert len(pair.moon.ups[-1].mixed.key_exchanges) == count + 1
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_slots_are_carried_out_in_their_order_whatever_order_they_are_written_in():
    backwards = "aes256gcm16-prfsha512-x25519-ke5_frodokem976shake-ke2_mlkem768"
    pair = Pair(toy_kex=True, ike=(backwards,)).initiate()
    assert exchanged(pair) == ("X25519", NAMES["mlkem768"], exchanged(pair)[2])
    assert "976" in exchanged(pair)[2]


@pytest.mark.parametrize(
    ("moon", "sun", "agreed"),
    [
        ("ke1_mlkem768-ke2_frodokem976shake-ke2_none", "ke1_mlkem768", 2),
        ("ke1_mlkem768", "ke1_mlkem768-ke2_frodokem976shake-ke2_none", 2),
        ("ke1_mlkem768-ke2_frodokem976shake-ke2_none", "ke1_mlkem768-ke2_frodokem976shake", 3),
        (
            "ke1_mlkem768-ke2_frodokem976shake-ke2_none",
            "ke1_mlkem768-ke2_none-ke2_frodokem976shake",
            2,
        ),
        ("ke1_mlkem768-ke2_frodokem976shake", "ke1_mlkem768", 0),
        ("ke1_mlkem768", "ke2_mlkem768", 0),
    ],
)
def test_optional_slots(moon, sun, agreed):
    """``none`` beside others makes a slot optional; the responder prefers as it is written."""
    stem = "aes256gcm16-prfsha512-x25519-"
    pair = Pair(toy_kex=True, moon={"ike": (stem + moon,)}, sun={"ike": (stem + sun,)}).initiate()
    if not agreed:
        pair.run(10)
        assert pair.moon.failures[0].notify == "NO_PROPOSAL_CHOSEN"
        assert not pair.moon.established
    else:
        assert len(exchanged(pair)) == agreed
        pair.check_mirrored()


def test_a_method_serves_one_slot_only():
    """The peer offers ML-KEM-768 in two slots; with it in the first the second needs another."""
    stem = "aes256gcm16-prfsha512-x25519-"
    both = stem + "ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768-ke2_mlkem1024"
    pair = Pair(toy_kex=True, ike=(both,)).initiate()
    assert exchanged(pair) == ("X25519", "ML-KEM-768", "ML-KEM-1024")


# --- bounds ----------------------------------------------------------------------------------


def unknown(proposal, number):
    odd = Transform(type=TransformType.ENCR, id=60000 + number)
    return replace(proposal, number=number, transforms=(odd, *proposal.transforms[1:]))


def test_a_long_list_of_proposals_is_read_to_its_end():
    """255 is what their numbers allow; ours is the last of them."""
    ours = ProposalSpec.parse(IKE_HYBRID).offer(255)
    many = (*(unknown(ours, number) for number in range(1, 255)), ours)
    assert len(encode_proposals(many)) < 0xFFFF
    read = decode_proposals(encode_proposals(many))
    chosen = select(read, (ProposalSpec.parse(IKE_HYBRID),))
    assert chosen is not None
    assert chosen.number == 255


def test_a_longer_one_cannot_be_numbered():
    ours = ProposalSpec.parse(IKE_HYBRID).offer(1)
    octets = encode_proposals([unknown(ours, number % 256) for number in range(1, 258)])
    with pytest.raises(ProtocolError, match="not numbered in order"):
        decode_proposals(octets)


# --- selectors ---------------------------------------------------------------------------------


def narrowed_to(monkeypatch, change, *, keep=False):
    original = ike_auth.traffic_payloads

    def changed(traffic, role):
        payloads = original(traffic, role)
        if traffic.local != (ip_network("10.1.0.0/24"),):
            return payloads
        return [
            replace(
                one,
                selectors=(
                    *(replace(each, **change) for each in one.selectors),
                    *(one.selectors if keep else ()),
                ),
            )
            if isinstance(one, TsPayload)
            else one
            for one in payloads
        ]

    monkeypatch.setattr(ike_auth, "traffic_payloads", changed)


@pytest.mark.parametrize(
    "change",
    [{"protocol": 6}, {"start_port": 443, "end_port": 443}, {"protocol": 17, "end_port": 53}],
)
def test_a_peer_that_offers_single_protocols_or_ports_alone(monkeypatch, change):
    narrowed_to(monkeypatch, change)
    pair = Pair(toy_kex=True).initiate()
    assert pair.moon.failures[0].notify == "TS_UNACCEPTABLE"
    assert "/" in pair.sun.failures[0].reason  # which protocol and ports it was
    pair.run(60)
    pair.check_empty()


def test_the_packet_that_woke_the_peer_may_stand_in_front(monkeypatch):
    narrowed_to(monkeypatch, {"protocol": 6, "start_port": 443, "end_port": 443}, keep=True)
    pair = Pair(toy_kex=True).initiate()
    assert pair.sun.ups[0].remote_networks == (ip_network("10.1.0.0/24"),)
    pair.check_mirrored()


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (("2001:db8:1::/64",), ("2001:db8:2::/64",)),
        (("10.1.0.0/24", "2001:db8:1::/64"), ("10.2.0.0/24", "2001:db8:2::/64")),
        (("10.1.0.0/24", "10.1.9.0/24"), ("10.2.0.0/24",)),
    ],
    ids=["IPv6 in IPv4", "both families", "two networks"],
)
def test_inner_families(local, remote):
    ours = tuple(ip_network(one) for one in local)
    theirs = tuple(ip_network(one) for one in remote)
    pair = Pair(
        toy_kex=True,
        moon={"local_networks": ours, "remote_networks": theirs},
        sun={"local_networks": theirs, "remote_networks": ours},
    ).initiate()
    assert set(pair.moon.ups[0].local_networks) == set(ours)
    assert set(pair.sun.ups[0].local_networks) == set(theirs)
    assert (MOON.version, SUN.version) == (4, 4)
    pair.rekey()
    pair.run(6)
    pair.check_mirrored()


def test_one_end_knows_one_family_only():
    both = {
        "local_networks": (ip_network("10.1.0.0/24"), ip_network("2001:db8:1::/64")),
        "remote_networks": (ip_network("10.2.0.0/24"), ip_network("2001:db8:2::/64")),
    }
    pair = Pair(toy_kex=True, moon=both).initiate()
    assert pair.moon.ups[0].local_networks == (ip_network("10.1.0.0/24"),)
    assert pair.moon.ups[0].remote_networks == (ip_network("10.2.0.0/24"),)
    pair.check_mirrored()
