"""A KME whose files are bad costs that KME only."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.schema import KmeConfig
from gateway.daemon.kmes import connect
from kms_client.errors import KmeTlsError
from kms_client.tls import TlsFiles

KEY_ID = "6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a01"


def config(directory: Path) -> KmeConfig:
    return KmeConfig(
        name="primary",
        url="https://kme.test",
        credentials=TlsFiles(
            ca=directory / "ca.pem",
            certificate=directory / "moon.pem",
            key=directory / "moon.key",
        ),
        timeout=1.0,
    )


async def test_a_missing_certificate_is_an_error_of_that_kme_naming_the_file(
    tmp_path: Path,
) -> None:
    kme = connect(config(tmp_path))
    for request in (kme.status("sun"), kme.enc_keys("sun"), kme.dec_keys("sun", [KEY_ID])):
        with pytest.raises(KmeTlsError, match=r"ca\.pem"):
            await request
    await kme.close()
