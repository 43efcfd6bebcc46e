"""Whether a peer's certificates are to be trusted now. The path is OpenSSL's to validate.

What OpenSSL leaves to its user stands here: for whom the certificate speaks, what it may be
used for in IKE (RFC 4945 5.1.3), how strong the keys and signatures in the path are, and what
a missing or outdated CRL means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ObjectIdentifier
from OpenSSL import crypto

from gateway.crypto.signatures import VerifyKey
from gateway.errors import CryptoError, QsgwError
from gateway.ike.identity import Identity
from gateway.model import Revocation
from gateway.pki.files import UNREADABLE, name_text, subject_of
from gateway.pki.identities import why_not
from kms_client.errors import one_line


class CertificateError(QsgwError):
    """A certificate is not trusted; the text names it and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Who is trusted to certify peers, and what has been revoked."""

    authorities: tuple[x509.Certificate, ...]  # self-signed or not
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    revocation: Revocation = Revocation.OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """The certificate of a peer that may be believed."""

    public_key: bytes  # SubjectPublicKeyInfo
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    now: datetime
    check_dates: bool


_IPSEC_IKE: Final = ObjectIdentifier("1.3.6.1.5.5.7.3.17")  # RFC 4945 5.1.3.12
_ANY_USAGE: Final = ObjectIdentifier("2.5.29.37.0")
_WEAK: Final = (hashes.SHA1, hashes.MD5)
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h
_FLAGS: Final = (
    crypto.X509StoreFlags.X509_STRICT  # RFC 5280 to the letter: basicConstraints, key identifiers
    | crypto.X509StoreFlags.PARTIAL_CHAIN  # an authority need not be self-signed
)
_NO_ISSUER: Final = (2, 19, 20, 21)  # X509_V_ERR_* of OpenSSL's x509_vfy.h
_NO_CRL: Final = 3
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_CRL_EXPIRED: Final = 12
_SELF_SIGNED: Final = 18
_REVOKED: Final = 23


def validate(
    chain: Sequence[bytes],
    identity: Identity,
    anchors: Anchors,
    now: datetime,
    *,
    check_dates: bool = True,
) -> Trusted:
    """``chain``: DER, the peer's own certificate first. Raises CertificateError."""
    try:
        own, *others = [x509.load_der_x509_certificate(one) for one in chain]
        at = _Moment(now=now, check_dates=check_dates)
        return _validate(own, others, identity, anchors, at)
    except (*UNREADABLE, UnsupportedAlgorithm, crypto.Error) as error:
        # cryptography parses names, keys and extensions only when they are looked at
        raise CertificateError(f"peer's certificate cannot be read: {_text(error)}") from error


def _validate(
    own: x509.Certificate,
    others: list[x509.Certificate],
    identity: Identity,
    anchors: Anchors,
    at: _Moment,
) -> Trusted:
    path = _path(own, others, anchors, at)
    for certificate in path[:-1] or path:
        _check_strength(certificate)
    _check_usage(own)
    if anchors.revocation is not Revocation.OFF:
        for certificate in path[:-1]:  # an anchor is trusted because the operator says so
            _check_revocation(certificate, others, anchors, at)
    reason = why_not(own, identity)
    if reason is not None:
        raise CertificateError(reason)
    key = VerifyKey.of(own.public_key())
    return Trusted(public_key=key.der, subject=subject_of(own))


def _path(
    own: x509.Certificate, others: Sequence[x509.Certificate], anchors: Anchors, at: _Moment
) -> list[x509.Certificate]:
    """From the peer's certificate to an anchor, both included. Raises CertificateError."""
    store = _store(anchors, at, _FLAGS)
    context = crypto.X509StoreContext(store, _wrap(own), [_wrap(one) for one in others])
    try:
        found = context.get_verified_chain()
    except crypto.X509StoreContextError as error:
        raise CertificateError(_reason(error)) from error
    return [one.to_cryptography() for one in found]


def _check_revocation(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    anchors: Anchors,
    at: _Moment,
) -> None:
    soft = anchors.revocation is Revocation.SOFT
    if soft:  # the dates of the certificates have been looked at; an old CRL still revokes
        at = _Moment(now=at.now, check_dates=False)
    store = _store(anchors, at, _FLAGS | crypto.X509StoreFlags.CRL_CHECK)
    for crl in anchors.crls:
        store.add_crl(crl)
    context = crypto.X509StoreContext(store, _wrap(certificate), [_wrap(one) for one in others])
    try:
        context.verify_certificate()
    except crypto.X509StoreContextError as error:
        if soft and error.errors[0] == _NO_CRL:
            return
        reason = _reason(error)
        if error.errors[0] == _CRL_EXPIRED:
            reason = _outdated(certificate, anchors)
        raise CertificateError(reason) from error


def _store(anchors: Anchors, at: _Moment, flags: int) -> crypto.X509Store:
    store = crypto.X509Store()
    for authority in anchors.authorities:
        store.add_cert(_wrap(authority))
    store.set_flags(flags if at.check_dates else flags | _NO_CHECK_TIME)
    store.set_time(at.now)
    return store


def _wrap(certificate: x509.Certificate) -> crypto.X509:
    return crypto.X509.from_cryptography(certificate)


def _reason(error: crypto.X509StoreContextError) -> str:
    code = int(error.errors[0])
    certificate = error.certificate.to_cryptography()
    subject, issuer = subject_of(certificate), name_text(certificate.issuer)
    if code == _EXPIRED:
        return f"certificate of {subject} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if code == _NOT_YET_VALID:
        begin = f"{certificate.not_valid_before_utc:%Y-%m-%d}"
        return f"certificate of {subject} is not valid before {begin}"
    if code == _REVOKED:
        return f"certificate of {subject} is revoked"
    if code == _SELF_SIGNED:
        return f"certificate of {subject} is self-signed and not among the configured CAs"
    if code in _NO_ISSUER:
        return (
            f"issuer {issuer} of certificate {subject} is not among the configured CAs "
            "and not among the certificates shown"
        )
    if code == _NO_CRL:
        return f"there is no CRL of {issuer} that says whether certificate {subject} is revoked"
    return f"certificate of {subject}: {_text(error)}"


def _outdated(certificate: x509.Certificate, anchors: Anchors) -> str:
    dates = [
        crl.next_update_utc
        for crl in anchors.crls
        if crl.issuer == certificate.issuer and crl.next_update_utc is not None
    ]
    since = f" since {max(dates):%Y-%m-%d}" if dates else ""
    return f"the CRL of {name_text(certificate.issuer)} is out of date{since}"


def _check_strength(certificate: x509.Certificate) -> None:
    """OpenSSL takes SHA-1 and RSA-1024 where no security level is set."""
    subject = subject_of(certificate)
    if isinstance(certificate.signature_hash_algorithm, _WEAK):
        name = certificate.signature_hash_algorithm.name.upper()
        raise CertificateError(f"certificate of {subject} is signed with {name}")
    try:
        VerifyKey.of(certificate.public_key())
    except CryptoError as error:
        raise CertificateError(f"certificate of {subject}: {error}") from error


def _check_usage(certificate: x509.Certificate) -> None:
    """RFC 4945 5.1.3.2 and 5.1.3.12: where usages are listed, IKE is among them."""
    extensions = certificate.extensions
    subject = subject_of(certificate)
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.digital_signature and not usage.content_commitment:
            raise CertificateError(f"certificate of {subject}: its keyUsage is not for signatures")
    except x509.ExtensionNotFound:
        pass
    try:
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if not {_IPSEC_IKE, _ANY_USAGE} & set(extended):
            raise CertificateError(f"certificate of {subject}: its extendedKeyUsage is not for IKE")
    except x509.ExtensionNotFound:
        pass


def _text(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__
