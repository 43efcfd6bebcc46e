"""A KME whose files are bad costs that KME only."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.schema import KmeConfig
from gateway.daemon.kmes import KmeEntry, UnusableKme, connect
from kms_client.errors import KmeTlsError


def config(directory: Path) -> KmeConfig:
    return KmeConfig(
        name="primary",
        url="https://kme.test",
        ca=directory / "ca.pem",
        certificate=directory / "moon.pem",
        key=directory / "moon.key",
        timeout=1.0,
    )


async def test_a_missing_certificate_is_an_error_of_that_kme_naming_the_file(
    tmp_path: Path,
) -> None:
    kme = connect(config(tmp_path))
    assert isinstance(kme, UnusableKme)
    for request in (kme.status("sun"), kme.enc_keys("sun"), kme.dec_keys("sun", [])):
        with pytest.raises(KmeTlsError, match=r"ca\.pem"):
            await request
    await kme.close()


def test_renewed_files_make_another_entry_and_unchanged_ones_the_same(tmp_path: Path) -> None:
    first = KmeEntry.of(config(tmp_path))
    assert KmeEntry.of(config(tmp_path)) == first
    (tmp_path / "moon.pem").write_text("renewed")
    assert KmeEntry.of(config(tmp_path)) != first
