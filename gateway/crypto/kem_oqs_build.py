"""Builds the liboqs that ``kem_oqs`` finds: ``python -m gateway.crypto.kem_oqs_build --cache DIR``.

The sources come with the Rust crate ``oqs-sys``, which cargo downloads and checks; nothing
of Rust is compiled. CMake makes a shared library with the KEMs we use, and what liboqs-python
asks of a library besides (``liboqs_compat.c``), and installs it as DIR/liboqs. HQC is left
out: liboqs has it off by default in this release.

Exit codes: 0 built or already there, 1 a step failed, 3 a tool is missing.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

CRATE: Final = "oqs-sys"
CRATE_VERSION: Final = "0.11.0"  # liboqs 0.13.0
ALGORITHMS: Final = (
    "KEM_ml_kem_512",
    "KEM_ml_kem_768",
    "KEM_ml_kem_1024",
    "KEM_frodokem_976_shake",
    "KEM_frodokem_1344_shake",
)
COMPAT: Final = Path(__file__).with_name("liboqs_compat.c")
COMPAT_SYMBOL: Final = "OQS_SIG_supports_ctx_str"
TOOLS: Final = ("cargo", "cmake", "cc")
EXIT_FAILED: Final = 1
EXIT_NO_TOOL: Final = 3
_MANIFEST: Final = f"""\
[package]
name = "liboqs-sources"
version = "0.0.0"
edition = "2021"

[lib]
path = "lib.rs"

[dependencies]
{CRATE} = "={CRATE_VERSION}"
"""


class StepFailedError(Exception):
    """A command did not succeed. The text is for the user."""


def missing_tools() -> list[str]:
    """The programs that are needed and not on the path."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def library(prefix: Path) -> Path | None:
    """The shared library under an installation prefix, or None."""
    candidates = (prefix / folder / "liboqs.so" for folder in ("lib", "lib64"))
    return next((path for path in candidates if path.is_file()), None)


def has_compat(path: Path) -> bool:
    """Whether a library can be loaded and has what liboqs-python looks up in it."""
    try:
        return hasattr(ctypes.CDLL(str(path)), COMPAT_SYMBOL)
    except OSError:
        return False


def build(cache: Path) -> Path:
    """Build into ``cache``/liboqs; the path of the library. StepFailedError with the reason."""
    work = cache / "liboqs-build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    source = _download(work)
    # Installed beside and renamed at the end, so that half a build is never found.
    staged, prefix = work / "installed", cache / "liboqs"
    _add_compat(source)
    _compile(source, work / "build", staged)
    made = library(staged)
    if made is None or not has_compat(made):
        raise StepFailedError(f"no liboqs.so with {COMPAT_SYMBOL} under {staged}")
    shutil.rmtree(prefix, ignore_errors=True)
    staged.rename(prefix)
    shutil.rmtree(work, ignore_errors=True)
    return prefix / made.relative_to(staged)


def _download(work: Path) -> Path:
    """The liboqs sources of the crate."""
    (work / "Cargo.toml").write_text(_MANIFEST)
    (work / "lib.rs").touch()
    _run(["cargo", "vendor", "--quiet", "vendor"], work)
    source = work / "vendor" / CRATE / "liboqs"
    if not (source / "CMakeLists.txt").is_file():
        raise StepFailedError(f"{CRATE} {CRATE_VERSION} has no liboqs sources")
    return source


def _add_compat(source: Path) -> None:
    """Our own file becomes one more source of the target ``oqs``, in this copy of the sources."""
    with (source / "src" / "CMakeLists.txt").open("a") as target:
        target.write(f'\ntarget_sources(oqs PRIVATE "{COMPAT.as_posix()}")\n')


def _compile(source: Path, build_folder: Path, prefix: Path) -> None:
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": str(prefix),
        "CMAKE_INSTALL_LIBDIR": "lib",
        "BUILD_SHARED_LIBS": "ON",
        "OQS_BUILD_ONLY_LIB": "ON",
        "OQS_DIST_BUILD": "ON",  # chooses code for the processor when it runs
        "OQS_USE_OPENSSL": "OFF",
        "OQS_MINIMAL_BUILD": ";".join(ALGORITHMS),
    }
    generator = ["-GNinja"] if shutil.which("ninja") else []
    settings = [f"-D{name}={value}" for name, value in options.items()]
    _run(
        ["cmake", "-S", str(source), "-B", str(build_folder), *generator, *settings],
        build_folder.parent,
    )
    jobs = str(os.cpu_count() or 1)
    _run(["cmake", "--build", str(build_folder), "--parallel", jobs], build_folder.parent)
    _run(["cmake", "--install", str(build_folder)], build_folder.parent)


def _run(command: Sequence[str], folder: Path) -> None:
    """Run one step; its output is shown only where it fails."""
    done = subprocess.run(  # noqa: S603 - fixed programs, no shell
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise StepFailedError(f"{' '.join(command[:3])} ... failed:\n{tail}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.crypto.kem_oqs_build", description="Build liboqs for qsgw."
    )
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR")
    cache: Path = parser.parse_args(arguments).cache.resolve()
    existing = library(cache / "liboqs")
    if existing is not None and has_compat(existing):
        sys.stdout.write(f"liboqs is already there: {existing}\n")
        return 0
    missing = missing_tools()
    if missing:
        sys.stderr.write(f"cannot build liboqs: {', '.join(missing)} not found\n")
        return EXIT_NO_TOOL
    try:
        result = build(cache)
    except StepFailedError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    sys.stdout.write(f"liboqs built: {result}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
