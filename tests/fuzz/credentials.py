"""How the ends of a world prove who they are: pre-shared keys, certificates, raw public keys.

Certificates stand in ``corpus/certificates.json``: made anew they would differ each time, and a
campaign is determined by its seed. Their keys are of this file, and Ed25519 signs the same way
twice.

    python -m tests.fuzz.credentials        makes them again
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.crypto.signatures import Signer
from gateway.ike.commands import CertificatesTrusted, CheckCertificates, Failed
from gateway.ike.credentials import KnownKey, OwnKey, TrustedAuthorities
from gateway.pki.authorities import key_hash
from gateway.pki.trust import Anchors
from kms_client.certificates import Profile, certify, common_name, make_authority
from tests.support import certificates

FILE = Path(__file__).parent / "corpus" / "certificates.json"
WAYS: Final = ("psk", "certificates", "certificate of the peer", "raw keys")
"""How an IKE SA with moon is authenticated; with the third, sun has a PSK."""

Judge = Callable[[CheckCertificates], CertificatesTrusted | Failed]


def settings(side: str, way: str) -> dict[str, object]:
    """What ``connection`` takes for moon's or sun's end; with nothing, both have a PSK."""
    other = "sun" if side == "moon" else "moon"
    trusted = TrustedAuthorities(key_hashes=(key_hash(_certificate("ca")),))
    match way:
        case "certificates":
            return {"local_auth": _own(side), "remote_auth": trusted}
        case "certificate of the peer" if side == "moon":
            return {"local_auth": _own("moon")}
        case "certificate of the peer":
            return {"remote_auth": trusted}
        case "raw keys":
            known = KnownKey(public_key=Signer(_key(other)).public)
            return {"local_auth": OwnKey(signer=Signer(_key(side))), "remote_auth": known}
        case _:
            return {}


def judge() -> Judge:
    """Answers CheckCertificates as the daemon would, hostile certificates and all."""
    return certificates.judge(Anchors(authorities=(_certificate("ca"),)))


def foreign_chains() -> tuple[bytes, ...]:
    """Certificates that sun is not to believe, and its own."""
    return tuple(bytes.fromhex(text) for text in _stored().values())


def _own(side: str) -> OwnKey:
    certificate = _certificate(side)
    return OwnKey(
        signer=Signer(_key(side)),
        certificates=(certificate.public_bytes(Encoding.DER),),
        subject=certificate.subject.rfc4514_string(),
        authorities=frozenset((key_hash(_certificate("ca")),)),
    )


def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"fuzz {name}".encode()).digest())


@cache
def _stored() -> dict[str, str]:
    stored: dict[str, str] = json.loads(FILE.read_text())
    return stored


@cache
def _certificate(name: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(bytes.fromhex(_stored()[name]))


def main() -> None:
    """Two authorities, of which one is trusted, and moon and sun certified by each."""
    made = {}
    for authority, suffix in (("ca", ""), ("rogue", "-of-rogue")):
        profile = Profile(subject=common_name(authority), days=3650, authority=True)
        issuer = make_authority(profile, _key(authority), now=certificates.NOW)
        made[authority] = issuer.certificate
        for side in ("moon", "sun"):
            names = (x509.DNSName(f"{side}.example"),)
            profile = Profile(subject=common_name(side), days=3000, alternatives=names)
            public = _key(side).public_key()
            made[side + suffix] = certify(profile, public, issuer=issuer, now=certificates.NOW)
    text = {name: one.public_bytes(Encoding.DER).hex() for name, one in made.items()}
    FILE.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
