"""The key log is for the lab: right format, private file, refused under systemd."""

from __future__ import annotations

import stat
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.crypto.secret import Secret
from gateway.daemon.keylog import EspKeyLog
from gateway.errors import StartupError
from gateway.model import Direction, SaSpec

SA = SaSpec(
    tunnel="sun",
    direction=Direction.OUTBOUND,
    spi=0xC0000001,
    source=ip_address("10.0.12.1"),
    destination=ip_address("10.0.23.3"),
    reqid=1,
    key=Secret(bytes(range(36))),
)


def test_a_line_is_wiresharks_esp_sa_table_row(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    path = tmp_path / "esp_sa"
    log = EspKeyLog(path)
    log.write(SA)
    log.close()
    assert path.read_text() == (
        '"IPv4","10.0.12.1","10.0.23.3","0xc0000001","AES-GCM with 16 octet ICV [RFC4106]",'
        f'"0x{bytes(range(36)).hex()}","NULL",""\n'
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_refused_under_systemd(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    with pytest.raises(StartupError, match="systemd"):
        EspKeyLog(tmp_path / "esp_sa")
    assert not (tmp_path / "esp_sa").exists()


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    with pytest.raises(StartupError, match="No such file or directory"):
        EspKeyLog(tmp_path / "missing" / "esp_sa")
