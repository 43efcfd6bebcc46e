"""``qsgw pki``: files, modes, chains; nothing is overwritten unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.control import cli
from gateway.control.pki import ALGORITHMS, CA_DAYS, CRL_DAYS, LEAF_DAYS, USAGES
from gateway.pki import site
from kms_client import certificates

PRIVATE = 0o600


@pytest.fixture
def pki(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``qsgw pki`` in a folder; gives exit code and output."""

    def run(action: str, *words: str) -> tuple[int, str]:
        out = [] if action == "show" else ["--out", str(tmp_path / "pki")]
        with pytest.raises(SystemExit) as exit_:
            cli.main(["pki", action, *words, *out])
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out + captured.err

    return run


def load(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def test_words_are_those_of_the_library() -> None:
    assert tuple(certificates.KeyAlgorithm) == ALGORITHMS
    assert tuple(site.USAGES) == USAGES
    defaults = (certificates.CA_DAYS, certificates.LEAF_DAYS, certificates.CRL_DAYS)
    assert defaults == (CA_DAYS, LEAF_DAYS, CRL_DAYS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_ca_and_a_gateway(pki: Any, tmp_path: Path, algorithm: str) -> None:
    assert pki("init", "--algorithm", algorithm)[0] == 0
    assert pki("issue", "sun", "--san", "DNS:sun.example", "--san", "IP:10.0.23.3")[0] == 0
    folder = tmp_path / "pki"
    (authority,) = load(folder / "ca.pem")
    (sun,) = load(folder / "sun.pem")
    sun.verify_directly_issued_by(authority)
    assert sun.signature_algorithm_oid == authority.signature_algorithm_oid
    for name in ("ca.key", "sun.key"):
        assert (folder / name).stat().st_mode & 0o777 == PRIVATE
    code, text = pki("show", str(folder / "sun.pem"), "--json")
    (entry,) = json.loads(text)["entries"]
    assert (entry["subject"], entry["identities"]) == ("CN=sun", ["sun.example", "10.0.23.3"])
    code, text = pki("show", str(folder / "sun.key"))
    assert code == 0
    assert text.startswith("private key ")
    assert len(text) < 80


def test_an_intermediate_ca(pki: Any, tmp_path: Path) -> None:
    pki("init", "--intermediate", "--name", "Example", "--algorithm", "ed25519")
    pki("issue", "sun")
    sun, intermediate = load(tmp_path / "pki" / "sun.pem")
    (authority,) = load(tmp_path / "pki" / "ca.pem")
    sun.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(authority)
    assert intermediate.subject.rfc4514_string() == "CN=Example intermediate"
    assert pki("revoke", "sun")[1].strip().endswith("intermediate.crl.pem")
    assert "is revoked already" in pki("revoke", "sun")[1]
    assert pki("crl")[0] == 0
    text = pki("show", str(tmp_path / "pki" / "intermediate.crl.pem"))[1]
    assert f"{sun.serial_number:x}" in text


def test_clients_of_a_kme(pki: Any, tmp_path: Path) -> None:
    pki("init", "--algorithm", "ecdsa-p256")
    pki("issue", "moon", "--usage", "kme-client")
    (moon,) = load(tmp_path / "pki" / "moon.pem")
    usage = moon.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = moon.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:qsgw:sae:moon"]


def test_nothing_is_overwritten_unasked(pki: Any, tmp_path: Path) -> None:
    pki("init", "--algorithm", "ed25519")
    pki("issue", "sun")
    before = {path: path.read_bytes() for path in (tmp_path / "pki").iterdir()}
    for words in (("init",), ("issue", "sun")):
        code, text = pki(*words)
        assert code == 1
        assert "--force overwrites it" in text
    assert {path: path.read_bytes() for path in (tmp_path / "pki").iterdir()} == before
    assert pki("issue", "sun", "--force")[0] == 0
    assert (tmp_path / "pki" / "sun.key").read_bytes() != before[tmp_path / "pki" / "sun.key"]


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("issue", "sun", "--san", "sun.example"), 2, "is not DNS:NAME"),
        (("issue", "sun", "--san", "IP:10.0.0.300"), 2, "10.0.0.300"),
        (("issue", "sun", "--subject", "sun"), 2, "DN"),
        (("issue", "../sun"), 1, "no slash"),
        (("issue", "ca"), 1, "name of a CA"),
        (("issue", "sun", "--days", "0"), 2, "--days 0"),
        (("issue", "sun", "--algorithm", "rsa-512"), 2, "invalid choice"),
        (("revoke", "nobody"), 1, "cannot be read"),
        (("show", "/nonexistent"), 1, "cannot be read"),
        (("show", __file__), 1, "holds no certificate"),
        ((), 2, "ACTION"),
    ],
)
def test_mistakes(pki: Any, words: tuple[str, ...], code: int, expected: str) -> None:
    pki("init", "--algorithm", "ed25519")
    if not words:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["pki"])
        assert exit_.value.code == code
        return
    found, text = pki(*words)
    assert (found, expected in text) == (code, True), text


def test_a_certificate_of_somebody_else_is_not_revoked(pki: Any, tmp_path: Path) -> None:
    pki("init", "--algorithm", "ed25519")
    algorithm = certificates.KeyAlgorithm.ED25519
    site.init(tmp_path / "other", name="other", algorithm=algorithm, intermediate=False)
    code, text = pki("revoke", str(tmp_path / "other" / "ca.pem"))
    assert (code, "was not issued by" in text) == (1, True)


def test_without_a_ca(pki: Any) -> None:
    assert pki("issue", "sun")[0] == 1
    assert "there is no CA" in pki("crl")[1]
