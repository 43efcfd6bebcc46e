"""Which certificates are trusted, and the words for why not."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from gateway.ike.identity import Identity
from gateway.model import Revocation
from gateway.pki.trust import Anchors, CertificateError, validate
from kms_client.certificates import (
    Authority,
    KeyAlgorithm,
    Profile,
    certify,
    common_name,
    make_authority,
    make_crl,
)
from tests.support.certificates import NOW, Owner, Pki, key_of

SUN = Identity.parse("sun.example")
IPSEC_IKE = ObjectIdentifier("1.3.6.1.5.5.7.3.17")
LEAF = Profile(subject=common_name("sun"), days=10, alternatives=(x509.DNSName("sun.example"),))


def why(pki: Pki, owner: Owner, *, identity: Identity = SUN, now=NOW, anchors=None) -> str:
    with pytest.raises(CertificateError) as caught:
        validate(owner.chain, identity, anchors or pki.anchors(), now)
    return str(caught.value)


def good(pki: Pki, owner: Owner, *, identity: Identity = SUN, now=NOW, anchors=None) -> None:
    validate(owner.chain, identity, anchors or pki.anchors(), now)


def issued_by(authority: Authority, *above: x509.Certificate) -> Owner:
    key = key_of("sun", KeyAlgorithm.ECDSA_P256)
    made = certify(LEAF, key.public_key(), issuer=authority, now=NOW)
    return Owner(certificate=made, key=key, above=above)


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
@pytest.mark.parametrize("revocation", Revocation)
def test_every_algorithm_with_and_without_crls(algorithm, revocation):
    pki = Pki(algorithm, intermediate=True)
    sun = pki.issue("sun")
    good(pki, sun, anchors=pki.anchors(pki.crls(), revocation))
    revoked = pki.anchors(pki.crls(sun), revocation)
    if revocation is Revocation.OFF:
        good(pki, sun, anchors=revoked)
    else:
        assert why(pki, sun, anchors=revoked) == "certificate of CN=sun is revoked"


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_a_signature_of_somebody_else(algorithm):
    pki = Pki(algorithm)
    forger = replace(pki.ca, key=key_of("forger", algorithm))
    assert "certificate of CN=sun: " in why(pki, issued_by(forger))


def test_dates():
    pki = Pki()
    sun = pki.issue("sun", days=10)
    good(pki, sun, now=NOW + timedelta(days=9))
    late = NOW + timedelta(days=11)
    assert why(pki, sun, now=late) == "certificate of CN=sun expired on 2026-06-11"
    later = pki.issue("sun", now=NOW + timedelta(days=5))
    assert why(pki, later) == "certificate of CN=sun is not valid before 2026-06-05"
    found = validate(sun.chain, SUN, pki.anchors(), late, check_dates=False)
    assert found.subject == "CN=sun"


def test_an_expired_authority():
    pki = Pki()
    sun = pki.issue("sun", days=5000)
    assert why(pki, sun, now=NOW + timedelta(days=4000)).startswith("certificate of CN=ca expired")


def test_an_authority_that_is_not_self_signed_may_be_trusted():
    pki = Pki(intermediate=True)
    sun = pki.issue("sun")
    anchors = Anchors(authorities=(pki.issuer.certificate,))
    good(pki, replace(sun, above=()), anchors=anchors)
    revocation = replace(anchors, crls=pki.crls()[1:], revocation=Revocation.REQUIRE)
    good(pki, sun, anchors=revocation)
    revoked = replace(revocation, crls=pki.crls(sun)[1:])
    assert why(pki, sun, anchors=revoked) == "certificate of CN=sun is revoked"


def test_strangers_among_the_certificates_shown():
    pki, other = Pki(intermediate=True), Pki(name="other ca")
    sun = pki.issue("sun")
    good(pki, replace(sun, above=(other.ca.certificate, *sun.above)))


def test_a_leaf_is_no_authority():
    pki = Pki()
    moon = pki.issue("moon")
    issuer = Authority(certificate=moon.certificate, key=moon.key)
    reason = why(pki, issued_by(issuer, moon.certificate))
    assert reason.startswith("certificate of CN=moon: ")


def test_path_length():
    pki = Pki(intermediate=True)
    below = make_authority(
        Profile(subject=common_name("below"), days=100, authority=True),
        key_of("below", pki.algorithm),
        issuer=pki.intermediate,
        now=NOW,
    )
    owner = issued_by(below, below.certificate, pki.issuer.certificate)
    assert "path length" in why(pki, owner)


def test_self_signed():
    pki = Pki()
    key = key_of("sun", pki.algorithm)
    made = certify(LEAF, key.public_key(), issuer=None, own_key=key, now=NOW)
    reason = why(pki, Owner(certificate=made, key=key))
    assert reason == "certificate of CN=sun is self-signed and not among the configured CAs"


# --- CRLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("revocation", [Revocation.SOFT, Revocation.REQUIRE])
def test_a_revoked_intermediate(revocation):
    pki = Pki(intermediate=True)
    serial = pki.issuer.certificate.serial_number
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
    crls = (make_crl(pki.ca, [builder.build()], number=3, now=NOW), pki.crls()[1])
    reason = why(pki, pki.issue("sun"), anchors=pki.anchors(crls, revocation))
    assert reason == "certificate of CN=intermediate is revoked"


def test_a_missing_crl():
    pki = Pki(intermediate=True)
    sun = pki.issue("sun")
    root, below = pki.crls()
    good(pki, sun, anchors=pki.anchors([root], Revocation.SOFT))
    good(pki, sun, anchors=pki.anchors((), Revocation.SOFT))
    for crl, missing in ((root, "intermediate"), (below, "ca")):
        reason = why(pki, sun, anchors=pki.anchors([crl], Revocation.REQUIRE))
        assert reason.startswith(f"there is no CRL of CN={missing} ")


def test_an_outdated_crl():
    pki = Pki()
    sun = pki.issue("sun")
    old = pki.crls(days=-2)
    good(pki, sun, anchors=pki.anchors(old, Revocation.SOFT))
    reason = why(pki, sun, anchors=pki.anchors(old, Revocation.REQUIRE))
    assert reason == "the CRL of CN=ca is out of date since 2026-05-30"
    revoked = pki.anchors(pki.crls(sun, days=-2), Revocation.SOFT)
    assert why(pki, sun, anchors=revoked) == "certificate of CN=sun is revoked"


def test_a_crl_of_a_forger_counts_for_nothing():
    pki = Pki()
    forger = replace(pki.ca, key=key_of("forger", pki.algorithm))
    forged = (make_crl(forger, [], number=9, now=NOW),)
    assert "CRL" in why(pki, pki.issue("sun"), anchors=pki.anchors(forged, Revocation.REQUIRE))


# --- what a certificate is for -------------------------------------------------------------------


def test_extended_key_usage():
    pki = Pki()
    tls = pki.issue("sun", usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))
    assert why(pki, tls) == "certificate of CN=sun: its extendedKeyUsage is not for IKE"
    good(pki, pki.issue("sun", usages=(ExtendedKeyUsageOID.CLIENT_AUTH, IPSEC_IKE)))
    good(pki, pki.issue("sun", usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)))


def hand_made(pki: Pki, key, digest, *extensions: tuple[x509.ExtensionType, bool]) -> Owner:
    issuer = pki.ca.certificate
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name("sun"))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(LEAF.alternatives), critical=False)
        .add_extension(key_id, critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Owner(certificate=builder.sign(pki.ca.key, digest), key=key)


def test_key_usage():
    pki = Pki()
    key = key_of("sun", pki.algorithm)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    owner = hand_made(pki, key, hashes.SHA256(), (usage, True))
    assert why(pki, owner) == "certificate of CN=sun: its keyUsage is not for signatures"
    good(pki, hand_made(pki, key, hashes.SHA256()))


def test_an_unknown_critical_extension():
    pki = Pki()
    strange = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    owner = hand_made(pki, key_of("sun", pki.algorithm), hashes.SHA256(), (strange, True))
    assert "critical extension" in why(pki, owner)


def test_weak_keys():
    pki = Pki()
    weak = hand_made(pki, rsa.generate_private_key(65537, 1024), hashes.SHA256())
    assert "RSA key of 1024 bits" in why(pki, weak)


# --- for whom it speaks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sun.example", x509.DNSName("SUN.example")),
        ("gate@sun.example", x509.RFC822Name("gate@sun.example")),
        ("10.0.23.3", x509.IPAddress(ipaddress.ip_address("10.0.23.3"))),
        ("fd23::3", x509.IPAddress(ipaddress.ip_address("fd23::3"))),
    ],
)
def test_alternative_names(text, name):
    pki = Pki()
    others = [x509.DNSName("other.example"), x509.UniformResourceIdentifier("urn:x")]
    good(pki, pki.issue("sun", alternatives=[*others, name]), identity=Identity.parse(text))
    reason = why(pki, pki.issue("sun", alternatives=others), identity=Identity.parse(text))
    assert reason == f"identity {text} is not in the subjectAltName of certificate CN=sun"


@pytest.mark.parametrize("name", ["*.example", "sun.example.org", "example", "xsun.example"])
def test_there_are_no_wildcards(name):
    pki = Pki()
    owner = pki.issue("sun", alternatives=[x509.DNSName(name)])
    assert "is not in the subjectAltName" in why(pki, owner)


def test_a_common_name_is_no_host_name():
    pki = Pki()
    owner = pki.issue("sun.example", alternatives=[])
    assert "is not in the subjectAltName of certificate CN=sun.example" in why(pki, owner)
    good(pki, owner, identity=Identity.parse("dn:CN=sun.example"))


def test_distinguished_names():
    pki = Pki()
    parts = [
        (NameOID.COUNTRY_NAME, "DE"),
        (NameOID.ORGANIZATION_NAME, "Example  Ltd"),
        (NameOID.COMMON_NAME, "sun"),
    ]
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])
    owner = pki.issue("sun", subject=name)
    for text in ("CN=sun,O=Example  Ltd,C=DE", "CN=SUN,O=example ltd,C=de"):
        good(pki, owner, identity=Identity.parse(f"dn:{text}"))
    for text in ("CN=sun", "C=DE,O=Example  Ltd,CN=sun", "CN=sun2,O=Example  Ltd,C=DE"):
        reason = why(pki, owner, identity=Identity.parse(f"dn:{text}"))
        assert "is not the subject of certificate CN=sun,O=Example Ltd,C=DE" in reason


def test_a_key_id_is_in_no_certificate():
    pki = Pki()
    identity = Identity.parse("keyid:6d6f")
    assert "keyid:6d6f is not in" in why(pki, pki.issue("sun"), identity=identity)


def test_what_is_no_certificate():
    pki = Pki()
    for junk in (b"", b"\x30\x00", bytes(5000), pki.issue("sun").der[:-1]):
        with pytest.raises(CertificateError, match="cannot be read"):
            validate([junk], SUN, pki.anchors(), NOW)


def test_no_octet_of_a_certificate_can_be_changed():
    """Whatever is altered: refused with a reason, never another exception."""
    pki = Pki(KeyAlgorithm.ED25519)
    der = pki.issue("sun").der
    for at in range(0, len(der), 3):
        altered = der[:at] + bytes((der[at] ^ 0x11,)) + der[at + 1 :]
        with pytest.raises(CertificateError):
            validate([altered], SUN, pki.anchors(), NOW)
