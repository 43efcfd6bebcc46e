"""Identities: the body of IDi and IDr payloads (RFC 7296 3.5) and their text form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self

from cryptography import x509

from gateway.ike.registry import IdType
from gateway.ike.wire import Reader, syntax_error
from kms_client.errors import one_line

_ADDRESS_SIZES: Final[dict[int, int]] = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAILBOX: Final = re.compile(r"[!-?A-~]+@[!-?A-~]+")
_KEY_ID_PREFIX: Final = "keyid:"
_DN_PREFIX: Final = "dn:"
_SHOWN: Final = 64  # octets


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a gateway says it is. ``type`` is an IdType, or a number we do not know."""

    type: int
    data: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a host name, mail address, IP address, "keyid:6d6f" or "dn:CN=moon,O=Example".

        A distinguished name is written as RFC 4514 has it: the last of its parts first.
        ValueError with the reason where the text is none of these.
        """
        if text.startswith(_DN_PREFIX):
            return cls.of_name(_name(text))
        if text.startswith(_KEY_ID_PREFIX):
            return cls(type=IdType.KEY_ID, data=_key_id(text))
        try:
            address = ip_address(text)
        except ValueError:
            address = None
        match address:
            case IPv4Address():
                return cls(type=IdType.IPV4_ADDR, data=address.packed)
            case IPv6Address():
                return cls(type=IdType.IPV6_ADDR, data=address.packed)
        if "@" in text:
            if not _MAILBOX.fullmatch(text):
                raise ValueError(f"{text!r} is not a mail address")
            return cls(type=IdType.RFC822_ADDR, data=text.encode("ascii"))
        if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
            raise ValueError(
                f"{text!r} is not a host name, mail address, IP address, keyid:HEX or dn:NAME"
            )
        return cls(type=IdType.FQDN, data=text.encode("ascii"))

    @classmethod
    def of_name(cls, name: x509.Name) -> Self:
        """ID_DER_ASN1_DN."""
        return cls(type=IdType.DER_ASN1_DN, data=name.public_bytes())

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """From a payload body: ID Type | RESERVED (3) | Identification Data."""
        reader = Reader(body, "ID payload")
        kind = reader.u8()
        reader.octets(3)
        data = reader.rest()
        if kind in _ADDRESS_SIZES and len(data) != _ADDRESS_SIZES[kind]:
            raise syntax_error(f"ID payload: address of {len(data)} octets")
        return cls(type=kind, data=data)

    def encode(self) -> bytes:
        """The payload body: what RFC 7296 2.15 calls RestOfIDPayload."""
        return bytes((self.type, 0, 0, 0)) + self.data

    def matches(self, other: Identity) -> bool:
        """Same identity.

        Host names compare without regard to case (RFC 4343), distinguished names without
        regard to case, spaces and the kind of string (RFC 5280 7.1).
        """
        if self.type != other.type:
            return False
        if self.type == IdType.FQDN:
            return self.data.lower() == other.data.lower()
        if self.type == IdType.DER_ASN1_DN and self.data != other.data:
            ours, theirs = distinguished_name(self.data), distinguished_name(other.data)
            return ours is not None and theirs is not None and same_name(ours, theirs)
        return self.data == other.data

    def __str__(self) -> str:
        match self.type:
            case IdType.IPV4_ADDR | IdType.IPV6_ADDR:
                return str(ip_address(self.data))
            case IdType.FQDN | IdType.RFC822_ADDR if self.data.isascii():
                text = self.data.decode("ascii")
                if text.isprintable():
                    return one_line(text)
            case IdType.DER_ASN1_DN if (name := distinguished_name(self.data)) is not None:
                return _DN_PREFIX + one_line(name.rfc4514_string())
            case IdType.KEY_ID:
                return _KEY_ID_PREFIX + _hex(self.data)
        return f"id{self.type}:{_hex(self.data)}"


def _hex(data: bytes) -> str:
    """A peer may send any length; a log line takes no more than this."""
    shown = data[:_SHOWN].hex()
    return shown if len(data) <= _SHOWN else f"{shown}..."


def _key_id(text: str) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix(_KEY_ID_PREFIX))
    except ValueError:
        raise ValueError(f"{text!r}: keyid: is followed by hexadecimal digits") from None
    if not data:
        raise ValueError(f"{text!r} names no key")
    return data


def _name(text: str) -> x509.Name:
    try:
        name = x509.Name.from_rfc4514_string(text.removeprefix(_DN_PREFIX))
    except ValueError as error:
        raise ValueError(f"{text!r} is not dn:CN=...,O=... as RFC 4514 writes it") from error
    if not list(name):
        raise ValueError(f"{text!r} is an empty name")
    return name


def distinguished_name(der: bytes) -> x509.Name | None:
    """The Name these octets encode, if they encode one."""
    try:
        return x509.Name.from_bytes(der)
    except (ValueError, TypeError):  # TypeError: a string of a kind its attribute cannot have
        return None


def same_name(one: x509.Name, other: x509.Name) -> bool:
    """RFC 5280 7.1: attribute by attribute, in order."""
    return [_folded(rdn) for rdn in one.rdns] == [_folded(rdn) for rdn in other.rdns]


def _folded(rdn: x509.RelativeDistinguishedName) -> frozenset[tuple[str, str | bytes]]:
    return frozenset(
        (
            attribute.oid.dotted_string,
            " ".join(attribute.value.split()).casefold()
            if isinstance(attribute.value, str)
            else attribute.value,
        )
        for attribute in rdn
    )
