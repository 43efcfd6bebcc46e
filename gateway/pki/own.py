"""Our own certificate: whether it belongs to our key, says who we are, and leads upwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.crypto.signatures import VerifyKey
from gateway.errors import CryptoError
from gateway.ike.identity import Identity
from gateway.model import Revocation
from gateway.pki.authorities import key_hash
from gateway.pki.files import name_text, subject_of
from gateway.pki.identities import own_identity, why_not
from gateway.pki.trust import Anchors, CertificateError, validate


@dataclass(slots=True, kw_only=True)
class Inspection:
    """What there is to say about our chain, and what is made of it."""

    identity: str | None  # who we are, as ``Identity.parse`` reads it
    shown: tuple[bytes, ...] = ()  # DER, what the peer gets: ours first, no self-signed CA
    above: frozenset[bytes] = frozenset()  # CAs that certify it, by key hash; empty: not all known
    errors: list[tuple[str, str]] = field(default_factory=list)  # key of the table, reason
    out_of_time: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def inspect(
    chain: Sequence[x509.Certificate],
    *,
    public_key: VerifyKey | None,
    identity: str | None,
    authorities: Sequence[x509.Certificate],
    now: datetime,
) -> Inspection:
    """``public_key``: of our private key, where that could be read.

    ``identity``: what the operator wrote. ``authorities``: whom the peer's certificates are
    checked with; where ours comes from one of them, it is checked as the peer will do it.
    """
    own, *above = chain
    found = Inspection(identity=identity)
    found.shown = tuple(
        one.public_bytes(Encoding.DER)
        for one in (own, *(other for other in above if other.issuer != other.subject))
    )
    found.above = _above(chain, authorities)
    found.errors += [("certificate", reason) for reason in _order(chain)]
    found.out_of_time += _dates(chain, now)
    reason = _key_problem(own, public_key)
    if reason is not None:
        found.errors.append(reason)
    speaker = _identity(found, own, identity)
    if found.errors or found.out_of_time:
        return found
    top = chain[-1]
    if top.issuer != top.subject and not any(one.subject == top.issuer for one in authorities):
        found.warnings.append(
            f"the chain ends with {subject_of(top)}: the peer must have its issuer, "
            f"{name_text(top.issuer)}, as a CA"
        )
        return found
    if speaker is not None:
        found.errors += _as_the_peer_sees_it(found.shown, speaker, (*authorities, top), now)
    return found


def _above(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> frozenset[bytes]:
    """Up to one that issued itself. Empty where that is in neither: the peer may know it."""
    top = chain[-1]
    roots = [] if top.issuer == top.subject else [one for one in authorities if _issued(one, top)]
    if top.issuer != top.subject and not roots:
        return frozenset()
    return frozenset(key_hash(one) for one in (*chain[1:], *roots))


def _issued(upper: x509.Certificate, lower: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _identity(found: Inspection, own: x509.Certificate, identity: str | None) -> Identity | None:
    if identity is None:
        found.identity = str(own_identity(own))
        return own_identity(own)
    try:
        speaker = Identity.parse(identity)
    except ValueError:
        return None  # is reported where all identities are looked at
    reason = why_not(own, speaker)
    if reason is not None:
        found.errors.append(("local_id", reason))
    return speaker


def _as_the_peer_sees_it(
    shown: Sequence[bytes],
    identity: Identity,
    authorities: tuple[x509.Certificate, ...],
    now: datetime,
) -> Iterator[tuple[str, str]]:
    anchors = Anchors(authorities=authorities, revocation=Revocation.OFF)
    try:
        validate(shown, identity, anchors, now)
    except CertificateError as error:
        yield "certificate", str(error)


def _order(chain: Sequence[x509.Certificate]) -> Iterator[str]:
    for lower, upper in pairwise(chain):
        if not _issued(upper, lower):
            yield (
                f"{subject_of(upper)} stands below {subject_of(lower)} and did not issue it; "
                "the order is: ours, its issuer, and so on"
            )


def _dates(chain: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    for one in chain:
        if one.not_valid_after_utc < now:
            yield f"certificate of {subject_of(one)} expired on {one.not_valid_after_utc:%Y-%m-%d}"
        elif one.not_valid_before_utc > now:
            begin = f"{one.not_valid_before_utc:%Y-%m-%d}"
            yield f"certificate of {subject_of(one)} is not valid before {begin}"


def _key_problem(own: x509.Certificate, public_key: VerifyKey | None) -> tuple[str, str] | None:
    try:
        certified = VerifyKey.of(own.public_key())
    except (CryptoError, ValueError, UnsupportedAlgorithm) as error:
        return "certificate", f"certificate of {subject_of(own)}: {error}"
    if public_key is not None and certified != public_key:
        return "private_key", f"does not belong to the certificate of {subject_of(own)}"
    return None
