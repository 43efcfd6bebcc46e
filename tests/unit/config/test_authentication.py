"""How the ends of a tunnel authenticate: which keys go together, and what certificates must be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config.load import inspect_config, load_config
from gateway.ike.credentials import KnownKey, OwnKey, SharedKey, TrustedAuthorities
from gateway.ike.identity import Identity
from gateway.model import Revocation
from gateway.pki import site
from kms_client.certificates import KeyAlgorithm

NOW = datetime.now(UTC).replace(microsecond=0)
CERTIFIED = {
    "psk": None,
    "certificate": "vpn/moon.pem",
    "private_key": "vpn/moon.key",
    "ca": ["vpn/ca.pem"],
}


@pytest.fixture
def pki(folder: Any) -> Path:
    out: Path = folder.path / "vpn"
    site.init(out, name="CA", algorithm=KeyAlgorithm.ED25519, intermediate=True)
    issue(out, "moon")
    issue(out, "sun")
    return out


def issue(out: Path, name: str, *, days: int = 365, force: bool = False, **changes: Any) -> None:
    names = (x509.DNSName(f"{name}.example"),)
    order = site.Order(**{"name": name, "days": days, "alternatives": names, **changes})
    site.issue(out, order, force=force)


def check(file: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of ``qsgw config check``."""
    _, problems = inspect_config(file, now=NOW)
    warnings = [str(one) for one in problems.warnings if "[tunnel.sun]" in str(one)]
    return [str(one) for one in problems.errors], warnings


def test_certificates(folder: Any, pki: Path) -> None:
    config = load_config(folder.set("tunnel.sun", **CERTIFIED)).config.tunnels["sun"]
    assert isinstance(config.local_auth, OwnKey)
    assert len(config.local_auth.certificates) == 2  # ours and the intermediate CA's
    assert config.local_auth.subject == "CN=moon"
    assert isinstance(config.remote_auth, TrustedAuthorities)
    assert [len(one) for one in config.remote_auth.key_hashes] == [20]
    assert config.trust is not None
    assert config.trust.revocation is Revocation.OFF
    assert config.own_certificate is not None
    assert config.own_certificate.not_after > NOW + timedelta(days=300)
    assert check(folder.file) == ([], [])
    assert load_config(folder.file).config.tunnels["sun"] == config


def test_each_side_has_a_way_of_its_own(folder: Any, pki: Path) -> None:
    file = folder.set("tunnel.sun", ca=["vpn/ca.pem"])
    tunnel = load_config(file).config.tunnels["sun"]
    assert isinstance(tunnel.local_auth, SharedKey)
    assert isinstance(tunnel.remote_auth, TrustedAuthorities)
    keys = {"certificate": "vpn/moon.pem", "private_key": "vpn/moon.key"}
    tunnel = load_config(folder.set("tunnel.sun", ca=None, **keys)).config.tunnels["sun"]
    assert isinstance(tunnel.local_auth, OwnKey)
    assert isinstance(tunnel.remote_auth, SharedKey)


def test_raw_public_keys(folder: Any, pki: Path) -> None:
    certificate = x509.load_pem_x509_certificate((pki / "sun.pem").read_bytes())
    public = certificate.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder.path / "sun.pub").write_bytes(pem)
    for reference in ("sun.pub", "vpn/sun.pem"):
        file = folder.set(
            "tunnel.sun", psk=None, private_key="vpn/moon.key", remote_public_key=reference
        )
        tunnel = load_config(file).config.tunnels["sun"]
        assert isinstance(tunnel.local_auth, OwnKey)
        assert tunnel.local_auth.certificates == ()
        assert isinstance(tunnel.remote_auth, KnownKey)
        assert tunnel.remote_auth.public_key.kind == "Ed25519"
        folder.tables["tunnel"]["sun"]["psk"] = "x"


def test_the_certificate_says_who_we_are(folder: Any, pki: Path) -> None:
    file = folder.set("tunnel.sun", **CERTIFIED, local_id=None)
    assert load_config(file).config.tunnels["sun"].local_id == "moon.example"
    subject = x509.Name.from_rfc4514_string("CN=moon,O=Example")
    issue(pki, "moon", alternatives=(), subject=subject, force=True)
    local_id = load_config(file).config.tunnels["sun"].local_id
    assert local_id == "dn:CN=moon,O=Example"
    assert Identity.parse(local_id) == Identity.of_name(subject)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"psk": None}, "psk: this key is missing; or give certificate and private_key"),
        ({"psk": None, "private_key": "vpn/moon.key"}, "psk: this key is missing; or give ca"),
        ({"certificate": "vpn/moon.pem"}, "private_key: is needed with certificate"),
        ({"local_id": None}, "local_id: this key is missing"),
        ({"crl": ["vpn/ca.crl.pem"]}, "crl: needs ca"),
        ({"revocation": "soft"}, "revocation: needs ca"),
        ({**CERTIFIED, "revocation": "require"}, 'crl: revocation = "require" needs CRLs'),
        ({**CERTIFIED, "revocation": "sometimes"}, "revocation: unknown value 'sometimes'"),
        (
            {**CERTIFIED, "remote_public_key": "vpn/sun.pem"},
            "remote_public_key: the peer shows a certificate (ca) or has this key",
        ),
        ({**CERTIFIED, "ca": []}, "ca: expected a list that is not empty"),
        ({**CERTIFIED, "ca": ["sun.psk"]}, "holds no PEM certificate"),
        ({**CERTIFIED, "ca": ["gone.pem"]}, "gone.pem cannot be read: No such file"),
        ({**CERTIFIED, "ca": ["vpn/sun.pem"]}, "ca: CN=sun is not a CA"),
        ({**CERTIFIED, "crl": ["sun.psk"]}, "holds no CRL"),
        ({**CERTIFIED, "private_key": "vpn/moon.pem"}, "holds no PEM private key"),
        ({**CERTIFIED, "certificate": "vpn/moon.key"}, "holds no PEM certificate"),
        (
            {**CERTIFIED, "private_key": "vpn/sun.key"},
            "private_key: does not belong to the certificate of CN=moon",
        ),
        (
            {**CERTIFIED, "local_id": "other.example"},
            "local_id: identity other.example is not in the subjectAltName of certificate CN=moon",
        ),
        ({"psk": None, "ca": ["vpn/ca.pem"], "private_key": "sun.psk"}, "holds no PEM private"),
    ],
)
def test_what_does_not_go_together(
    folder: Any, pki: Path, changes: dict[str, Any], expected: str
) -> None:
    errors, _ = check(folder.set("tunnel.sun", **changes))
    assert any(f"[tunnel.sun] {expected}" in one or expected in one for one in errors), errors


def test_dates(folder: Any, pki: Path) -> None:
    file = folder.set("tunnel.sun", **CERTIFIED)
    issue(pki, "moon", days=20, force=True)
    errors, warnings = check(file)
    assert not errors
    assert "ends soon, on " in warnings[0]
    issue(pki, "moon", days=-1, force=True)
    errors, _ = check(file)
    assert "certificate of CN=moon expired on" in errors[0]
    # The daemon starts all the same: there may be other tunnels.
    loaded = load_config(file)
    assert any("expired on" in str(one) for one in loaded.warnings)
    site.issue(pki, site.Order(name="moon", days=365), force=True, now=NOW + timedelta(days=5))
    errors, _ = check(folder.set("tunnel.sun", local_id="dn:CN=moon"))
    assert "is not valid before" in errors[0]


def test_the_chain(folder: Any, pki: Path) -> None:
    file = folder.set("tunnel.sun", **CERTIFIED)
    own, intermediate = x509.load_pem_x509_certificates((pki / "moon.pem").read_bytes())
    (pki / "moon.pem").write_bytes(own.public_bytes(Encoding.PEM))
    _, warnings = check(file)
    assert "the chain ends with CN=moon: the peer must have its issuer" in warnings[0]
    other = x509.load_pem_x509_certificate((pki / "sun.pem").read_bytes())
    chain = (own, other, intermediate)
    (pki / "moon.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    errors, _ = check(file)
    assert "CN=sun stands below CN=moon and did not issue it" in errors[0]


def test_a_certificate_for_something_else(folder: Any, pki: Path) -> None:
    issue(pki, "moon", usage="kme-client", force=True)
    errors, _ = check(folder.set("tunnel.sun", **CERTIFIED))
    assert "its extendedKeyUsage is not for IKE" in errors[0]


def test_a_key_that_others_can_read(folder: Any, pki: Path) -> None:
    file = folder.set("tunnel.sun", **CERTIFIED)
    (pki / "moon.key").chmod(0o644)
    errors, _ = check(file)
    assert "moon.key can be read by everyone" in errors[0]
    (pki / "moon.key").chmod(0o640)
    errors, warnings = check(file)
    assert not errors
    assert "can be read by its group" in warnings[0]


def test_an_unused_psk_and_crls_that_count_for_nothing(folder: Any, pki: Path) -> None:
    settings = {**CERTIFIED, "psk": "sun.psk", "crl": ["vpn/ca.crl.pem"]}
    file = folder.set("tunnel.sun", **settings, revocation="off")
    errors, warnings = check(file)
    assert not errors
    assert len(warnings) == 2
    assert "is not looked at" in warnings[0]
    assert "is not used" in warnings[1]
    del folder.tables["tunnel"]["sun"]["revocation"]
    trust = load_config(folder.write()).config.tunnels["sun"].trust
    assert trust is not None
    assert trust.revocation is Revocation.SOFT


def test_an_outdated_crl(folder: Any, pki: Path) -> None:
    site.renew_crls(pki, days=2, now=NOW - timedelta(days=5))
    crls = ["vpn/ca.crl.pem", "vpn/intermediate.crl.pem"]
    _, warnings = check(folder.set("tunnel.sun", **CERTIFIED, crl=crls))
    assert "the CRL of CN=CA is out of date" in warnings[0]


def test_a_service_checked_from_a_shell(folder: Any, pki: Path) -> None:
    settings = {**CERTIFIED, "private_key": "credential:moon.key"}
    file = folder.set("tunnel.sun", **settings)
    config, problems = inspect_config(file, outside_service=True)
    assert config is not None
    assert not problems.errors
    assert any("private_key" in str(one) for one in problems.warnings)
