"""Configuration of the emulated link (``qsgw-kme link --config``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkd_adapters.address import Address
from qkd_adapters.config_file import ConfigFile, Table
from qkd_adapters.link.source import MAX_RATE


class _LinkTable(Table, frozen=True, kw_only=True):
    name: str
    rate: float
    control_socket: str


class _SideTable(Table, frozen=True, kw_only=True):
    listen: str


class _LinkFile(Table, frozen=True, kw_only=True):
    link: _LinkTable
    side: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """``rate`` in 256-bit keys per second over all directions; ``sides`` by KME id."""

    name: str
    rate: float
    control_socket: Path
    sides: tuple[tuple[str, Address], tuple[str, Address]]


def load_link(path: Path) -> LinkSettings:
    """Raises KmeConfigError."""
    file = ConfigFile(path)
    raw = file.read(_LinkFile)
    if not 0 < raw.link.rate <= MAX_RATE:
        raise file.error("link", "rate", f"{raw.link.rate:g} is not in (0, {MAX_RATE:g}] keys/s")
    if len(raw.side) != 2:
        raise file.error("side", "", f"a link has 2 sides, not {len(raw.side)}")
    sides = file.tables("side", raw.side, _SideTable)
    first, second = (
        (kme, file.address(f"side.{kme}", "listen", side.listen)) for kme, side in sides.items()
    )
    return LinkSettings(
        name=raw.link.name,
        rate=raw.link.rate,
        control_socket=file.file(raw.link.control_socket),
        sides=(first, second),
    )
