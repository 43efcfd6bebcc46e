"""The build helper's answers where it does not build."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.crypto import kem_oqs_build


def compile_library(cache: Path, source: str) -> Path:
    """A tiny shared library where the built one would be."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    there = cache / "liboqs" / "lib" / "liboqs.so"
    there.parent.mkdir(parents=True)
    (cache / "tiny.c").write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", there, cache / "tiny.c"], check=True)
    return there


def test_a_missing_tool_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kem_oqs_build.main(["--cache", str(tmp_path)]) == 3
    assert capsys.readouterr().err == "cannot build liboqs: cargo, cmake, cc not found\n"


def test_what_is_there_is_not_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    symbol = kem_oqs_build.COMPAT_SYMBOL
    there = compile_library(tmp_path, f"int {symbol}(void) {{ return 0; }}\n")
    monkeypatch.setenv("PATH", "")
    assert kem_oqs_build.main(["--cache", str(tmp_path)]) == 0
    assert str(there) in capsys.readouterr().out


def test_what_liboqs_python_would_refuse_is_built_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compile_library(tmp_path, "int OQS_init(void) { return 0; }\n")
    monkeypatch.setenv("PATH", "")
    assert kem_oqs_build.main(["--cache", str(tmp_path)]) == 3  # it would, had it the tools


def test_so_is_what_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = tmp_path / "liboqs" / "lib" / "liboqs.so"
    there.parent.mkdir(parents=True)
    there.write_text("not ELF")
    monkeypatch.setenv("PATH", "")
    assert kem_oqs_build.main(["--cache", str(tmp_path)]) == 3


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


def test_our_source_defines_what_the_check_looks_for() -> None:
    assert f"bool {kem_oqs_build.COMPAT_SYMBOL}(" in kem_oqs_build.COMPAT.read_text()
