"""Certificates, CRLs and keys in PEM files. Every error names the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from gateway.crypto.signatures import Signer, VerifyKey
from gateway.errors import CredentialError, CryptoError
from kms_client.errors import one_line

FILE_MAX: Final = 1 << 22  # octets; a CRL of a large CA has some megabytes
UNREADABLE: Final = (  # what cryptography raises for certificates that are none
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def read(path: Path) -> bytes:
    """CredentialError where it cannot be read, or is far too long."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as error:
        raise CredentialError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > FILE_MAX:
        raise CredentialError(f"{path} is longer than {FILE_MAX} octets")
    return data


def load_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """At least one, in the order of the file. Raises CredentialError."""
    try:
        return tuple(x509.load_pem_x509_certificates(read(path)))
    except UNREADABLE:
        raise CredentialError(f"{path} holds no PEM certificate, or a broken one") from None


def load_crls(path: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """At least one. Raises CredentialError."""
    data = read(path)
    blocks = _CRL.findall(data)
    try:
        crls = tuple(x509.load_pem_x509_crl(block) for block in blocks)
        if not crls:
            crls = (x509.load_der_x509_crl(data),)  # as CAs publish them
    except UNREADABLE:
        raise CredentialError(f"{path} holds no CRL, or a broken one") from None
    return crls


def load_signer(path: Path) -> Signer:
    """A private key, PKCS #8 or older PEM. Raises CredentialError."""
    try:
        key = serialization.load_pem_private_key(read(path), password=None)
        return Signer(key)
    except TypeError:
        # A pass phrase would have to lie beside the key: it protects nothing in a daemon.
        raise CredentialError(f"{path}: the key is encrypted; store it unencrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialError(f"{path} holds no PEM private key we can use") from None
    except CryptoError as error:
        raise CredentialError(f"{path}: {error}") from None


def load_public_key(path: Path) -> VerifyKey:
    """A public key in PEM, or that of a certificate. Raises CredentialError."""
    data = read(path)
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            return VerifyKey.of(x509.load_pem_x509_certificate(data).public_key())
        return VerifyKey.of(serialization.load_pem_public_key(data))
    except (*UNREADABLE, UnsupportedAlgorithm):
        raise CredentialError(f"{path} holds no PEM public key") from None
    except CryptoError as error:
        raise CredentialError(f"{path}: {error}") from None


def subject_of(certificate: x509.Certificate) -> str:
    """One line, e.g. ``CN=sun,O=Example``; "an empty name" where there is none."""
    return name_text(certificate.subject)


def name_text(name: x509.Name) -> str:
    return one_line(name.rfc4514_string()) or "an empty name"
