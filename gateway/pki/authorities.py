"""The CAs a tunnel trusts, read anew when their files change."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import CredentialError
from gateway.model import Revocation
from gateway.pki.files import load_certificates, load_crls
from gateway.pki.trust import Anchors

log = logging.getLogger("qsgw.pki")

_Version = tuple[int, int, int] | None


def key_hash(authority: x509.Certificate) -> bytes:
    """How CERTREQ names a CA: SHA-1 of its SubjectPublicKeyInfo (RFC 7296 3.7)."""
    spki = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha1(spki, usedforsecurity=False).digest()


def why_no_authority(certificate: x509.Certificate) -> str | None:
    """Why this certificate certifies nobody; None where it may."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return "is not a CA: it has no basicConstraints"
    return None if extension.value.ca else "is not a CA: basicConstraints says so"


class AuthorityFiles:
    """CA and CRL files of one tunnel.

    While a renewal is half done, or the new files are bad, the old ones count on.
    """

    def __init__(
        self, *, ca: Sequence[Path], crl: Sequence[Path] = (), revocation: Revocation
    ) -> None:
        self._ca = tuple(ca)
        self._crl = tuple(crl)
        self._revocation = revocation
        self._anchors: Anchors | None = None
        self._versions: tuple[_Version, ...] = ()

    def current(self) -> Anchors:
        """Raises CredentialError while nothing usable has been read."""
        versions = tuple(_version(path) for path in (*self._ca, *self._crl))
        if self._anchors is None or versions != self._versions:
            try:
                self._anchors = self._read()
            except CredentialError as error:
                if self._anchors is None:
                    raise
                log.warning("%s: what was read before counts on", error)
            self._versions = versions
        return self._anchors

    def _read(self) -> Anchors:
        return Anchors(
            authorities=tuple(one for path in self._ca for one in load_certificates(path)),
            crls=tuple(one for path in self._crl for one in load_crls(path)),
            revocation=self._revocation,
        )


def _version(path: Path) -> _Version:
    """What changes when a file is written or replaced; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
