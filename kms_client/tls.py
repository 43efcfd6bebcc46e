"""The TLS material an SAE shows a KME, checked before it is used.

OpenSSL's own errors do not say which file is at fault; these checks do.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

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


class ContextSource(Protocol):
    """Whatever has a context for the next connection; raises TlsMaterialError without one."""

    def context(self) -> ssl.SSLContext: ...


class ClientTls:
    """The context of these files as they are now: renewed certificates are taken up by themselves.

    While a renewal is half done, or the new files are bad, the old context goes on.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._context: ssl.SSLContext | None = None
        self._versions: tuple[object, ...] = ()  # of the files the context is made of

    def context(self) -> ssl.SSLContext:
        """Raises TlsMaterialError while there is none yet; it may succeed later."""
        files = self._files
        versions = tuple(_version(path) for path in (files.ca, files.certificate, files.key))
        if self._context is None or versions != self._versions:
            try:
                self._context = client_context(files)
            except TlsMaterialError:
                if self._context is None:
                    raise
            else:
                self._versions = versions
        return self._context


def client_context(files: TlsFiles, *, now: datetime | None = None) -> ssl.SSLContext:
    """A context for mutual TLS >= 1.2, as ETSI GS QKD 014 asks, with host name verification.

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
    except OSError as error:  # SSLError is one
        raise TlsMaterialError(f"{files.ca}: {_reason(error)}") from error
    try:
        context.load_cert_chain(files.certificate, files.key)
    except OSError as error:
        raise TlsMaterialError(f"{files.certificate}: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)


def _version(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


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
