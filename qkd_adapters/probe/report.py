"""The findings as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from qkd_adapters.probe.advice import advise
from qkd_adapters.probe.findings import Findings, Row, Verdict

WIDTHS = (11, 7, 34, 30, 44)  # verdict, clause, requirement, expected, got


def table(findings: Findings) -> str:
    lines = [f"ETSI GS QKD 014 V1.1.1 at {findings.url}, keys shared with {findings.peer}"]
    if findings.second_url is not None:
        lines.append(f"slave's side at {findings.second_url}")
    lines += ["", *_cells(("verdict", "clause", "requirement", "expected", "got"))]
    for row in findings.rows:
        lines += _cells(_texts(row))
    counts = ", ".join(f"{findings.count(verdict)} {verdict}" for verdict in Verdict)
    used = f"{findings.keys} keys were used up"
    if findings.lost:
        used += f", {findings.lost} answers were lost and may have cost one each"
    lines += ["", f"{counts}; {used}"]
    if findings.traits:
        lines.append("quirks: " + ", ".join(sorted(findings.traits)))
    advice = advise(findings)
    if advice.profile is not None:
        lines.append(f'profile = "{advice.profile}"')
    else:
        lines.append("no profile fits")
    lines += [f"  {note}" for note in advice.notes]
    return "\n".join(lines)


def _texts(row: Row) -> tuple[str, ...]:
    return (row.verdict.value, row.clause, row.requirement, row.expected, row.got)


def _cells(texts: tuple[str, ...]) -> Iterator[str]:
    columns = [wrap(text, width) or [""] for text, width in zip(texts, WIDTHS, strict=True)]
    for line in range(max(map(len, columns))):
        cells = (
            (column[line] if line < len(column) else "").ljust(width)
            for column, width in zip(columns, WIDTHS, strict=True)
        )
        yield "  ".join(cells).rstrip()
