"""What stands in a file of a PKI: certificates, CRLs or keys, as people and programs read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.crypto.signatures import VerifyKey
from gateway.errors import CredentialError, CryptoError
from gateway.pki.authorities import why_no_authority
from gateway.pki.files import (
    load_certificates,
    load_crls,
    load_public_key,
    load_signer,
    name_text,
    read,
    subject_of,
)
from gateway.pki.identities import alternative_names, own_identity

Json = dict[str, Any]


def show(path: Path) -> list[Json]:
    """One entry for each object in the file; of a private key no more than its kind."""
    data = read(path)
    if b"-----BEGIN CERTIFICATE-----" in data:
        return [_certificate(one) for one in load_certificates(path)]
    if b"PRIVATE KEY-----" in data:
        return [{"type": "private key", "key": str(load_signer(path).kind)}]
    if b"-----BEGIN PUBLIC KEY-----" in data:
        return [{"type": "public key", "key": str(load_public_key(path).kind)}]
    try:
        return [_crl(one) for one in load_crls(path)]
    except CredentialError:
        raise CredentialError(f"{path} holds no certificate, CRL or key in PEM") from None


def _certificate(one: x509.Certificate) -> Json:
    return {
        "type": "certificate",
        "subject": subject_of(one),
        "issuer": name_text(one.issuer),
        "key": _key(one),
        "ca": why_no_authority(one) is None,
        "not_before": f"{one.not_valid_before_utc:%Y-%m-%d}",
        "not_after": f"{one.not_valid_after_utc:%Y-%m-%d}",
        "identities": [str(name) for name in alternative_names(one)],
        "identity": str(own_identity(one)),
        "serial": f"{one.serial_number:x}",
        "sha256": one.fingerprint(hashes.SHA256()).hex(),
    }


def _key(one: x509.Certificate) -> str:
    try:
        return str(VerifyKey.of(one.public_key()).kind)
    except CryptoError as error:
        return str(error)


def _crl(one: x509.CertificateRevocationList) -> Json:
    end = one.next_update_utc
    return {
        "type": "CRL",
        "issuer": name_text(one.issuer),
        "last_update": f"{one.last_update_utc:%Y-%m-%d}",
        "next_update": None if end is None else f"{end:%Y-%m-%d}",
        "revoked": [f"{entry.serial_number:x}" for entry in one],
    }


def lines(entry: Json) -> list[str]:
    """The same for people."""
    head = entry.get("subject") or entry.get("issuer") or entry["key"]
    found = [f"{entry['type']} {head}"]
    for key, value in entry.items():
        if key in ("type", "subject") or value in (None, [], False):
            continue
        text = ", ".join(value) if isinstance(value, list) else value
        found.append(f"  {key.replace('_', ' '):<12}{'yes' if text is True else text}")
    return found
