"""``qsgw-kme probe`` and ``kmectl quirk`` as an operator types them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qkd_adapters.cli import main
from qkd_adapters.kme.config import KeySettings
from tests.support.kme_lab import KmeLab

KEYS = KeySettings(
    min_size=64, max_size=1024, max_per_request=8, max_count=32, max_sae_ids=2, lifetime=3600.0
)


@pytest.fixture
async def lab(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KmeLab]:
    monkeypatch.setattr("qkd_adapters.kme.server.NOTICE_WAIT", 0.2)
    async with KmeLab(short_dir, keys=KEYS) as lab:
        await lab.filled()
        lab.source.cut()
        yield lab


def words(lab: KmeLab) -> list[str]:
    def files(prefix: str, sae: str) -> list[str]:
        return [
            *(f"--{prefix}certificate", str(lab.pki / f"{sae}.pem")),
            *(f"--{prefix}key", str(lab.pki / f"{sae}.key")),
        ]

    return [
        *("probe", lab.url("kme-moon"), "--ca", str(lab.pki / "ca.pem"), *files("", "moon")),
        *("--peer", "sun", "--second-url", lab.url("kme-sun"), *files("second-", "sun")),
    ]


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


async def test_a_table_and_the_profile(lab: KmeLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(*words(lab)) == 0
    shown = capsys.readouterr().out
    assert 'profile = "etsi014"' in shown
    assert "11 keys were used up" in shown


async def test_json_with_a_quirk_switched_on(
    lab: KmeLab, capsys: pytest.CaptureFixture[str]
) -> None:
    for kme in ("kme-moon", "kme-sun"):
        socket = str(lab.directory / f"{kme}.ctl")
        assert await run("kmectl", "--socket", socket, "quirk", "hex-key-ids", "on") == 0
    assert "quirks on: hex-key-ids" in capsys.readouterr().out
    assert await run(*words(lab), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quirks"] == ["hex-key-ids"]
    assert found["profile"] == "hex-key-ids"
    socket = str(lab.directory / "kme-moon.ctl")
    assert await run("kmectl", "--socket", socket, "status") == 0
    assert "quirks on: hex-key-ids" in capsys.readouterr().out


async def test_a_row_that_fails_is_exit_code_1(lab: KmeLab) -> None:
    socket = str(lab.directory / "kme-moon.ctl")
    assert await run("kmectl", "--socket", socket, "fault", "wrong-key", "on") == 0
    assert await run(*words(lab)) == 1


def test_a_file_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--{name}={tmp_path / 'none.pem'}" for name in ("ca", "certificate", "key")]
    assert main(["probe", "https://127.0.0.1:1", *files, "--peer", "sun"]) == 1
    assert "none.pem: file is missing" in capsys.readouterr().err


def test_half_a_second_side(capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--{name}=x.pem" for name in ("ca", "certificate", "key")]
    with pytest.raises(SystemExit) as ended:
        main(["probe", "https://127.0.0.1:1", *files, "--peer", "sun", "--second-url", "https://x"])
    assert ended.value.code == 2
    assert "--second-certificate" in capsys.readouterr().err
