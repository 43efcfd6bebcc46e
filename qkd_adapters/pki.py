"""``qsgw-kme pki``: a small CA for the key side of a lab or a first installation.

Makes ``ca.pem`` and ``ca.key``, and per name ``NAME.pem`` and ``NAME.key``: server
certificates for KMEs, client certificates for SAEs. ECDSA P-256, key files with mode 0600.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from qkd_adapters.errors import PkiError

CA_DAYS = 3650
LEAF_DAYS = 365
MAX_NAME = 64  # characters of a common name: RFC 5280 appendix A.1, ub-common-name
# Certificates are valid from a little before now, for hosts whose clocks lag.
_BACKDATE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeName:
    """A server and the IP addresses or host names it is reached by."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiResult:
    """Base names of the files in the directory."""

    made: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    name: str
    alternatives: tuple[x509.GeneralName, ...]
    usage: ObjectIdentifier


def parse_kme_name(text: str) -> KmeName:
    """``NAME:ADDRESS[,ADDRESS...]``. Raises ValueError."""
    name, _, rest = text.partition(":")
    addresses = tuple(address for address in rest.split(",") if address)
    if not name or not addresses:
        raise ValueError(f"{text!r} is not NAME:ADDRESS[,ADDRESS...]")
    return KmeName(name=name, addresses=addresses)


def make_pki(
    out: Path, *, kmes: Sequence[KmeName], saes: Sequence[str], force: bool, days: int = LEAF_DAYS
) -> PkiResult:
    """Make what is missing in ``out``, or all of it with ``force``. Raises PkiError.

    Without ``force`` an existing CA signs what is new, and existing certificates stay.
    """
    names = [*(kme.name for kme in kmes), *saes]
    if len({*names, "ca"}) != len(names) + 1:
        raise PkiError("names must differ from each other and from 'ca'")
    if any("/" in name or name.startswith(".") for name in names):
        raise PkiError("a name must be usable as a file name")
    for name in (*names, *(address for kme in kmes for address in kme.addresses)):
        if not name.isascii() or not 1 <= len(name) <= MAX_NAME:
            raise PkiError(f"{name}: a name in a certificate has 1..{MAX_NAME} ASCII characters")
    if not 1 <= days <= CA_DAYS:
        raise PkiError(f"a certificate can last 1..{CA_DAYS} days")
    leaves = [*(_server(kme) for kme in kmes), *(_client(sae) for sae in saes)]
    made, kept = [], []
    try:
        out.mkdir(parents=True, exist_ok=True)
        if force or not _exists(out, "ca"):
            authority = _make_authority(out)
            made.append("ca")
        else:
            authority = _load_authority(out)
            kept.append("ca")
        for leaf in leaves:
            if not force and _exists(out, leaf.name):
                kept.append(leaf.name)
            else:
                _make_leaf(out, authority, leaf, days)
                made.append(leaf.name)
    except OSError as error:
        raise PkiError(f"{error.filename or out}: {error.strerror}") from error
    return PkiResult(made=tuple(made), kept=tuple(kept))


def _server(kme: KmeName) -> _Leaf:
    alternatives = tuple(_general_name(address) for address in kme.addresses)
    return _Leaf(name=kme.name, alternatives=alternatives, usage=ExtendedKeyUsageOID.SERVER_AUTH)


def _client(sae: str) -> _Leaf:
    """The URI is what the KME maps to the SAE id by default: see identity.py."""
    uri = x509.UniformResourceIdentifier(f"urn:qsgw:sae:{sae}")
    return _Leaf(name=sae, alternatives=(uri,), usage=ExtendedKeyUsageOID.CLIENT_AUTH)


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _exists(out: Path, name: str) -> bool:
    return (out / f"{name}.pem").exists() and (out / f"{name}.key").exists()


def _make_authority(out: Path) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("qsgw key side CA")
    certificate = (
        _builder(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(out, "ca", certificate, key)
    return _Authority(certificate=certificate, key=key)


def _load_authority(out: Path) -> _Authority:
    try:
        certificate = x509.load_pem_x509_certificate((out / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((out / "ca.key").read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise PkiError(f"{out}: ca.pem or ca.key is not what it should be") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != (
        certificate.public_key()
    ):
        raise PkiError(f"{out}: ca.key does not belong to ca.pem")
    return _Authority(certificate=certificate, key=key)


def _make_leaf(out: Path, authority: _Authority, leaf: _Leaf, days: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = key.public_key()
    issuer = authority.certificate.subject
    issuer_key_id = authority.certificate.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value
    certificate = (
        _builder(_subject(leaf.name), issuer, public_key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(leaf.alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    _write(out, leaf.name, certificate, key)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=days))
    )


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


def _write(
    out: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(out / f"{name}.key", pem, 0o600)
    _replace(out / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others in between."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.chmod(mode)
    temporary.replace(path)
