"""The rows of a run as the tables in docs/ikev2.md and docs/macsec.md, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netns_lab.interop.report import Row
from netns_lab.interop.scenario import BOTH, MKA_BOTH

ROLES = (BOTH, MKA_BOTH)
"""Of scenarios that stand in one table."""
_SAID_OF_ALL = (
    "decrypted at isp",
    "decrypted on the link",
    "keys in logs, status and capture",
)
"""What every row has passed stands once above the table, not in every line."""


def markdown(rows: Sequence[Row], what: Mapping[str, str]) -> str:
    """``what`` describes each scenario. One line per scenario and peer, in the rows' order."""
    tables = (([row for row in rows if row.role in roles], roles) for roles in ROLES)
    return "\n".join(_table(chosen, roles, what) for chosen, roles in tables if chosen)


def _table(rows: Sequence[Row], roles: Sequence[str], what: Mapping[str, str]) -> str:
    heads = " | ".join(f"as {role.replace('-', ' ')}" for role in roles)
    lines = [f"| peer | scenario | {heads} | seen |", "|---|---|---|---|---|"]
    for peer, scenario in dict.fromkeys((row.peer, row.scenario) for row in rows):
        by_role = {row.role: row for row in rows if (row.peer, row.scenario) == (peer, scenario)}
        played = [by_role[role] for role in roles if role in by_role]
        version = next((row.version for row in played if row.version), "")
        cells = (
            f"{peer} {version}".strip(),
            f"{what.get(scenario, '')} (`{scenario}`)".strip(),
            *(by_role[role].result if role in by_role else "-" for role in roles),
            _seen(played),
        )
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _seen(played: Sequence[Row]) -> str:
    """The suites and findings: what both roles found first, then what is each one's own."""
    found = [_facts(row) for row in played]
    shared = [fact for fact in found[0] if all(fact in facts for facts in found)]
    own = ["; ".join(fact for fact in facts if fact not in shared) for facts in found]
    return "; ".join((*shared, *([" // ".join(own)] if any(own) else ())))


def _facts(row: Row) -> list[str]:
    facts = [row.negotiated.replace(" | ", ", "), *row.detail.split("; ")]
    return [fact for fact in facts if fact and not fact.endswith(_SAID_OF_ALL)]
