"""liboqs: found or not, and agreeing with OpenSSL's ML-KEM where it is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.crypto import kem_oqs, mlkem
from gateway.crypto.algorithms import KeMethod
from gateway.errors import CryptoError

WHY_NOT = kem_oqs.problem(KeMethod.ML_KEM_512)
needs_liboqs = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
PYCA = sorted(mlkem.METHODS)
FOUND = [method for method in sorted(kem_oqs.METHODS) if kem_oqs.supports(method)]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without liboqs; the value is a prefix one may fill."""
    monkeypatch.setenv("QSGW_LIBOQS", str(tmp_path))
    monkeypatch.delenv("OQS_INSTALL_PATH", raising=False)
    monkeypatch.setattr(kem_oqs, "_REPOSITORY_CACHE", tmp_path / "cache")
    monkeypatch.setattr(kem_oqs.ctypes.util, "find_library", lambda _name: None)
    kem_oqs._load.cache_clear()
    yield tmp_path
    kem_oqs._load.cache_clear()


def fill(prefix: Path) -> Path:
    """A file where a library is looked for, but none that can be loaded."""
    path = prefix / "lib" / "liboqs.so"
    path.parent.mkdir()
    path.write_text("not ELF")
    return path


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In an interpreter of its own: importing ``oqs`` is done once, and is what is tested."""
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_without_the_library_nothing_is_supported(no_library: Path) -> None:
    assert kem_oqs.find_library() is None
    for method in kem_oqs.METHODS:
        assert not kem_oqs.supports(method)
        with pytest.raises(CryptoError, match=r"not available: .*make liboqs"):
            kem_oqs.initiate(method)
        with pytest.raises(CryptoError, match=r"not available: .*make liboqs"):
            kem_oqs.respond(method, bytes(800))


def test_a_file_that_is_no_library_counts_as_none(no_library: Path) -> None:
    path = fill(no_library)
    assert kem_oqs.find_library() == str(path)
    assert not kem_oqs.supports(KeMethod.ML_KEM_512)
    reason = kem_oqs.problem(KeMethod.ML_KEM_512)
    assert str(path) in reason or "pip install" in reason
    assert "\n" not in reason


@pytest.mark.parametrize("library", [True, False])
def test_without_the_package_nothing_is_supported(
    no_library: Path, monkeypatch: pytest.MonkeyPatch, *, library: bool
) -> None:
    monkeypatch.setitem(sys.modules, "oqs", None)
    if library:
        fill(no_library)
    reason = kem_oqs.problem(KeMethod.ML_KEM_512)
    assert reason.startswith("liboqs-python is not installed (pip install 'qsgw[liboqs]')")
    assert ("make liboqs" in reason) != library


def test_a_number_that_is_not_for_liboqs(no_library: Path) -> None:
    assert not kem_oqs.supports(KeMethod.X25519)
    assert not kem_oqs.supports(14)
    assert not kem_oqs._load.cache_info().misses


@pytest.mark.skipif(find_spec("oqs") is None, reason="liboqs-python is not installed")
def test_no_library_no_download(tmp_path: Path) -> None:
    """Not imported without a library; and if it ever were, it would not get to git."""
    git = tmp_path / "git"
    git.write_text(f"#!/bin/sh\ntouch {tmp_path}/cloned\nexit 1\n")
    git.chmod(0o755)
    done = python(
        "import sys\n"
        "from pathlib import Path\n"
        "from gateway.crypto import kem_oqs\n"
        "kem_oqs._REPOSITORY_CACHE = Path('/nonexistent')\n"
        "kem_oqs.ctypes.util.find_library = lambda name: None\n"
        "assert not kem_oqs.supports(35)\n"
        "assert 'oqs' not in sys.modules\n"
        "try:\n"
        "    with kem_oqs._only_this('/nonexistent/lib/liboqs.so'):\n"
        "        import oqs\n"
        "except ValueError as error:\n"
        "    assert 'PYOQS_VERSION' in str(error), error\n"
        "else:\n"
        "    raise AssertionError\n",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        QSGW_LIBOQS="/nonexistent",
        OQS_INSTALL_PATH="/nonexistent",
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert not (tmp_path / "cloned").exists()


@needs_liboqs
def test_the_import_is_silent_and_leaves_no_trace() -> None:
    done = python(
        "import ctypes.util, logging, os\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "before = dict(os.environ), ctypes.util.find_library\n"
        "from gateway.crypto import kem_oqs\n"
        "assert kem_oqs.supports(35)\n"
        "assert before == (dict(os.environ), ctypes.util.find_library)\n"
        "import oqs\n"
        "assert oqs.native()._name == kem_oqs.find_library()\n"
    )
    assert (done.stdout, done.stderr) == ("", "")


@needs_liboqs
def test_the_private_key_is_wiped_with_its_owner() -> None:
    initiator = kem_oqs.initiate(KeMethod.ML_KEM_512)
    private = initiator._kem.secret_key
    assert any(private)
    del initiator
    assert not any(private.raw)


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
