"""How one side of an IKE SA proves who it is. Each side has a way of its own (RFC 7296 2.15)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.crypto.secret import Secret
from gateway.crypto.signatures import Signer, VerifyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedKey:
    """A pre-shared key, ours or what the peer must know."""

    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKey:
    """We sign. Without certificates ours is a raw public key (RFC 7670)."""

    signer: Signer
    certificates: tuple[bytes, ...] = ()  # DER, our own first, then those that certify it
    subject: str = ""  # of our certificate, as RFC 4514 writes it
    authorities: frozenset[bytes] = frozenset()
    """SHA-1 of the key of each CA above our certificate; empty where not all are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedAuthorities:
    """The peer shows a certificate that leads to one of these; checking it is the outside's."""

    key_hashes: tuple[bytes, ...]  # SHA-1 of each CA's SubjectPublicKeyInfo, 20 octets each


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """The peer signs with this key and no other (RFC 7670)."""

    public_key: VerifyKey


LocalAuth = SharedKey | OwnKey
RemoteAuth = SharedKey | TrustedAuthorities | KnownKey
