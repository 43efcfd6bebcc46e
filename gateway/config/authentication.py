"""How the two ends of a tunnel prove who they are: keys and certificates, checked as a whole.

we    certificate + private_key | private_key alone (raw public key) | psk
peer  ca [crl, revocation]      | remote_public_key                  | psk
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.config.credentials import CredentialReader
from gateway.config.files import read_psk
from gateway.config.problems import TableProblems
from gateway.config.schema import Authentication, OwnCertificate, TrustConfig
from gateway.config.tables import TunnelTable
from gateway.crypto.secret import Secret
from gateway.ike.credentials import (
    KnownKey,
    OwnKey,
    RemoteAuth,
    SharedKey,
    TrustedAuthorities,
)
from gateway.model import Revocation

if TYPE_CHECKING:
    from cryptography import x509

    from gateway.crypto.signatures import Signer

ENDS_SOON: Final = timedelta(days=30)  # before the end of a certificate its operator is warned

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ours:
    """What was read of our own key and certificate."""

    identity: str | None
    auth: OwnKey | None = None
    certificate: OwnCertificate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationReader:
    """Reads the keys of one tunnel table that say how its ends authenticate."""

    credentials: CredentialReader
    now: datetime
    tolerate_dates: bool  # a certificate out of its time is no reason not to start

    def read(self, at: TableProblems, table: TunnelTable) -> Authentication | None:
        """None where something in it is wrong."""
        self._check_combination(at, table)
        psk = SharedKey(key=self.credentials.secret(at, "psk", table.psk, read_psk) or Secret(b""))
        remote: RemoteAuth = psk
        ours = _Ours(identity=table.local_id)
        trust: TrustConfig | None = None
        authorities: tuple[x509.Certificate, ...] = ()
        if table.ca is not None:
            authorities, remote, trust = self._authorities(at, table, table.ca)
        elif table.remote_public_key is not None:
            remote = self._known_key(at, table.remote_public_key) or psk
        if table.private_key is not None and not at.failed:
            ours = self._own_key(at, table, table.private_key, authorities)
        if at.failed:
            return None
        return Authentication(
            local=ours.auth or psk,  # psk also where the key cannot be looked at from here
            remote=remote,
            own_certificate=ours.certificate,
            trust=trust,
            local_id=ours.identity or "",
        )

    def _check_combination(self, at: TableProblems, table: TunnelTable) -> None:
        if table.certificate is not None and table.private_key is None:
            at.error("private_key", "is needed with certificate")
        if table.ca is not None and table.remote_public_key is not None:
            at.error("remote_public_key", "the peer shows a certificate (ca) or has this key")
        if table.ca is None:
            for key in ("crl", "revocation"):
                if getattr(table, key):
                    at.error(key, "needs ca: it is about the peer's certificates")
        if table.revocation is Revocation.REQUIRE and not table.crl:
            at.error("crl", 'revocation = "require" needs CRLs')
        if table.revocation is Revocation.OFF and table.crl:
            at.warn("crl", 'is not looked at with revocation = "off"')
        local = table.certificate is not None or table.private_key is not None
        remote = table.ca is not None or table.remote_public_key is not None
        if table.psk is None and not local and not at.has("psk"):
            at.error("psk", "this key is missing; or give certificate and private_key")
        if table.psk is None and not remote and not at.has("psk"):
            at.error("psk", "this key is missing; or give ca, for a peer with a certificate")
        if table.psk is not None and local and remote:
            at.warn("psk", "is not used: neither side authenticates with it")
        if table.local_id is None and table.certificate is None and not at.has("local_id"):
            at.error("local_id", "this key is missing; only a certificate says who we are")

    # --- the peer ----------------------------------------------------------------------------

    def _authorities(
        self, at: TableProblems, table: TunnelTable, references: Sequence[str]
    ) -> tuple[tuple[x509.Certificate, ...], TrustedAuthorities, TrustConfig]:
        from gateway.pki.authorities import key_hash, why_no_authority  # noqa: PLC0415  heavy
        from gateway.pki.files import load_certificates, load_crls, subject_of  # noqa: PLC0415

        ca_files, found = self._files(at, "ca", references, load_certificates)
        for certificate in found:
            reason = why_no_authority(certificate)
            if reason is not None:
                at.error("ca", f"{subject_of(certificate)} {reason}")
            elif certificate.not_valid_after_utc < self.now:
                day = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
                at.warn("ca", f"certificate of {subject_of(certificate)} expired on {day}")
        crl_files, crls = self._files(at, "crl", table.crl, load_crls)
        for crl in crls:
            end = crl.next_update_utc
            if end is not None and end < self.now:
                at.warn("crl", f"the CRL of {crl.issuer.rfc4514_string()} is out of date")
        default = Revocation.SOFT if table.crl else Revocation.OFF
        trust = TrustConfig(ca=ca_files, crl=crl_files, revocation=table.revocation or default)
        remote = TrustedAuthorities(key_hashes=tuple(key_hash(one) for one in found))
        return found, remote, trust

    def _known_key(self, at: TableProblems, reference: str) -> KnownKey | None:
        from gateway.pki.files import load_public_key  # noqa: PLC0415  heavy

        path = at.read("remote_public_key", self.credentials.files.resolve, reference)
        if path is None:
            return None
        key = at.read("remote_public_key", lambda _: load_public_key(path), reference)
        return None if at.failed else KnownKey(public_key=key)

    def _files(
        self,
        at: TableProblems,
        key: str,
        references: Sequence[str],
        load: Callable[[Path], tuple[T, ...]],
    ) -> tuple[tuple[Path, ...], tuple[T, ...]]:
        paths: list[Path] = []
        found: list[T] = []
        for reference in references:
            if self.credentials.skipped(at, key, reference):
                continue
            path = at.read(key, self.credentials.files.resolve, reference)
            if path is None:
                continue
            paths.append(path)
            found.extend(at.read(key, lambda _, path=path: load(path), reference) or ())  # type: ignore[misc]
        return tuple(paths), tuple(found)

    # --- we ----------------------------------------------------------------------------------

    def _own_key(
        self,
        at: TableProblems,
        table: TunnelTable,
        reference: str,
        authorities: Sequence[x509.Certificate],
    ) -> _Ours:
        from gateway.pki.files import load_signer  # noqa: PLC0415  heavy

        signer = self.credentials.secret(at, "private_key", reference, load_signer)
        if table.certificate is not None:
            if self.credentials.skipped(at, "certificate", table.certificate):
                return _Ours(identity=table.local_id)
            path = at.read("certificate", self.credentials.files.resolve, table.certificate)
            if not at.failed:
                return self._certified(at, path, table.local_id, signer, authorities)
        auth = None if signer is None else OwnKey(signer=signer)
        return _Ours(auth=auth, identity=table.local_id)

    def _certified(
        self,
        at: TableProblems,
        path: Path,
        identity: str | None,
        signer: Signer | None,
        authorities: Sequence[x509.Certificate],
    ) -> _Ours:
        from gateway.pki.files import load_certificates, subject_of  # noqa: PLC0415  heavy
        from gateway.pki.own import inspect  # noqa: PLC0415

        chain = at.read("certificate", lambda _: load_certificates(path), "")
        if at.failed:
            return _Ours(identity=identity)
        found = inspect(
            chain,
            public_key=None if signer is None else signer.public,
            identity=identity,
            authorities=authorities,
            now=self.now,
        )
        for key, problem in found.errors:
            at.error(key, f"{path}: {problem}" if key == "certificate" else problem)
        for problem in found.out_of_time:
            (at.warn if self.tolerate_dates else at.error)("certificate", f"{path}: {problem}")
        for problem in found.warnings:
            at.warn("certificate", f"{path}: {problem}")
        end = min(one.not_valid_after_utc for one in chain)
        if self.now <= end < self.now + ENDS_SOON:
            at.warn("certificate", f"{path}: ends soon, on {end:%Y-%m-%d}")
        subject = subject_of(chain[0])
        return _Ours(
            auth=None
            if signer is None
            else OwnKey(
                signer=signer, certificates=found.shown, subject=subject, authorities=found.above
            ),
            certificate=OwnCertificate(file=path, subject=subject, not_after=end),
            identity=found.identity,
        )
