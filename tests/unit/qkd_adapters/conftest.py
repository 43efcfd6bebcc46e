"""The lab needs a short directory: pytest's tmp_path can exceed a Unix socket's path."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.kme_lab import KmeLab


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kme") as name:
        yield Path(name)


@pytest.fixture
async def lab(short_dir: Path) -> AsyncIterator[KmeLab]:
    """Started and full: every queue at its bound, cut so that nothing moves by itself."""
    async with KmeLab(short_dir) as lab:
        await lab.filled()
        lab.source.cut()
        yield lab
