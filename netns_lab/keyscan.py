"""Searches everything a run left behind for key bytes, in the forms in which they would leak.

The keys come from files that exist for this purpose only and are not among what is searched.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = 6  # octets compared at every position; a form is checked whole where they match


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Key bytes where there must be none. Never says which bytes."""

    file: Path
    offset: int
    form: str


def forms(key: bytes) -> Iterator[tuple[str, bytes]]:
    """A key as it would appear in memory dumps, logs and JSON."""
    yield "raw", key
    yield "hex", key.hex().encode()
    yield "HEX", key.hex().upper().encode()
    # Base64 works in groups of three octets; what is left over depends on what follows.
    whole = key[: len(key) // 3 * 3]
    yield "base64", base64.b64encode(whole)
    yield "base64url", base64.urlsafe_b64encode(whole)


class KeyScanner:
    """Looks for all of ``keys`` at once."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self.keys = tuple(dict.fromkeys(keys))
        if any(len(key) < 2 * _PREFIX for key in self.keys):
            raise ValueError(f"keys under {2 * _PREFIX} octets are found by chance")
        self._by_prefix: dict[bytes, dict[bytes, str]] = {}
        for key in self.keys:
            for form, text in forms(key):
                self._by_prefix.setdefault(text[:_PREFIX], {}).setdefault(text, form)

    def scan(self, files: Iterable[Path]) -> list[Finding]:
        return [finding for file in files for finding in self.scan_file(file)]

    def scan_file(self, file: Path) -> list[Finding]:
        data = file.read_bytes()
        prefixes = self._by_prefix
        return [
            Finding(file=file, offset=index, form=form)
            for index in range(len(data))
            if (candidates := prefixes.get(data[index : index + _PREFIX])) is not None
            for text, form in candidates.items()
            if data.startswith(text, index)
        ]


def recorded_keys(files: Iterable[Path]) -> list[bytes]:
    """QKD keys from files of ``qsgw-kme link --record-keys``: key_ID, blank, hexadecimal."""
    return [
        bytes.fromhex(line.split()[1])
        for file in files
        if file.exists()
        for line in file.read_text().splitlines()
        if line.strip()
    ]


def recorded_ids(file: Path) -> set[str]:
    """The key_IDs in such a file; none while there is no file."""
    if not file.exists():
        return set()
    return {line.split()[0] for line in file.read_text().splitlines() if line.strip()}


def files_below(folders: Iterable[Path]) -> list[Path]:
    """Every regular file in ``folders``, which may be files themselves."""
    found: list[Path] = []
    for folder in folders:
        paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        found += [path for path in paths if path.is_file()]
    return found
