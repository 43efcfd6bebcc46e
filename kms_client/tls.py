"""The TLS material an SAE shows a KME, checked before it is used.

OpenSSL's own errors do not say which file is at fault; these checks do.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from kms_client.errors import TlsMaterialError

_MAX_FILE = 1 << 20  # octets; a PEM bundle is far smaller


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: CA bundle that signs the KME, our certificate (chain), our private key."""

    ca: Path
    certificate: Path
    key: Path


def client_context(files: TlsFiles, *, now: datetime | None = None) -> ssl.SSLContext:
    """A context for mutual TLS >= 1.2 with host name verification (ETSI GS QKD 014 clause 5).

    Raises TlsMaterialError naming the file and what is wrong with it. ``now`` is for tests.
    """
    moment = now or datetime.now(UTC)
    for authority in _certificates(files.ca):
        _check_dates(files.ca, authority, moment)
    own = _certificates(files.certificate)[0]
    _check_dates(files.certificate, own, moment)
    if _spki(own.public_key()) != _spki(_public_key_of(files.key)):
        raise TlsMaterialError(
            f"{files.key}: private key does not match the certificate in {files.certificate}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=files.ca)
    except ssl.SSLError as error:
        raise TlsMaterialError(f"{files.ca}: {error.reason or error}") from error
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise TlsMaterialError(f"{files.certificate}: {error.reason or error}") from error
    return context


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        raise TlsMaterialError(f"{path}: file is missing") from None
    except OSError as error:
        raise TlsMaterialError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise TlsMaterialError(f"{path}: larger than {_MAX_FILE} octets")
    return data


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise TlsMaterialError(f"{path}: holds no PEM certificate") from None


def _public_key_of(path: Path) -> PublicKeyTypes:
    data = _read(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        # A pass phrase would have to lie beside the key: it protects nothing in a daemon.
        raise TlsMaterialError(f"{path}: private key is encrypted; store it unencrypted") from None
    except ValueError:
        raise TlsMaterialError(f"{path}: holds no PEM private key") from None
    return key.public_key()


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _check_dates(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise TlsMaterialError(
            f"{path}: certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    if now < certificate.not_valid_before_utc:
        raise TlsMaterialError(
            f"{path}: certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        )
