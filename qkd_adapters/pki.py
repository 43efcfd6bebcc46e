"""``qsgw-kme pki``: a small CA for the key side of a lab or a first installation.

Makes ``ca.pem`` and ``ca.key``, and per name ``NAME.pem`` and ``NAME.key``: server
certificates for KMEs, client certificates for SAEs. ECDSA P-256, key files with mode 0600.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from kms_client.certificates import (
    CA_DAYS,
    CLIENT,
    LEAF_DAYS,
    MAX_NAME,
    SERVER,
    Authority,
    CertificateFileError,
    KeyAlgorithm,
    Profile,
    certify,
    common_name,
    generate_key,
    host_name,
    load_authority,
    make_authority,
    wall_clock,
    write_certificate,
)
from qkd_adapters.errors import PkiError

__all__ = ["LEAF_DAYS", "KmeName", "PkiResult", "make_pki", "parse_kme_name"]

_ALGORITHM = KeyAlgorithm.ECDSA_P256  # what every TLS library takes


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
            authority = load_authority(out)
            kept.append("ca")
        for leaf in leaves:
            if not force and _exists(out, leaf.name):
                kept.append(leaf.name)
            else:
                _make_leaf(out, authority, leaf, days)
                made.append(leaf.name)
    except OSError as error:
        raise PkiError(f"{error.filename or out}: {error.strerror}") from error
    except CertificateFileError as error:
        raise PkiError(str(error)) from error
    return PkiResult(made=tuple(made), kept=tuple(kept))


def _server(kme: KmeName) -> _Leaf:
    alternatives = tuple(host_name(address) for address in kme.addresses)
    return _Leaf(name=kme.name, alternatives=alternatives, usage=SERVER)


def _client(sae: str) -> _Leaf:
    """The URI is what the KME maps to the SAE id by default: see identity.py."""
    uri = x509.UniformResourceIdentifier(f"urn:qsgw:sae:{sae}")
    return _Leaf(name=sae, alternatives=(uri,), usage=CLIENT)


def _exists(out: Path, name: str) -> bool:
    return (out / f"{name}.pem").exists() and (out / f"{name}.key").exists()


def _make_authority(out: Path) -> Authority:
    profile = Profile(
        subject=common_name("qsgw key side CA"), days=CA_DAYS, authority=True, path_length=0
    )
    authority = make_authority(profile, generate_key(_ALGORITHM), now=wall_clock())
    write_certificate(out, "ca", [authority.certificate], authority.key)
    return authority


def _make_leaf(out: Path, authority: Authority, leaf: _Leaf, days: int) -> None:
    profile = Profile(
        subject=common_name(leaf.name),
        days=days,
        alternatives=leaf.alternatives,
        usages=(leaf.usage,),
    )
    key = generate_key(_ALGORITHM)
    certificate = certify(profile, key.public_key(), issuer=authority, now=wall_clock())
    write_certificate(out, leaf.name, [certificate], key)
