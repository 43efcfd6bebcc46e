"""Where the lab keeps things on the host: a cache that may be deleted, and its output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PARENT = Path(__file__).resolve().parent.parent
_IN_CHECKOUT = (_PARENT / "pyproject.toml").is_file()


def checkout() -> Path | None:
    """The source tree this package runs from, or None for an installed package."""
    return _PARENT if _IN_CHECKOUT else None


def cache() -> Path:
    """Fetched system packages. ``QSGW_CACHE`` overrides."""
    if "QSGW_CACHE" in os.environ:
        return Path(os.environ["QSGW_CACHE"]).absolute()
    if _IN_CHECKOUT:
        return _PARENT / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "qsgw"


def build() -> Path:
    """Reports, captures, logs of failed scenarios. ``QSGW_BUILD`` overrides."""
    if "QSGW_BUILD" in os.environ:
        return Path(os.environ["QSGW_BUILD"]).absolute()
    return (_PARENT if _IN_CHECKOUT else Path.cwd()) / "build"


def import_path() -> str:
    """Where this package was found: programs in the lab run the same tree's code."""
    return str(_PARENT)


def scripts() -> Path:
    """The folder of qsgwd, qsgw, qsgw-kme beside the Python that runs us."""
    return Path(sys.executable).parent
