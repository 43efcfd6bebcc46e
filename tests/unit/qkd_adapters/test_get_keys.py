"""Keys taken from a KME into files, for a peer that speaks no ETSI 014."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kms_client.errors import KmeRefusedError
from kms_client.tls import TlsFiles
from qkd_adapters.errors import KeyFileError
from qkd_adapters.get import get_keys
from tests.support.kme_lab import KmeLab


def files_of(lab: KmeLab, sae: str) -> TlsFiles:
    pki = lab.pki
    return TlsFiles(ca=pki / "ca.pem", certificate=pki / f"{sae}.pem", key=pki / f"{sae}.key")


def url_of(lab: KmeLab, kme: str) -> str:
    return f"https://127.0.0.1:{lab.kmes[kme].port}"


async def test_master_and_slave_find_the_same_key_in_files_only_they_can_read(
    lab: KmeLab, tmp_path: Path
) -> None:
    moon, sun = tmp_path / "moon", tmp_path / "sun"
    (first,) = await get_keys(url_of(lab, "kme-moon"), files_of(lab, "moon"), "sun", [], moon)
    (second,) = await get_keys(
        url_of(lab, "kme-sun"), files_of(lab, "sun"), "moon", [first.name], sun
    )
    assert second == sun / first.name
    assert bytes.fromhex(first.read_text()) == bytes.fromhex(second.read_text())
    assert len(bytes.fromhex(first.read_text())) == 32
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert stat.S_IMODE(moon.stat().st_mode) == 0o700


async def test_key_that_was_taken_is_not_there_again(
    lab: KmeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkd_adapters.kme.server.NOTICE_WAIT", 0.01)
    (key,) = await get_keys(url_of(lab, "kme-moon"), files_of(lab, "moon"), "sun", [], tmp_path)
    slave = (url_of(lab, "kme-sun"), files_of(lab, "sun"), "moon", [key.name])
    await get_keys(*slave, tmp_path / "sun")
    with pytest.raises(KmeRefusedError):
        await get_keys(*slave, tmp_path / "again")


async def test_file_that_is_there_is_never_written_over(lab: KmeLab, tmp_path: Path) -> None:
    (key,) = await get_keys(url_of(lab, "kme-moon"), files_of(lab, "moon"), "sun", [], tmp_path)
    before = key.read_text()
    with pytest.raises(KeyFileError, match="exists"):
        await get_keys(url_of(lab, "kme-sun"), files_of(lab, "sun"), "moon", [key.name], tmp_path)
    assert key.read_text() == before
