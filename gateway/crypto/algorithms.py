"""Numbers and names of the algorithms IKEv2 negotiates (IANA "IKEv2 Parameters").

They stand here, below ``gateway.ike``, because the implementations are keyed by them;
``gateway.ike.registry`` re-exports them beside the protocol's other numbers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class EncryptionId(IntEnum):
    """Transform Type 1. Only AEAD ciphers with a 16-octet ICV are offered or accepted."""

    AES_GCM_16 = 20  # RFC 4106, RFC 5282
    CHACHA20_POLY1305 = 28  # RFC 7634


class PrfId(IntEnum):
    """Transform Type 2 (RFC 4868)."""

    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7


class IntegrityId(IntEnum):
    """Transform Type 3. With AEAD there is none (RFC 7296 3.3)."""

    NONE = 0


class HashId(IntEnum):
    """IKEv2 Hash Algorithms, for SIGNATURE_HASH_ALGORITHMS (RFC 7427)."""

    SHA1 = 1
    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5  # RFC 8420: the message is signed as it is


class KeMethod(IntEnum):
    """Transform Type 4 and, by RFC 9370, Types 6 to 12.

    Numbers from 1024 are for private use (RFC 7296 3.3.2): ours, understood between qsgw
    peers only. Classic McEliece is not among them: its smallest public key (261120 octets)
    does not fit a KE payload, whose length field has 16 bits.
    """

    NONE = 0
    SECP256R1 = 19  # RFC 5903
    SECP384R1 = 20  # RFC 5903
    X25519 = 31  # RFC 8031
    ML_KEM_512 = 35  # draft-ietf-ipsecme-ikev2-mlkem
    ML_KEM_768 = 36
    ML_KEM_1024 = 37
    FRODOKEM_976_SHAKE = 0xF001
    FRODOKEM_1344_SHAKE = 0xF002
    HQC_192 = 0xF003
    HQC_256 = 0xF004


KE_NAMES: Final[dict[int, str]] = {
    KeMethod.NONE: "NONE",
    KeMethod.SECP256R1: "P-256",
    KeMethod.SECP384R1: "P-384",
    KeMethod.X25519: "X25519",
    KeMethod.ML_KEM_512: "ML-KEM-512",
    KeMethod.ML_KEM_768: "ML-KEM-768",
    KeMethod.ML_KEM_1024: "ML-KEM-1024",
    KeMethod.FRODOKEM_976_SHAKE: "FrodoKEM-976-SHAKE",
    KeMethod.FRODOKEM_1344_SHAKE: "FrodoKEM-1344-SHAKE",
    KeMethod.HQC_192: "HQC-192",
    KeMethod.HQC_256: "HQC-256",
}


def ke_name(method: int) -> str:
    """The method's name for people, e.g. ``ML-KEM-768``; a number we do not know as text."""
    return KE_NAMES.get(method, str(method))
