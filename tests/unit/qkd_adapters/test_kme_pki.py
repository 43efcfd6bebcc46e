"""The lab CA: purposes, names, lifetimes, modes; a second run keeps what is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from qkd_adapters.errors import PkiError
from qkd_adapters.pki import KmeName, make_pki, parse_kme_name

KMES = [KmeName(name="kme-moon", addresses=("10.9.1.2", "kme-moon.example", "::1"))]


def load(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())


def test_what_is_made(tmp_path: Path) -> None:
    result = make_pki(tmp_path, kmes=KMES, saes=["moon"], force=False)
    assert result.made == ("ca", "kme-moon", "moon")
    authority = load(tmp_path, "ca")
    now = datetime.now(UTC)
    for name, usage in (
        ("kme-moon", ExtendedKeyUsageOID.SERVER_AUTH),
        ("moon", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        leaf = load(tmp_path, name)
        leaf.verify_directly_issued_by(authority)
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert leaf.not_valid_before_utc < now < leaf.not_valid_after_utc
        assert leaf.not_valid_after_utc - now < timedelta(days=366)
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert (tmp_path / f"{name}.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600
    server = load(tmp_path, "kme-moon").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(ip) for ip in server.value.get_values_for_type(x509.IPAddress)] == [
        "10.9.1.2",
        "::1",
    ]
    assert server.value.get_values_for_type(x509.DNSName) == ["kme-moon.example"]
    client = load(tmp_path, "moon").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert client.value.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:qsgw:sae:moon"]


def test_second_run_keeps_and_adds_force_makes_anew(tmp_path: Path) -> None:
    make_pki(tmp_path, kmes=KMES, saes=["moon"], force=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    result = make_pki(tmp_path, kmes=KMES, saes=["moon", "sun"], force=False)
    assert (result.made, result.kept) == (("sun",), ("ca", "kme-moon", "moon"))
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
    load(tmp_path, "sun").verify_directly_issued_by(load(tmp_path, "ca"))
    make_pki(tmp_path, kmes=KMES, saes=["moon"], force=True)
    assert all((tmp_path / name).read_bytes() != data for name, data in before.items())


@pytest.mark.parametrize("saes", [["a", "a"], ["ca"], ["kme-moon"], ["../x"], [".x"]])
def test_impossible_names(tmp_path: Path, saes: list[str]) -> None:
    with pytest.raises(PkiError):
        make_pki(tmp_path / "new", kmes=KMES, saes=saes, force=False)
    assert not (tmp_path / "new").exists()


def test_foreign_ca_key_is_refused(tmp_path: Path) -> None:
    make_pki(tmp_path / "one", kmes=[], saes=[], force=False)
    make_pki(tmp_path / "two", kmes=[], saes=[], force=False)
    (tmp_path / "one/ca.key").write_bytes((tmp_path / "two/ca.key").read_bytes())
    with pytest.raises(PkiError, match="does not belong"):
        make_pki(tmp_path / "one", kmes=[], saes=["moon"], force=False)


def test_kme_argument() -> None:
    assert parse_kme_name("k:10.0.0.1,::1,host") == KmeName(
        name="k", addresses=("10.0.0.1", "::1", "host")
    )
    for text in ("k", "k:", ":10.0.0.1", ""):
        with pytest.raises(ValueError, match="NAME:ADDRESS"):
            parse_kme_name(text)


@pytest.mark.parametrize("name", ["säe", "x" * 65])
def test_a_name_no_certificate_can_carry_is_refused_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(PkiError, match=name):
        make_pki(tmp_path, kmes=[], saes=[name], force=False)


@pytest.mark.parametrize("days", [0, -5, 10**9])
def test_days_that_no_certificate_can_last_are_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(PkiError, match="days"):
        make_pki(tmp_path, kmes=[], saes=["moon"], force=False, days=days)
    assert not list(tmp_path.iterdir())
