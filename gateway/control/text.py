"""Small pieces of human-readable output: ages, sizes, columns, colours."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime

_STEPS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_ANSI = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
# C0, DEL and C1 controls, line separators, and the marks that change writing direction
_UNPRINTABLE = dict.fromkeys(
    (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A)), "?"
)

PROTECTION_COLOURS = {
    "HYBRID": ("green", "bold"),
    "PQC_ONLY": ("yellow", "bold"),
    "CLASSICAL": ("red", "bold"),
    "BLOCKED": ("red", "bold"),
    "DOWN": ("red", "bold"),
}


class Style:
    """Colours on a terminal, nothing elsewhere. NO_COLOR (no-color.org) switches them off."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    @classmethod
    def for_stdout(cls) -> Style:
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(colour=wanted and sys.stdout.isatty())

    def paint(self, text: str, *names: str) -> str:
        if not self._colour or not names:
            return text
        return f"\x1b[{';'.join(_ANSI[name] for name in names)}m{text}\x1b[0m"


def clean(text: object) -> str:
    """Text from a peer or KME made fit for a terminal: no control characters."""
    return str(text).translate(_UNPRINTABLE)


def duration(seconds: float) -> str:
    """The two largest units: ``3h 12m``, ``45s``, ``0s``."""
    rest = max(0, int(seconds))
    parts = []
    for size, unit in _STEPS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0s"


def between(earlier: str, later: str) -> float:
    """Seconds from one RFC 3339 moment to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def ago(moment: str, now: str) -> str:
    return f"{duration(between(moment, now))} ago"


def size(octets: int) -> str:
    """``512 B``, ``1.5 KiB``, ``20.3 MiB``."""
    value = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{octets} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def short_key_id(key_id: str) -> str:
    """A key_ID as people compare it: its first eight digits."""
    return f"{clean(key_id)[:8]}…"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def row(label: str, text: str) -> str:
    """One line of a block: what it is about, then the rest in a column."""
    return f"  {label:<8}{text}"


def mixed(key_exchanges: Sequence[str], key_id: str | None, *between: str) -> str:
    """``X25519/KE1_ML-KEM-768/PPK``: KE1 and PPK as swanctl shows them."""
    parts = [*key_exchanges[:1]]
    parts += [f"KE{number}_{name}" for number, name in enumerate(key_exchanges[1:], 1)]
    parts += [*between, *(["PPK"] if key_id is not None else [])]
    return clean("/".join(parts))


def rekeying(moment: str | None, now: str) -> str:
    """``, rekeying in 5m``, or nothing where that is not known."""
    if moment is None:
        return ""
    left = between(now, moment)
    return f", rekeying {f'in {duration(left)}' if left > 0 else 'due'}"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, as wide as their widest cell, two spaces apart."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
