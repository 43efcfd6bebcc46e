"""The rows of an interoperability run as the table in docs/ikev2.md, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netns_lab.interop.report import Row

ROLES = ("initiator", "responder")
_SAID_OF_ALL = ("decrypted at isp", "keys in logs, status and capture")
"""What every row has passed stands once above the table, not in every line."""


def markdown(rows: Sequence[Row], what: Mapping[str, str]) -> str:
    """``what`` describes each scenario. One line per scenario and peer, in the rows' order."""
    lines = [
        "| peer | scenario | as initiator | as responder | seen |",
        "|---|---|---|---|---|",
    ]
    for peer, scenario in dict.fromkeys((row.peer, row.scenario) for row in rows):
        by_role = {row.role: row for row in rows if (row.peer, row.scenario) == (peer, scenario)}
        version = next(iter(by_role.values())).version
        cells = (
            f"{peer} {version}".strip(),
            f"{what.get(scenario, '')} (`{scenario}`)".strip(),
            *(by_role[role].result if role in by_role else "-" for role in ROLES),
            _seen(by_role),
        )
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _seen(by_role: Mapping[str, Row]) -> str:
    """The suites and findings: what both roles found first, then what is each one's own."""
    found = [_facts(by_role[role]) for role in ROLES if role in by_role]
    shared = [fact for fact in found[0] if all(fact in facts for facts in found)]
    own = ["; ".join(fact for fact in facts if fact not in shared) for facts in found]
    return "; ".join((*shared, *([" // ".join(own)] if any(own) else ())))


def _facts(row: Row) -> list[str]:
    facts = [row.negotiated.replace(" | ", ", "), *row.detail.split("; ")]
    return [fact for fact in facts if fact and not fact.endswith(_SAID_OF_ALL)]
