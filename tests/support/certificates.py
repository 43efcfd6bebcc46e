"""A PKI in memory for exchange tests: an authority, an intermediate one, moon, sun, a calendar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.crypto.signatures import Signer
from gateway.ike.commands import CertificatesTrusted, CheckCertificates, Failed
from gateway.ike.credentials import OwnKey, TrustedAuthorities
from gateway.model import Revocation
from gateway.pki.authorities import key_hash
from gateway.pki.trust import Anchors, CertificateError, validate
from kms_client.certificates import (
    Authority,
    KeyAlgorithm,
    PrivateKey,
    Profile,
    certify,
    common_name,
    generate_key,
    make_authority,
    make_crl,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@cache
def key_of(name: str, algorithm: KeyAlgorithm) -> PrivateKey:
    """One key for each name: making RSA keys takes long."""
    return generate_key(algorithm)


@dataclass(frozen=True)
class Owner:
    """Somebody with a certificate."""

    certificate: x509.Certificate
    key: PrivateKey
    above: tuple[x509.Certificate, ...] = ()
    root: x509.Certificate | None = None  # None: its authorities are not all known

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (self.der, *(one.public_bytes(Encoding.DER) for one in self.above))

    @property
    def auth(self) -> OwnKey:
        return OwnKey(
            signer=Signer(self.key),
            certificates=self.chain,
            subject=self.certificate.subject.rfc4514_string(),
            authorities=frozenset(
                key_hash(one) for one in (*self.above, self.root) if self.root and one
            ),
        )


class Pki:
    """``ca``, perhaps ``intermediate``, and whom they certify."""

    def __init__(
        self,
        algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256,
        *,
        name: str = "ca",
        intermediate: bool = False,
    ) -> None:
        self.algorithm = algorithm
        self.ca = make_authority(
            Profile(subject=common_name(name), days=3650, authority=True),
            key_of(name, algorithm),
            now=NOW,
        )
        self.intermediate: Authority | None = None
        if intermediate:
            self.intermediate = make_authority(
                Profile(
                    subject=common_name("intermediate"), days=3000, authority=True, path_length=0
                ),
                key_of("intermediate", algorithm),
                issuer=self.ca,
                now=NOW,
            )

    @property
    def issuer(self) -> Authority:
        return self.intermediate or self.ca

    def issue(
        self,
        name: str,
        *,
        algorithm: KeyAlgorithm | None = None,
        days: int = 365,
        now: datetime = NOW,
        alternatives: Sequence[x509.GeneralName] | None = None,
        **profile: object,
    ) -> Owner:
        key = key_of(name, algorithm or self.algorithm)
        names = [x509.DNSName(f"{name}.example")] if alternatives is None else alternatives
        made = Profile(subject=common_name(name), days=days, alternatives=tuple(names))
        certificate = certify(
            replace(made, **profile), key.public_key(), issuer=self.issuer, now=now
        )
        above = () if self.intermediate is None else (self.intermediate.certificate,)
        return Owner(certificate=certificate, key=key, above=above, root=self.ca.certificate)

    def crls(self, *revoked: Owner, days: int = 30) -> tuple[x509.CertificateRevocationList, ...]:
        entries = [
            x509.RevokedCertificateBuilder()
            .serial_number(owner.certificate.serial_number)
            .revocation_date(NOW)
            .build()
            for owner in revoked
        ]
        empty = () if self.intermediate is None else (make_crl(self.ca, [], number=1, now=NOW),)
        return (*empty, make_crl(self.issuer, entries, number=2, now=NOW, days=days))

    def anchors(
        self,
        crls: Sequence[x509.CertificateRevocationList] = (),
        revocation: Revocation = Revocation.OFF,
    ) -> Anchors:
        return Anchors(authorities=(self.ca.certificate,), crls=tuple(crls), revocation=revocation)

    @property
    def trusted(self) -> TrustedAuthorities:
        return TrustedAuthorities(key_hashes=(key_hash(self.ca.certificate),))


def judge(
    anchors: Anchors, now: datetime = NOW
) -> Callable[[CheckCertificates], CertificatesTrusted | Failed]:
    """What answers CheckCertificates."""

    def decide(command: CheckCertificates) -> CertificatesTrusted | Failed:
        try:
            found = validate(command.chain, command.identity, anchors, now)
        except CertificateError as error:
            return Failed(token=command.token, reason=str(error))
        return CertificatesTrusted(
            token=command.token, public_key=found.public_key, subject=found.subject
        )

    return decide
