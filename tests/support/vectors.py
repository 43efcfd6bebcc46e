"""Reads the JSON files of tests/vectors. Each names its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parents[1] / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    """The cases of ``tests/vectors/<name>.json``."""
    document = json.loads((_FOLDER / f"{name}.json").read_text())
    assert document["source"]
    cases: list[dict[str, Any]] = document["cases"]
    assert cases
    return cases
