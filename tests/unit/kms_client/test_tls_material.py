"""TLS files are checked before use, and the error names the file and the reason."""

from __future__ import annotations

import shutil
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kms_client.errors import TlsMaterialError
from kms_client.tls import ClientTls, TlsFiles, client_context
from tests.support.pki import pem_of


def refusal(files, **more) -> str:
    with pytest.raises(TlsMaterialError) as caught:
        client_context(files, **more)
    return str(caught.value)


def test_good_files_give_a_verifying_context(pki):
    context = client_context(pki.sae)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
def test_missing_file(pki, which, tmp_path):
    path = tmp_path / "gone.pem"
    assert refusal(replace(pki.sae, **{which: path})) == f"{path}: file is missing"


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
def test_unreadable_file(pki, which, tmp_path, monkeypatch):
    assert "cannot be read: Is a directory" in refusal(replace(pki.sae, **{which: tmp_path}))
    path = tmp_path / "locked.pem"
    real_open = Path.open

    def denied(self: Path, *args: str):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, *args)

    monkeypatch.setattr(Path, "open", denied)
    words = refusal(replace(pki.sae, **{which: path}))
    assert words == f"{path}: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("which", "what"),
    [("ca", "PEM certificate"), ("certificate", "PEM certificate"), ("key", "PEM private key")],
)
@pytest.mark.parametrize("content", [b"", b"\x30\x82\x01\x0a\x00", b"-----BEGIN X-----\nQQ==\n"])
def test_not_pem(pki, which, what, content, tmp_path):
    path = tmp_path / "odd.pem"
    path.write_bytes(content)
    assert refusal(replace(pki.sae, **{which: path})) == f"{path}: holds no {what}"


def test_absurdly_large_file(pki, tmp_path):
    path = tmp_path / "large.pem"
    path.write_bytes(bytes(2 << 20))
    assert "larger than" in refusal(replace(pki.sae, ca=path))


def test_key_of_another_certificate(pki):
    other = pki.ca.issue("mars")
    assert refusal(replace(pki.sae, key=other.key)) == (
        f"{other.key}: private key does not match the certificate in {pki.sae.certificate}"
    )


def test_encrypted_key_is_refused_without_asking_for_a_pass_phrase(pki, tmp_path):
    path = tmp_path / "locked.key"
    path.write_bytes(pem_of(ec.generate_private_key(ec.SECP256R1()), b"word"))
    assert "encrypted" in refusal(replace(pki.sae, key=path))


def test_expired_and_future_certificates(pki, expired_ca):
    old = pki.ca.issue("old", days=-1)
    assert refusal(old).startswith(f"{old.certificate}: certificate expired on 20")
    assert refusal(replace(pki.sae, ca=expired_ca.file)).startswith(f"{expired_ca.file}: cert")
    early = datetime.now(UTC) - timedelta(days=400)
    assert "is not valid before" in refusal(pki.sae, now=early)


# --- renewal ---------------------------------------------------------------------------------


def copied(files: TlsFiles, directory: Path) -> TlsFiles:
    directory.mkdir(exist_ok=True)
    names = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
    return TlsFiles(**{name: shutil.copy(path, directory / name) for name, path in names.items()})


def test_the_context_stays_while_the_files_do(pki):
    tls = ClientTls(pki.sae)
    assert tls.context() is tls.context()


def test_renewed_files_give_another_context_and_half_renewed_ones_the_old(pki, tmp_path):
    files = copied(pki.sae, tmp_path)
    tls = ClientTls(files)
    old = tls.context()
    renewed = pki.ca.issue("moon-renewed")
    shutil.copy(renewed.certificate, files.certificate)
    assert tls.context() is old
    shutil.copy(renewed.key, files.key)
    new = tls.context()
    assert new is not old
    assert tls.context() is new


def test_files_that_are_bad_at_first_may_come_good(pki, tmp_path):
    """A certificate "not valid yet" on a host whose clock is set late, or a file put there late."""
    files = TlsFiles(ca=tmp_path / "ca", certificate=tmp_path / "certificate", key=tmp_path / "key")
    tls = ClientTls(files)
    for _ in range(2):
        with pytest.raises(TlsMaterialError, match="file is missing"):
            tls.context()
    copied(pki.sae, tmp_path)
    assert tls.context()
