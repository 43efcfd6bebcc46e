"""liboqs: found or not, and agreeing with OpenSSL's ML-KEM where it is found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.crypto import kem_oqs, mlkem
from gateway.crypto.algorithms import KeMethod
from gateway.errors import CryptoError

needs_liboqs = pytest.mark.skipif(
    kem_oqs.find_library() is None, reason="liboqs is not built here (make liboqs)"
)
PYCA = sorted(mlkem.METHODS)
FOUND = [method for method in sorted(kem_oqs.METHODS) if kem_oqs.supports(method)]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without liboqs; the value is a prefix one may fill."""
    monkeypatch.setenv("QSGW_LIBOQS", str(tmp_path))
    monkeypatch.delenv("OQS_INSTALL_PATH", raising=False)
    monkeypatch.setattr(kem_oqs, "_REPOSITORY_CACHE", tmp_path / "cache")
    monkeypatch.setattr(kem_oqs.ctypes.util, "find_library", lambda _name: None)
    kem_oqs._library.cache_clear()
    yield tmp_path
    kem_oqs._library.cache_clear()


def test_without_the_library_nothing_is_supported(no_library: Path) -> None:
    assert kem_oqs.find_library() is None
    for method in kem_oqs.METHODS:
        assert not kem_oqs.supports(method)
        with pytest.raises(CryptoError, match="not available"):
            kem_oqs.initiate(method)
        with pytest.raises(CryptoError, match="not available"):
            kem_oqs.respond(method, bytes(800))


def test_a_file_that_is_no_library_counts_as_none(no_library: Path) -> None:
    (no_library / "lib").mkdir()
    (no_library / "lib" / "liboqs.so").write_text("not ELF")
    assert kem_oqs.find_library() == str(no_library / "lib" / "liboqs.so")
    assert not kem_oqs.supports(KeMethod.ML_KEM_512)


def test_the_package_that_downloads_on_import_is_not_imported() -> None:
    kem_oqs.supports(KeMethod.ML_KEM_512)
    assert "oqs" not in sys.modules


@needs_liboqs
@pytest.mark.parametrize("method", FOUND, ids=lambda m: m.name)
def test_both_ends_agree(method: KeMethod) -> None:
    initiator = kem_oqs.initiate(method)
    ciphertext, secret = kem_oqs.respond(method, initiator.public)
    assert initiator.finish(ciphertext) == secret
    for wrong in (b"", ciphertext[:-1], ciphertext + b"\x00"):
        with pytest.raises(CryptoError, match="ciphertext has"):
            initiator.finish(wrong)
    with pytest.raises(CryptoError, match="public key has"):
        kem_oqs.respond(method, initiator.public[:-1])


@needs_liboqs
@pytest.mark.parametrize("method", PYCA, ids=lambda m: m.name)
def test_openssl_opens_what_liboqs_encapsulates(method: KeMethod) -> None:
    initiator = mlkem.initiate(method)
    ciphertext, secret = kem_oqs.respond(method, initiator.public)
    assert initiator.finish(ciphertext) == secret


@needs_liboqs
@pytest.mark.parametrize("method", PYCA, ids=lambda m: m.name)
def test_liboqs_opens_what_openssl_encapsulates(method: KeMethod) -> None:
    initiator = kem_oqs.initiate(method)
    ciphertext, secret = mlkem.respond(method, initiator.public)
    assert initiator.finish(ciphertext) == secret
    corrupt = bytes((ciphertext[0] ^ 1,)) + ciphertext[1:]
    assert initiator.finish(corrupt) != secret
