"""The build helper's answers where it does not build."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.crypto import kem_oqs_build


def test_a_missing_tool_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kem_oqs_build.main(["--cache", str(tmp_path)]) == 3
    assert capsys.readouterr().err == "cannot build liboqs: cargo, cmake, cc not found\n"


def test_what_is_there_is_not_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    there = tmp_path / "liboqs" / "lib" / "liboqs.so"
    there.parent.mkdir(parents=True)
    there.touch()
    assert kem_oqs_build.main(["--cache", str(tmp_path)]) == 0
    assert str(there) in capsys.readouterr().out


def test_a_failing_step_shows_its_own_words_and_leaves_no_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cargo", "cmake", "cc"):
        (tools / name).write_text(f"#!/bin/sh\necho {name} says no\nexit 1\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    cache = tmp_path / "cache"
    assert kem_oqs_build.main(["--cache", str(cache)]) == 1
    assert "cargo says no" in capsys.readouterr().err
    assert kem_oqs_build.library(cache / "liboqs") is None
