"""How a configuration file is read: TOML in, checked values out.

Relative paths are relative to the file. Every error names the file, the table and the key.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qkd_adapters.address import Address, parse_address
from qkd_adapters.errors import KmeConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_MSGSPEC_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)

T = TypeVar("T")


def parse_duration(text: str) -> float:
    """Seconds, more than none. Raises ValueError with a text for the operator."""
    match = _DURATION.fullmatch(text)
    if match is None or not float(match[1]):
        raise ValueError(f'{text!r} is not a duration such as "90s" or "1h"')
    return float(match[1]) * _UNITS[match[2]]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table as written; subclasses repeat ``frozen=True, kw_only=True``."""


class ConfigFile:
    """One configuration file: reads it and words its errors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, table: str, key: str, what: str) -> KmeConfigError:
        where = f"[{table}] {key}".strip() if table else key
        return KmeConfigError(f"{self.path}: {where}: {what}" if where else f"{self.path}: {what}")

    def read(self, model: type[T]) -> T:
        try:
            with self.path.open("rb") as file:
                return msgspec.convert(tomllib.load(file), model)
        except OSError as error:
            raise KmeConfigError(f"{self.path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise KmeConfigError(f"{self.path}: not TOML: {error}") from error
        except msgspec.ValidationError as error:
            raise self._from_msgspec("", str(error)) from error

    def tables(self, parent: str, raw: dict[str, dict[str, Any]], model: type[T]) -> dict[str, T]:
        """Tables under free names; msgspec alone would not say which of them is wrong."""
        tables = {}
        for name, table in raw.items():
            try:
                tables[name] = msgspec.convert(table, model)
            except msgspec.ValidationError as error:
                raise self._from_msgspec(f"{parent}.{name}", str(error)) from error
        return tables

    def _from_msgspec(self, prefix: str, text: str) -> KmeConfigError:
        """``Expected `int`, got `str` - at `$.keys.max_count``` names table and key."""
        match = _MSGSPEC_WHERE.match(text)
        assert match is not None
        path = ".".join(part for part in (prefix, match["path"]) if part)
        member = re.search(r"(?:required|unknown) field `([^`]+)`", match["what"])
        if member is not None:
            what = "missing" if "required" in match["what"] else "unknown"
            return self.error(path, member[1], what) if path else self.error(member[1], "", what)
        table, _, key = path.rpartition(".")
        return self.error(table, key, match["what"])

    def file(self, name: str) -> Path:
        return self.path.parent / name

    def address(self, table: str, key: str, text: str) -> Address:
        try:
            return parse_address(text)
        except ValueError as error:
            raise self.error(table, key, str(error)) from error

    def seconds(self, table: str, key: str, text: str) -> float:
        try:
            return parse_duration(text)
        except ValueError as error:
            raise self.error(table, key, str(error)) from error

    def between(self, table: str, key: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise self.error(table, key, f"{value:g} is not between {low:g} and {high:g}")
