"""TOML of what the lab writes: tables of strings, numbers, booleans and lists of strings."""

from __future__ import annotations

from collections.abc import Mapping

Scalar = str | int | float | bool
Table = Mapping[str, "Scalar | tuple[str, ...]"]


def toml(tables: Mapping[str, Table]) -> str:
    parts = []
    for name, table in tables.items():
        lines = [f"{key} = {_value(value)}" for key, value in table.items()]
        parts.append("\n".join([f"[{name}]", *lines]) + "\n")
    return "\n".join(parts)


def _value(value: Scalar | tuple[str, ...]) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case _:
            return "[" + ", ".join(_value(item) for item in value) + "]"
