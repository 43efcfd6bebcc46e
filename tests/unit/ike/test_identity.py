"""Identities as text, octets and in comparison."""

from __future__ import annotations

import pytest
from hypothesis import given

from gateway.ike.errors import ProtocolError
from gateway.ike.identity import Identity
from gateway.ike.registry import IdType
from tests.support.ike_strategies import identities

CASES = [
    # text, type, body in hexadecimal (ID Type | RESERVED | data)
    ("moon.example", IdType.FQDN, "02000000" + b"moon.example".hex()),
    ("moon", IdType.FQDN, "02000000" + b"moon".hex()),
    ("moon@example.org", IdType.RFC822_ADDR, "03000000" + b"moon@example.org".hex()),
    ("192.0.2.1", IdType.IPV4_ADDR, "01000000c0000201"),
    ("2001:db8::1", IdType.IPV6_ADDR, "0500000020010db8000000000000000000000001"),
    ("keyid:6d6f6f6e", IdType.KEY_ID, "0b0000006d6f6f6e"),
]


@pytest.mark.parametrize(("text", "kind", "body"), CASES)
def test_text_and_octets(text: str, kind: IdType, body: str) -> None:
    identity = Identity.parse(text)
    assert identity.type == kind
    assert identity.encode().hex() == body
    assert Identity.decode(bytes.fromhex(body)) == identity
    assert str(identity) == text


@pytest.mark.parametrize(
    "text",
    ["", "moon..example", "-moon", "moon example", "keyid:", "keyid:xyz", "a@b@c", "@b", "möon",
     "x" * 64, ".".join(["abcdefgh"] * 30), "m\N{LATIN SMALL LETTER O WITH DIAERESIS}@x"],
)  # fmt: skip
def test_text_that_is_no_identity(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|names no|hexadecimal"):
        Identity.parse(text)


def test_names_match_without_regard_to_case_and_nothing_else_does() -> None:
    moon = Identity.parse("moon.example")
    assert moon.matches(Identity.parse("MOON.example"))
    assert not moon.matches(Identity.parse("sun.example"))
    assert not moon.matches(Identity(type=IdType.KEY_ID, data=b"moon.example"))
    assert not Identity.parse("a@b").matches(Identity.parse("A@b"))


def test_a_distinguished_name_is_kept_as_it_is() -> None:
    name = Identity.decode(bytes.fromhex("09000000 3000"))
    assert name == Identity(type=IdType.DER_ASN1_DN, data=b"\x30\x00")
    assert str(name) == "dn:"


def test_an_unprintable_name_does_not_reach_the_terminal() -> None:
    assert str(Identity(type=IdType.FQDN, data=b"\x1b[2J")) == "id2:1b5b324a"
    assert str(Identity(type=IdType.FQDN, data=b"\xff")) == "id2:ff"


@pytest.mark.parametrize("body", ["", "010000", "01000000c00002", "05000000c0000201"])
def test_malformed_bodies(body: str) -> None:
    with pytest.raises(ProtocolError):
        Identity.decode(bytes.fromhex(body))


def test_reserved_octets_are_ignored() -> None:
    assert Identity.decode(b"\x02abcmoon") == Identity.parse("moon")


@given(identities)
def test_round_trip(identity: Identity) -> None:
    assert Identity.decode(identity.encode()) == identity
    assert str(identity).isprintable()
