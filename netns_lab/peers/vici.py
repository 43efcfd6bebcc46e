"""Reads what ``swanctl --pretty`` prints: messages of strongSwan's control protocol as text.

name {
  key = value
  list = [
    value
  ]
}
"""

from __future__ import annotations

from typing import Any

from netns_lab.errors import LabError

Section = dict[str, Any]
"""Keys to text, lists of text, or further sections."""


def messages(text: str) -> list[tuple[str, Section]]:
    """Every message in ``text`` with its title, such as "list-sa event"."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found: list[tuple[str, Section]] = []
    position = 0
    while position < len(lines):
        title, opens, _ = lines[position].rpartition(" {")
        if not opens:
            raise LabError(f"swanctl: {lines[position]!r} begins no message")
        section, position = _section(lines, position + 1)
        found.append((title, section))
    return found


def _section(lines: list[str], position: int) -> tuple[Section, int]:
    """What stands up to the brace that closes the section, and the line after it."""
    section: Section = {}
    while position < len(lines):
        line = lines[position]
        position += 1
        if line == "}":
            return section, position
        if line.endswith(" {"):
            section[line[:-2]], position = _section(lines, position)
        elif line.endswith(" = ["):
            end = lines.index("]", position)
            section[line[:-4]] = lines[position:end]
            position = end + 1
        else:
            name, _, value = line.partition(" = ")
            section[name.removesuffix(" =")] = value
    raise LabError("swanctl: a section that does not end")
