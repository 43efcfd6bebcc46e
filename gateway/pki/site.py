"""``qsgw pki``: a CA for a lab or a small site, with an intermediate one where wanted, and CRLs.

In its folder: ``ca.pem``, ``ca.key``, ``ca.crl.pem``, the same for ``intermediate``, and
``NAME.pem`` (the owner's certificate, then the intermediate CA's) and ``NAME.key`` for
everybody. The CRL is all that is kept of revocations.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ObjectIdentifier

from gateway.crypto.signatures import KeyKind, VerifyKey
from gateway.errors import CredentialError
from gateway.pki.files import load_certificates, load_crls, subject_of
from kms_client.certificates import (
    CA_DAYS,
    CLIENT,
    CRL_DAYS,
    MAX_NAME,
    SERVER,
    Authority,
    KeyAlgorithm,
    Profile,
    certify,
    common_name,
    generate_key,
    load_authority,
    make_authority,
    make_crl,
    replace_file,
    wall_clock,
    write_certificate,
)

ROOT, INTERMEDIATE = "ca", "intermediate"
USAGES: Final[dict[str, tuple[ObjectIdentifier, ...]]] = {
    "ike": (),  # RFC 4945 5.1.3.12: better without extendedKeyUsage
    "kme-client": (CLIENT,),
    "kme-server": (SERVER,),
}
_LIKE: Final = {
    KeyKind.P256: KeyAlgorithm.ECDSA_P256,
    KeyKind.P384: KeyAlgorithm.ECDSA_P384,
    KeyKind.ED25519: KeyAlgorithm.ED25519,
    KeyKind.RSA: KeyAlgorithm.RSA_3072,
    KeyKind.ML_DSA_65: KeyAlgorithm.ML_DSA_65,
    KeyKind.ML_DSA_87: KeyAlgorithm.ML_DSA_87,
}
SAE_URI: Final = "urn:qsgw:sae:"  # how our KME finds the SAE id in a client's certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A certificate somebody wants."""

    name: str  # of the files; the common name where ``subject`` is None
    days: int
    algorithm: KeyAlgorithm | None = None  # None: as the CA's
    alternatives: tuple[x509.GeneralName, ...] = ()
    subject: x509.Name | None = None
    usage: str = "ike"  # one of USAGES


def init(
    out: Path,
    *,
    name: str,
    algorithm: KeyAlgorithm,
    intermediate: bool,
    days: int = CA_DAYS,
    force: bool = False,
    now: datetime | None = None,
) -> tuple[Path, ...]:
    """Make the CA and its empty CRLs. Raises CredentialError; never overwrites without force."""
    moment = now or wall_clock()
    _check_name(name)
    names = [ROOT, INTERMEDIATE]
    _check_free(out, names, force=force)
    _make_folder(out)
    profile = Profile(
        subject=common_name(name), days=days, authority=True, path_length=int(intermediate)
    )
    root = make_authority(profile, generate_key(algorithm), now=moment)
    made = [_write_authority(out, ROOT, root, (), moment)]
    if intermediate:
        profile = Profile(
            subject=common_name(f"{name} intermediate"[:MAX_NAME]),
            days=days,
            authority=True,
            path_length=0,
        )
        below = make_authority(profile, generate_key(algorithm), issuer=root, now=moment)
        made.append(_write_authority(out, INTERMEDIATE, below, (), moment))
    else:  # an earlier one, overwritten with force
        for suffix in (".pem", ".key", ".crl.pem"):
            (out / f"{INTERMEDIATE}{suffix}").unlink(missing_ok=True)
    return tuple(path for paths in made for path in paths)


def issue(
    out: Path, order: Order, *, force: bool = False, now: datetime | None = None
) -> tuple[Path, ...]:
    """Make a key and its certificate. Raises CredentialError; never overwrites without force."""
    _check_name(order.name)
    if order.name in (ROOT, INTERMEDIATE):
        raise CredentialError(f"{order.name} is the name of a CA here")
    _check_free(out, [order.name], force=force)
    authority, above = _issuing(out)
    alternatives = order.alternatives
    if order.usage == "kme-client":
        alternatives += (x509.UniformResourceIdentifier(SAE_URI + order.name),)
    profile = Profile(
        subject=common_name(order.name) if order.subject is None else order.subject,
        days=order.days,
        alternatives=alternatives,
        usages=USAGES[order.usage],
    )
    kind = VerifyKey.of(authority.certificate.public_key()).kind
    key = generate_key(order.algorithm or _LIKE[kind])
    certificate = certify(profile, key.public_key(), issuer=authority, now=now or wall_clock())
    _writing(out, lambda: write_certificate(out, order.name, [certificate, *above], key))
    return out / f"{order.name}.pem", out / f"{order.name}.key"


def revoke(out: Path, target: str, *, now: datetime | None = None) -> Path:
    """Put a certificate (NAME in the folder, or a file) on its issuer's CRL."""
    moment = now or wall_clock()
    path = out / f"{target}.pem"
    certificate = load_certificates(path if path.exists() else Path(target))[0]
    for name in _authorities(out):
        authority = load_authority(out, name)
        if not _issued(authority, certificate):
            continue
        entries, number = _entries(out, name)
        if any(one.serial_number == certificate.serial_number for one in entries):
            raise CredentialError(f"certificate of {subject_of(certificate)} is revoked already")
        builder = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        entries.append(builder.revocation_date(moment).build())
        return _write_crl(out, name, authority, entries, number + 1, moment, CRL_DAYS)
    raise CredentialError(f"certificate of {subject_of(certificate)} was not issued by {out}")


def renew_crls(out: Path, *, days: int = CRL_DAYS, now: datetime | None = None) -> tuple[Path, ...]:
    """The same revocations, good for so many days more."""
    moment = now or wall_clock()
    made = []
    for name in _authorities(out):
        authority = load_authority(out, name)
        entries, number = _entries(out, name)
        made.append(_write_crl(out, name, authority, entries, number + 1, moment, days))
    return tuple(made)


def alternative_name(text: str) -> x509.GeneralName:
    """``DNS:sun.example``, ``IP:192.0.2.1``, ``email:a@b.example``, ``URI:...``. ValueError."""
    kind, colon, value = text.partition(":")
    makers: dict[str, Callable[[str], x509.GeneralName]] = {
        "dns": x509.DNSName,
        "ip": lambda address: x509.IPAddress(ipaddress.ip_address(address)),
        "email": x509.RFC822Name,
        "uri": x509.UniformResourceIdentifier,
    }
    if not colon or not value or kind.lower() not in makers:
        raise ValueError(f"{text!r} is not DNS:NAME, IP:ADDRESS, email:ADDRESS or URI:URI")
    return makers[kind.lower()](value)


# --- the folder --------------------------------------------------------------------------------


def _authorities(out: Path) -> list[str]:
    return [name for name in (INTERMEDIATE, ROOT) if (out / f"{name}.key").exists()]


def _issuing(out: Path) -> tuple[Authority, tuple[x509.Certificate, ...]]:
    """Who issues, and which certificates its own need beside them."""
    if (out / f"{INTERMEDIATE}.key").exists():
        authority = load_authority(out, INTERMEDIATE)
        return authority, (authority.certificate,)
    return load_authority(out, ROOT), ()


def _issued(authority: Authority, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _entries(out: Path, name: str) -> tuple[list[x509.RevokedCertificate], int]:
    crl = load_crls(out / f"{name}.crl.pem")[0]
    return list(crl), crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _write_authority(
    out: Path,
    name: str,
    authority: Authority,
    revoked: Sequence[x509.RevokedCertificate],
    now: datetime,
) -> tuple[Path, ...]:
    _writing(out, lambda: write_certificate(out, name, [authority.certificate], authority.key))
    crl = _write_crl(out, name, authority, revoked, 1, now, CRL_DAYS)
    return out / f"{name}.pem", out / f"{name}.key", crl


def _write_crl(  # noqa: PLR0917
    out: Path,
    name: str,
    authority: Authority,
    revoked: Sequence[x509.RevokedCertificate],
    number: int,
    now: datetime,
    days: int,
) -> Path:
    path = out / f"{name}.crl.pem"
    crl = make_crl(authority, revoked, number=number, now=now, days=days)
    _writing(out, lambda: replace_file(path, crl.public_bytes(Encoding.PEM), 0o644))
    return path


def _check_name(name: str) -> None:
    good = name.isprintable() and "/" not in name and not name.startswith(".")
    if not good or not 1 <= len(name) <= MAX_NAME:
        raise CredentialError(f"{name!r}: a name has 1 to {MAX_NAME} characters, and no slash")


def _check_free(out: Path, names: Sequence[str], *, force: bool) -> None:
    for name in names:
        for suffix in (".pem", ".key"):
            path = out / f"{name}{suffix}"
            if path.exists() and not force:
                raise CredentialError(f"{path} is there already; --force overwrites it")


def _make_folder(out: Path) -> None:
    _writing(out, lambda: out.mkdir(parents=True, exist_ok=True))


def _writing(out: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise CredentialError(f"{error.filename or out}: {error.strerror}") from error
