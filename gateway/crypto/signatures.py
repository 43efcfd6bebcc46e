"""Digital signatures: keys, and the schemes of RFC 7427 by their AlgorithmIdentifier.

Nothing is read here: keys come in as objects of ``cryptography`` or as DER. A private key
shows itself in no repr, message or log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from gateway.crypto.algorithms import HashId
from gateway.errors import CryptoError

RSA_MIN: Final = 2048  # bits: RFC 8247 4.1.1
RSA_MAX: Final = 8192  # bits, ours: a verification stays in the milliseconds

_PrivateKey = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | rsa.RSAPrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
_PublicKey = (
    ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | rsa.RSAPublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


class KeyKind(StrEnum):
    """What a key is, for people."""

    P256 = "ECDSA-P256"
    P384 = "ECDSA-P384"
    ED25519 = "Ed25519"
    RSA = "RSA"
    ML_DSA_65 = "ML-DSA-65"
    ML_DSA_87 = "ML-DSA-87"


class Family(StrEnum):
    """How a signature is made."""

    ECDSA = "ECDSA"
    ED25519 = "Ed25519"
    RSA_PSS = "RSA-PSS"
    RSA_PKCS1 = "RSA-PKCS1"
    ML_DSA_65 = "ML-DSA-65"
    ML_DSA_87 = "ML-DSA-87"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One way to sign. ``identifier`` is what we send, ``variants`` what means the same."""

    family: Family
    hash: HashId
    identifier: bytes  # DER AlgorithmIdentifier
    variants: tuple[bytes, ...] = ()

    def text(self, kind: KeyKind) -> str:
        """For people, e.g. ``ECDSA-P384-SHA384``."""
        if self.hash is HashId.IDENTITY:
            return kind.value
        name = kind.value if self.family is Family.ECDSA else self.family.value
        return f"{name}-SHA{_HASHES[self.hash].digest_size * 8}"


_HASHES: Final[dict[HashId, hashes.HashAlgorithm]] = {
    HashId.SHA2_256: hashes.SHA256(),
    HashId.SHA2_384: hashes.SHA384(),
    HashId.SHA2_512: hashes.SHA512(),
}
HASHES_OF: Final[dict[KeyKind, tuple[HashId, ...]]] = {
    # Best first: the hash as strong as the curve (RFC 5480 4), then what is stronger.
    KeyKind.P256: (HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512),
    KeyKind.P384: (HashId.SHA2_384, HashId.SHA2_512, HashId.SHA2_256),
    KeyKind.RSA: (HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512),
    KeyKind.ED25519: (HashId.IDENTITY,),  # RFC 8420 2
    KeyKind.ML_DSA_65: (HashId.IDENTITY,),  # draft-ietf-ipsecme-ikev2-pqc-auth 3.1
    KeyKind.ML_DSA_87: (HashId.IDENTITY,),
}
_FAMILIES: Final[dict[KeyKind, tuple[Family, ...]]] = {
    KeyKind.P256: (Family.ECDSA,),
    KeyKind.P384: (Family.ECDSA,),
    KeyKind.RSA: (Family.RSA_PSS, Family.RSA_PKCS1),  # RFC 7427 3: prefer PSS
    KeyKind.ED25519: (Family.ED25519,),
    KeyKind.ML_DSA_65: (Family.ML_DSA_65,),
    KeyKind.ML_DSA_87: (Family.ML_DSA_87,),
}


# --- AlgorithmIdentifiers ----------------------------------------------------------------------

_SEQUENCE: Final = 0x30
_NULL: Final = bytes.fromhex("0500")
_OID_SHA2: Final = {  # RFC 5754 2: 2.16.840.1.101.3.4.2.{1,2,3}
    HashId.SHA2_256: bytes.fromhex("0609608648016503040201"),
    HashId.SHA2_384: bytes.fromhex("0609608648016503040202"),
    HashId.SHA2_512: bytes.fromhex("0609608648016503040203"),
}
_OID_PSS: Final = bytes.fromhex("06092a864886f70d01010a")  # RFC 8017 A.2.3
_OID_MGF1: Final = bytes.fromhex("06092a864886f70d010108")
_TRAILER: Final = bytes.fromhex("a303020101")  # trailerField 1, the default


def _der(tag: int, *parts: bytes) -> bytes:
    """Content shorter than 128 octets, as all of it is here."""
    content = b"".join(parts)
    return bytes((tag, len(content))) + content


def _pss(hash_id: HashId, *, null: bytes, trailer: bytes) -> bytes:
    """id-RSASSA-PSS with MGF1 over the same hash and a salt of its size (RFC 4055 3.1)."""
    digest = _der(_SEQUENCE, _OID_SHA2[hash_id], null)
    salt = bytes((0x02, 1, _HASHES[hash_id].digest_size))
    parameters = _der(
        _SEQUENCE,
        _der(0xA0, digest),
        _der(0xA1, _der(_SEQUENCE, _OID_MGF1, digest)),
        _der(0xA2, salt),
        trailer,
    )
    return _der(_SEQUENCE, _OID_PSS, parameters)


def _pss_scheme(hash_id: HashId) -> Scheme:
    """As RFC 7427 A.4.3 writes it; NULL parameters and trailer may be left out (RFC 4055 2.1)."""
    first, *others = (
        _pss(hash_id, null=null, trailer=trailer)
        for null in (_NULL, b"")
        for trailer in (_TRAILER, b"")
    )
    return Scheme(family=Family.RSA_PSS, hash=hash_id, identifier=first, variants=tuple(others))


def _fixed(family: Family, hash_id: HashId, identifier: str) -> Scheme:
    return Scheme(family=family, hash=hash_id, identifier=bytes.fromhex(identifier))


SCHEMES: Final = (
    # RFC 7427 A.3
    _fixed(Family.ECDSA, HashId.SHA2_256, "300a06082a8648ce3d040302"),
    _fixed(Family.ECDSA, HashId.SHA2_384, "300a06082a8648ce3d040303"),
    _fixed(Family.ECDSA, HashId.SHA2_512, "300a06082a8648ce3d040304"),
    # RFC 7427 A.4.3
    _pss_scheme(HashId.SHA2_256),
    _pss_scheme(HashId.SHA2_384),
    _pss_scheme(HashId.SHA2_512),
    # RFC 7427 A.1
    _fixed(Family.RSA_PKCS1, HashId.SHA2_256, "300d06092a864886f70d01010b0500"),
    _fixed(Family.RSA_PKCS1, HashId.SHA2_384, "300d06092a864886f70d01010c0500"),
    _fixed(Family.RSA_PKCS1, HashId.SHA2_512, "300d06092a864886f70d01010d0500"),
    # RFC 8420 A.1
    _fixed(Family.ED25519, HashId.IDENTITY, "300506032b6570"),
    # draft-ietf-ipsecme-ikev2-pqc-auth, RFC 9881 2: parameters absent
    _fixed(Family.ML_DSA_65, HashId.IDENTITY, "300b0609608648016503040312"),
    _fixed(Family.ML_DSA_87, HashId.IDENTITY, "300b0609608648016503040313"),
)
_BY_IDENTIFIER: Final = {
    identifier: scheme for scheme in SCHEMES for identifier in (scheme.identifier, *scheme.variants)
}
ANNOUNCED_HASHES: Final = (
    HashId.SHA2_256,
    HashId.SHA2_384,
    HashId.SHA2_512,
    HashId.IDENTITY,
)
"""What we accept in a peer's signature; SHA-1 is not among it (RFC 8247 3.2)."""


def scheme_of(identifier: bytes) -> Scheme | None:
    """The scheme this AlgorithmIdentifier names."""
    return _BY_IDENTIFIER.get(identifier)


def scheme_for(family: Family, hash_id: HashId) -> Scheme:
    """KeyError where a family does not go with a hash."""
    found = {(scheme.family, scheme.hash): scheme for scheme in SCHEMES}
    return found[family, hash_id]


def usable_schemes(kind: KeyKind, announced: Iterable[int]) -> list[Scheme]:
    """For a peer that announced these hashes (RFC 7427 4), our best first."""
    accepted = frozenset(announced)
    return [
        scheme_for(family, hash_id)
        for family in _FAMILIES[kind]
        for hash_id in HASHES_OF[kind]
        if hash_id in accepted
    ]


# --- keys --------------------------------------------------------------------------------------


def kind_of(key: PublicKeyTypes | PrivateKeyTypes) -> KeyKind:
    """CryptoError where we cannot use keys of this kind or size."""
    match key:
        case ec.EllipticCurvePublicKey() | ec.EllipticCurvePrivateKey():
            return _kind_on(key.curve)
        case rsa.RSAPublicKey() | rsa.RSAPrivateKey():
            if not RSA_MIN <= key.key_size <= RSA_MAX:
                raise CryptoError(f"RSA key of {key.key_size} bits, not {RSA_MIN} to {RSA_MAX}")
            return KeyKind.RSA
        case ed25519.Ed25519PublicKey() | ed25519.Ed25519PrivateKey():
            return KeyKind.ED25519
        case mldsa.MLDSA65PublicKey() | mldsa.MLDSA65PrivateKey():
            return KeyKind.ML_DSA_65
        case mldsa.MLDSA87PublicKey() | mldsa.MLDSA87PrivateKey():
            return KeyKind.ML_DSA_87
        case _:
            name = type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
            raise CryptoError(f"{name.lstrip('_')} keys are not supported")


def _kind_on(curve: ec.EllipticCurve) -> KeyKind:
    match curve:
        case ec.SECP256R1():
            return KeyKind.P256
        case ec.SECP384R1():
            return KeyKind.P384
        case _:
            raise CryptoError(f"keys on curve {curve.name} are not supported")


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key. Equal keys compare equal."""

    der: bytes  # SubjectPublicKeyInfo
    kind: KeyKind = field(compare=False)
    _key: _PublicKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: PublicKeyTypes) -> Self:
        """CryptoError where we cannot use keys of this kind."""
        kind = kind_of(key)
        if not isinstance(key, _PublicKey):
            raise TypeError(key)
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(der, kind, key)

    @classmethod
    def load(cls, der: bytes) -> Self:
        """From a SubjectPublicKeyInfo. CryptoError where it is none, or not of our kinds."""
        try:
            return cls.of(load_der_public_key(der))
        except (ValueError, UnsupportedAlgorithm):
            raise CryptoError("not a public key we can read") from None

    def accepts(self, scheme: Scheme) -> bool:
        """Whether a key of this kind makes such signatures."""
        return scheme.family in _FAMILIES[self.kind] and scheme.hash in HASHES_OF[self.kind]

    def verify(self, scheme: Scheme, signature: bytes, message: bytes) -> bool:
        """Whether the signature is good; False also where the scheme is another kind's."""
        if not self.accepts(scheme):
            return False
        key = self._key
        try:
            match key:
                case ec.EllipticCurvePublicKey():
                    key.verify(signature, message, ec.ECDSA(_HASHES[scheme.hash]))
                case rsa.RSAPublicKey():
                    key.verify(signature, message, _padding(scheme), _HASHES[scheme.hash])
                case _:  # pure mode and, for ML-DSA, an empty context (FIPS 204 5.2)
                    key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private key. Equal where the public keys are; its repr shows no more than the kind."""

    __slots__ = ("_key", "public")

    def __init__(self, key: PrivateKeyTypes) -> None:
        """CryptoError where we cannot use keys of this kind."""
        kind_of(key)
        if not isinstance(key, _PrivateKey):
            raise TypeError(key)
        self._key = key
        self.public = VerifyKey.of(key.public_key())

    @property
    def kind(self) -> KeyKind:
        return self.public.kind

    def sign(self, scheme: Scheme, message: bytes) -> bytes:
        """ECDSA signatures are DER (RFC 7427 A.3)."""
        if not self.public.accepts(scheme):
            raise ValueError(f"{self.kind} keys make no {scheme.family} signatures")
        key = self._key
        match key:
            case ec.EllipticCurvePrivateKey():
                return key.sign(message, ec.ECDSA(_HASHES[scheme.hash]))
            case rsa.RSAPrivateKey():
                return key.sign(message, _padding(scheme), _HASHES[scheme.hash])
            case _:
                return key.sign(message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signer) and self.public == other.public

    def __hash__(self) -> int:
        return hash(self.public)

    def __repr__(self) -> str:
        return f"<Signer {self.kind}>"


def _padding(scheme: Scheme) -> padding.AsymmetricPadding:
    if scheme.family is Family.RSA_PKCS1:
        return padding.PKCS1v15()
    digest = _HASHES[scheme.hash]
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


# --- ECDSA as RFC 4754 writes it -----------------------------------------------------------------


def ecdsa_to_fixed(signature: bytes, size: int) -> bytes:
    """From DER to r | s, each of ``size`` octets (RFC 4754 7)."""
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def ecdsa_from_fixed(signature: bytes, size: int) -> bytes | None:
    """From r | s to DER; None where the length is wrong."""
    if len(signature) != 2 * size:
        return None
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    return encode_dss_signature(r, s)
