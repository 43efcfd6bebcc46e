"""The build's own decisions. That it builds is shown by ``make liboqs``; it needs minutes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.crypto import kem_oqs_build as build


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "liboqs" / "lib").mkdir(parents=True)
    return tmp_path


def compile_library(cache: Path, source: str) -> None:
    """A tiny shared library where the built one would be."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    (cache / "tiny.c").write_text(source)
    target = cache / "liboqs" / "lib" / "liboqs.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, cache / "tiny.c"], check=True)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders something was built for."""
    calls: list[Path] = []

    def record(cache: Path) -> Path:
        calls.append(cache)
        return cache

    monkeypatch.setattr(build, "build", record)
    monkeypatch.setattr(build, "missing_tools", list)
    return calls


def test_a_library_that_fits_is_kept(cache: Path, built: list[Path]) -> None:
    compile_library(cache, f"int {build.COMPAT_SYMBOL}(void) {{ return 0; }}")
    assert build.main(["--cache", str(cache)]) == 0
    assert not built


def test_one_that_liboqs_python_would_refuse_is_built_anew(cache: Path, built: list[Path]) -> None:
    compile_library(cache, "int OQS_init(void) { return 0; }")
    assert build.main(["--cache", str(cache)]) == 0
    assert built == [cache]


def test_so_is_a_broken_one(cache: Path, built: list[Path]) -> None:
    (cache / "liboqs" / "lib" / "liboqs.so").write_text("not ELF")
    assert build.main(["--cache", str(cache)]) == 0
    assert built == [cache]


def test_a_missing_tool_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "missing_tools", lambda: ["cargo", "cmake"])
    assert build.main(["--cache", str(tmp_path)]) == build.EXIT_NO_TOOL
    assert capsys.readouterr().err == "cannot build liboqs: cargo, cmake not found\n"


def test_our_source_is_packaged_and_defines_what_the_check_looks_for() -> None:
    assert f"bool {build.COMPAT_SYMBOL}(" in build.COMPAT.read_text()
