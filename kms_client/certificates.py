"""Making keys, certificates and CRLs: what the small PKIs of both sides are built from.

A certificate authority here is two files, ``NAME.pem`` and ``NAME.key``. Keys are PKCS #8
without a pass phrase, mode 0600: services start without somebody to type one.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from kms_client.errors import QsgwError

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 365
CRL_DAYS: Final = 30
MAX_NAME: Final = 64  # characters of a common name: RFC 5280 appendix A.1, ub-common-name
# Certificates are valid from a little before now, for hosts whose clocks lag.
BACKDATE: Final = timedelta(hours=1)

PrivateKey = CertificateIssuerPrivateKeyTypes
_KINDS: Final = (
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    rsa.RSAPrivateKey,
    mldsa.MLDSA65PrivateKey,
    mldsa.MLDSA87PrivateKey,
)


class CertificateFileError(QsgwError):
    """A certificate or key cannot be made, or a file of the PKI is not what it should be."""


class KeyAlgorithm(StrEnum):
    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    ED25519 = "ed25519"
    RSA_3072 = "rsa-3072"
    ML_DSA_65 = "ml-dsa-65"  # FIPS 204; certificates by RFC 9881
    ML_DSA_87 = "ml-dsa-87"


_GENERATE: Final[dict[KeyAlgorithm, Callable[[], PrivateKey]]] = {
    KeyAlgorithm.ECDSA_P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyAlgorithm.ECDSA_P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyAlgorithm.ED25519: ed25519.Ed25519PrivateKey.generate,
    KeyAlgorithm.RSA_3072: lambda: rsa.generate_private_key(65537, 3072),
    KeyAlgorithm.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate,
    KeyAlgorithm.ML_DSA_87: mldsa.MLDSA87PrivateKey.generate,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA: its certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a certificate says besides its key and its issuer."""

    subject: x509.Name
    days: int  # from now; negative: it expired so long ago
    alternatives: tuple[x509.GeneralName, ...] = ()
    usages: tuple[ObjectIdentifier, ...] = ()  # extendedKeyUsage; none: not restricted
    authority: bool = False
    path_length: int | None = None  # of an authority: how many may stand below it


SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH


def common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def host_name(address: str) -> x509.GeneralName:
    """An IP address where it is one, or else a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def generate_key(algorithm: KeyAlgorithm) -> PrivateKey:
    return _GENERATE[algorithm]()


def make_authority(
    profile: Profile, key: PrivateKey, *, issuer: Authority | None = None, now: datetime
) -> Authority:
    """A CA that is certified by ``issuer``, or by itself."""
    certificate = certify(profile, key.public_key(), issuer=issuer, own_key=key, now=now)
    return Authority(certificate=certificate, key=key)


def certify(
    profile: Profile,
    public_key: CertificatePublicKeyTypes,
    *,
    issuer: Authority | None,
    now: datetime,
    own_key: PrivateKey | None = None,
) -> x509.Certificate:
    """``own_key`` signs where there is no issuer."""
    signer = issuer.key if issuer is not None else own_key
    if signer is None:
        raise ValueError("nobody signs this certificate")
    builder = (
        x509.CertificateBuilder()
        .subject_name(profile.subject)
        .issuer_name(profile.subject if issuer is None else issuer.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + timedelta(days=profile.days)) - BACKDATE)
        .not_valid_after(now + timedelta(days=profile.days))
        .add_extension(
            x509.BasicConstraints(
                ca=profile.authority, path_length=profile.path_length if profile.authority else None
            ),
            critical=True,
        )
        .add_extension(_key_usage(sign_certificates=profile.authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(_issuer_key_id(issuer.certificate), critical=False)
    if profile.usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.usages), critical=False)
    if profile.alternatives:
        names = x509.SubjectAlternativeName(profile.alternatives)
        builder = builder.add_extension(names, critical=not list(profile.subject))
    return builder.sign(signer, _hash_for(signer))


def make_crl(
    issuer: Authority,
    revoked: Sequence[x509.RevokedCertificate],
    *,
    number: int,
    now: datetime,
    days: int = CRL_DAYS,
) -> x509.CertificateRevocationList:
    """``number`` grows with every CRL of an issuer (RFC 5280 5.2.3)."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(min(now, now + timedelta(days=days)) - BACKDATE)
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issuer_key_id(issuer.certificate), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, _hash_for(issuer.key))


def _issuer_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)


def _hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    match key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
            return hashes.SHA384()
        case ec.EllipticCurvePrivateKey() | rsa.RSAPrivateKey():
            return hashes.SHA256()
        case _:  # Ed25519 and ML-DSA hash by themselves
            return None


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


# --- files -------------------------------------------------------------------------------------


def wall_clock() -> datetime:
    return datetime.now(UTC)


def load_authority(folder: Path, name: str = "ca") -> Authority:
    """From ``NAME.pem`` and ``NAME.key``. Raises CertificateFileError."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        key = serialization.load_pem_private_key(
            (folder / f"{name}.key").read_bytes(), password=None
        )
    except (ValueError, TypeError) as error:
        text = f"{folder}: {name}.pem or {name}.key is not what it should be"
        raise CertificateFileError(text) from error
    except OSError as error:
        raise CertificateFileError(f"{error.filename}: {error.strerror}") from error
    if not isinstance(key, _KINDS) or key.public_key() != certificate.public_key():
        raise CertificateFileError(f"{folder}: {name}.key does not belong to {name}.pem")
    return Authority(certificate=certificate, key=key)


def write_certificate(
    folder: Path, name: str, chain: Sequence[x509.Certificate], key: PrivateKey
) -> None:
    """``NAME.pem``, the chain from the owner's certificate up, and ``NAME.key``. May replace."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    replace_file(folder / f"{name}.key", pem, 0o600)
    certificates = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
    replace_file(folder / f"{name}.pem", certificates, 0o644)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others in between."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.chmod(mode)
    temporary.replace(path)
