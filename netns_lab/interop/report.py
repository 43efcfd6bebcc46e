"""The table of an interoperability run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Result = Literal["pass", "fail", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scenario with one peer. ``negotiated``: IKE SA | Child SA, or CAK | SAK, as both say."""

    peer: str
    version: str
    scenario: str
    role: str  # ours
    result: Result
    negotiated: str
    detail: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def load(path: Path) -> list[Row]:
    """The rows in a file; none if it is not there."""
    if not path.exists():
        return []
    return [Row(**row) for row in json.loads(path.read_text())]


def line(row: Row) -> str:
    """A row for people."""
    head = f"{row.result:<4}  {row.peer:<14}  {row.role:<10}  {row.scenario:<22}"
    tail = [row.negotiated, row.detail]
    return f"{head}  {row.seconds:5.1f} s  " + "; ".join(word for word in tail if word)


def totals(rows: Sequence[Row]) -> str:
    counts = Counter(row.result for row in rows)
    return ", ".join(f"{counts[name]} {name}" for name in ("pass", "fail", "skip") if counts[name])
