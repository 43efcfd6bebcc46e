"""The certificates of a tunnel at run time: files that change, ends that come near."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.config.schema import OwnCertificate
from gateway.daemon.bulletin import Bulletin
from gateway.daemon.trust import TunnelTrust
from gateway.errors import CredentialError
from gateway.ike.identity import Identity
from gateway.model import Revocation, Severity
from gateway.pki import site
from gateway.pki.authorities import AuthorityFiles
from gateway.pki.files import load_certificates
from gateway.pki.trust import CertificateError, Trusted
from kms_client.certificates import KeyAlgorithm
from tests.support.certificates import NOW

SUN = Identity.parse("sun.example")


class Scene:
    """A PKI on disk, a calendar, a tunnel that may be closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = NOW
        self.closed: list[str] = []
        self.bulletin = Bulletin()
        site.init(path, name="CA", algorithm=KeyAlgorithm.ED25519, intermediate=False, now=NOW)
        names = (x509.DNSName("sun.example"),)
        site.issue(path, site.Order(name="sun", days=100, alternatives=names), now=NOW)
        self.trust = self.make()

    def make(self, own: OwnCertificate | None = None) -> TunnelTrust:
        return TunnelTrust(
            tunnel="sun",
            authorities=AuthorityFiles(
                ca=[self.path / "ca.pem"],
                crl=[self.path / "ca.crl.pem"],
                revocation=Revocation.SOFT,
            ),
            own=own,
            bulletin=self.bulletin,
            close=self.closed.append,
            wall=lambda: self.now,
        )

    @property
    def chain(self) -> tuple[bytes, ...]:
        certificates = load_certificates(self.path / "sun.pem")
        return tuple(one.public_bytes(Encoding.DER) for one in certificates)

    def prove(self) -> Trusted:
        """sun shows its certificates, and its AUTH is good."""
        found = self.trust.check(self.chain, SUN)
        self.trust.accept(self.chain, SUN)
        return found

    def touched(self, name: str) -> None:
        """File times may be coarse."""
        stamp = (self.path / name).stat().st_mtime_ns + 1_000_000_000
        os.utime(self.path / name, ns=(stamp, stamp))

    def alarms(self) -> dict[str, tuple[Severity, str]]:
        return {alarm.id: (alarm.severity, alarm.text) for alarm in self.bulletin.alarms}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_revoked_peer_loses_its_sas(scene: Scene) -> None:
    assert scene.prove().subject == "CN=sun"
    scene.trust.watch()
    assert not scene.closed
    site.revoke(scene.path, "sun", now=NOW)
    scene.touched("ca.crl.pem")
    scene.trust.watch()
    assert scene.closed == ["peer is no longer trusted: certificate of CN=sun is revoked"]
    assert scene.alarms()["peer-not-trusted"][0] is Severity.CRITICAL
    scene.trust.watch()
    assert len(scene.closed) == 1  # once
    with pytest.raises(CertificateError, match="is revoked"):
        scene.trust.check(scene.chain, SUN)


def test_certificates_that_were_only_shown_do_not_count(scene: Scene) -> None:
    """Anybody can show those of the peer: an older one of its own, to hide the newer one."""
    scene.prove()
    site.issue(
        scene.path,
        site.Order(name="older", days=100, alternatives=(x509.DNSName("sun.example"),)),
        now=NOW,
    )
    older = load_certificates(scene.path / "older.pem")
    scene.trust.check(tuple(one.public_bytes(Encoding.DER) for one in older), SUN)
    site.revoke(scene.path, "sun", now=NOW)
    scene.touched("ca.crl.pem")
    scene.trust.watch()
    assert scene.closed == ["peer is no longer trusted: certificate of CN=sun is revoked"]
    scene.trust.check(tuple(one.public_bytes(Encoding.DER) for one in older), SUN)
    assert "peer-not-trusted" in scene.alarms()


def test_a_peer_whose_certificate_ends_keeps_its_sas(scene: Scene) -> None:
    scene.prove()
    scene.now = NOW + timedelta(days=200)
    site.renew_crls(scene.path, now=scene.now)
    scene.touched("ca.crl.pem")
    scene.trust.watch()
    assert not scene.closed
    with pytest.raises(CertificateError, match="expired on"):
        scene.trust.check(scene.chain, SUN)


def test_another_ca_ends_it_too_and_a_good_one_clears_the_alarm(scene: Scene) -> None:
    scene.prove()
    old = (scene.path / "ca.pem").read_bytes()
    other = scene.path / "other"
    site.init(other, name="other", algorithm=KeyAlgorithm.ED25519, intermediate=False, now=NOW)
    (scene.path / "ca.pem").write_bytes((other / "ca.pem").read_bytes())
    scene.touched("ca.pem")
    scene.trust.watch()
    assert "CN=CA" in scene.closed[0]
    (scene.path / "ca.pem").write_bytes(old)
    scene.touched("ca.pem")
    scene.prove()
    assert scene.alarms() == {}


def test_files_half_written_do_not_count(scene: Scene) -> None:
    scene.prove()
    (scene.path / "ca.crl.pem").write_text("-----BEGIN X509 CRL-----\nMII")
    scene.touched("ca.crl.pem")
    scene.trust.watch()
    assert not scene.closed
    scene.trust.check(scene.chain, SUN)
    fresh = scene.make()
    with pytest.raises(CredentialError, match="holds no CRL"):
        fresh.check(scene.chain, SUN)


def own(not_after: datetime) -> OwnCertificate:
    return OwnCertificate(file=Path("moon.pem"), subject="CN=moon", not_after=not_after)


def test_the_end_of_our_own_certificate(scene: Scene) -> None:
    trust = scene.make(own(NOW + timedelta(days=40)))
    trust.watch()
    assert scene.alarms() == {}
    scene.now = NOW + timedelta(days=11)
    trust.watch()
    severity, text = scene.alarms()["certificate-expiring"]
    assert severity is Severity.WARNING
    assert text.startswith("our certificate CN=moon (moon.pem) ends on 2026-07-11")
    scene.now = NOW + timedelta(days=41)
    trust.watch()
    severity, text = scene.alarms()["certificate-expiring"]
    assert severity is Severity.CRITICAL
    assert "expired on 2026-07-11" in text
    scene.make(own(NOW + timedelta(days=400))).watch()  # renewed
    assert scene.alarms() == {}
