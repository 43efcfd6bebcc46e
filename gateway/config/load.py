"""Reads a configuration file: TOML to tables, tables to the typed configuration.

All that is wrong is reported at once, each problem with its table and key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import EnumType
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from gateway.config import shares
from gateway.config.build import Builder
from gateway.config.check import check_config
from gateway.config.check_macsec import check_macsec
from gateway.config.ends import End, compare
from gateway.config.files import FileResolver
from gateway.config.problems import Problems, TableProblems, did_you_mean
from gateway.config.schema import GatewayConfig, MacsecConfig, TunnelConfig
from gateway.config.tables import (
    ConnectionTable,
    GatewayTable,
    KmeTable,
    MacsecTable,
    MetricsTable,
    MqttTable,
    Table,
    TunnelTable,
)
from gateway.errors import ConfigError, ConfigProblem

TOP_LEVEL = ("gateway", "mqtt", "metrics", "kme", "tunnel", "connection", "macsec")

TableT = TypeVar("TableT", bound=Table)
BuiltT = TypeVar("BuiltT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A usable configuration, and what its operator should still know about it."""

    config: GatewayConfig
    warnings: tuple[ConfigProblem, ...]


def load_config(path: Path) -> LoadedConfig:
    """Read and check a configuration file. Raises ConfigError with every problem found.

    A certificate out of its time is a warning here: its tunnel will not come up, and is no
    reason to do without the others.
    """
    config, problems = inspect_config(path, tolerate_dates=True)
    if config is None:
        raise ConfigError(str(path), tuple(problems.errors))
    return LoadedConfig(config=config, warnings=tuple(problems.warnings))


def inspect_config(
    path: Path,
    *,
    outside_service: bool = False,
    tolerate_dates: bool = False,
    now: datetime | None = None,
) -> tuple[GatewayConfig | None, Problems]:
    """The configuration, or None when it is unusable, and all there is to say about the file.

    With ``outside_service`` set, and $CREDENTIALS_DIRECTORY not, ``credential:`` references
    are warned about and not followed: for checking a service's configuration from a shell.
    The secrets of such a configuration are placeholders. ``tolerate_dates``: a certificate out
    of its time is a warning, no error. ``now`` is for tests.
    """
    config, problems = _inspect(
        path, outside_service=outside_service, tolerate_dates=tolerate_dates, now=now
    )
    return (None if problems.errors else config), problems


def inspect_ends(path: Path, peer: Path) -> Problems:
    """What the configurations of two gateways do not agree on, told of the first.

    As far as they can be read: the peer's secrets need not be on this machine.
    """
    (ours, own), (theirs, other) = (_inspect(one, outside_service=True) for one in (path, peer))
    if theirs is None:
        found = Problems()
        found.at("").error("", f"{peer} is not usable: check it by itself")
        return found
    return Problems() if ours is None else compare(End(ours, own), End(theirs, other))


def _inspect(
    path: Path,
    *,
    outside_service: bool,
    tolerate_dates: bool = False,
    now: datetime | None = None,
) -> tuple[GatewayConfig | None, Problems]:
    """With errors too the configuration, as far as it can be read."""
    path = path.absolute()
    problems = Problems()
    data = parse_file(path, problems)
    config = None
    if data:
        config = _read(
            path,
            data,
            problems,
            outside_service=outside_service,
            tolerate_dates=tolerate_dates,
            now=now or datetime.now(UTC),
        )
    return config, problems


def parse_file(path: Path, problems: Problems) -> dict[str, Any]:
    """The tables of a TOML file; none, and an error noted, where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        text = f"not UTF-8 at octet {error.start}"
    except tomllib.TOMLDecodeError as error:
        text = f"not TOML: {error}"
    else:
        if data:
            return data
        text = "is empty"
    problems.at("").error("", text)
    return {}


def _read(
    path: Path,
    data: dict[str, Any],
    problems: Problems,
    *,
    outside_service: bool,
    tolerate_dates: bool,
    now: datetime,
) -> GatewayConfig | None:
    for name in data.keys() - set(TOP_LEVEL):
        problems.at("").error(name, f"unknown table{did_you_mean(name, TOP_LEVEL)}")
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    files = FileResolver(base=path.parent, credentials=Path(directory) if directory else None)
    skip = outside_service and directory is None

    def builder(told: Problems) -> Builder:
        return Builder(files, told, now=now, skip_credentials=skip, tolerate_dates=tolerate_dates)

    build = builder(problems)

    gateway = mqtt = metrics = None
    if "gateway" in data:
        gateway = _one(problems.at("gateway"), data["gateway"], GatewayTable, build.gateway)
    else:
        problems.at("gateway").error("", "this table is missing")
    if "mqtt" in data:
        mqtt = _one(problems.at("mqtt"), data["mqtt"], MqttTable, build.mqtt)
    if "metrics" in data:
        metrics = _one(problems.at("metrics"), data["metrics"], MetricsTable, build.metrics)
    kmes = {}
    for name, entry in named_tables(problems, data, "kme").items():
        kme = _one(problems.at(f"kme.{name}"), entry, KmeTable, partial(build.kme, name))
        if kme is not None:
            kmes[name] = kme
    tunnels = _tunnels(data, problems, builder)
    links = _links(data, problems, build)
    if not tunnels and not links and not problems.errors:
        text = "there is no [tunnel.NAME], [connection.NAME] or [macsec.NAME]: nothing to do"
        problems.at("tunnel").warn("", text)
    check_config(gateway, tunnels, kmes, kme_names=_names(data, "kme"), problems=problems)
    check_macsec(
        links,
        tunnels,
        connections=_names(data, "connection"),
        tunnel_names=_names(data, "tunnel"),
        problems=problems,
    )
    if gateway is None:
        return None
    return GatewayConfig(
        file=path,
        gateway=gateway,
        mqtt=mqtt,
        metrics=metrics,
        kmes=kmes,
        tunnels=tunnels,
        macsec=links,
    )


def _tunnels(
    data: dict[str, Any], problems: Problems, builder: Callable[[Problems], Builder]
) -> dict[str, TunnelConfig]:
    """Tunnels, and connections without any."""
    tunnels = {}
    for name, entry in shares.complete(named_tables(problems, data, "tunnel"), problems).items():
        # What is wrong with the peer is told once, of the tunnel that has it.
        told = problems if "shares" not in entry else Problems()
        at = told.at(f"tunnel.{name}")
        tunnel = _one(at, entry, TunnelTable, partial(builder(told).tunnel, name))
        if tunnel is not None:
            tunnels[name] = tunnel
        if told is not problems:
            problems.add(told, leaving_out=shares.PEER_KEYS)
    for name, entry in named_tables(problems, data, "connection").items():
        at = problems.at(f"connection.{name}")
        if name in tunnels:
            at.error("", f"there is a [tunnel.{name}]: give it another name")
            continue
        connection = partial(builder(problems).connection, name)
        made = _one(at, entry, ConnectionTable, connection)
        if made is not None:
            tunnels[name] = made
    return tunnels


def _links(data: dict[str, Any], problems: Problems, build: Builder) -> dict[str, MacsecConfig]:
    links = {}
    for name, entry in named_tables(problems, data, "macsec").items():
        at = problems.at(f"macsec.{name}")
        link = _one(at, entry, MacsecTable, partial(build.macsec, name))
        if link is not None:
            links[name] = link
    return links


def _names(data: dict[str, Any], kind: str) -> frozenset[str]:
    """Of all tables ``[kind.NAME]``, those with errors included."""
    return frozenset(named_tables(Problems(), data, kind))


def named_tables(problems: Problems, data: dict[str, Any], kind: str) -> dict[str, Any]:
    """The tables ``[kind.NAME]`` by name."""
    entries = data.get(kind, {})
    if not isinstance(entries, dict) or any(not isinstance(e, dict) for e in entries.values()):
        problems.at(kind).error("", f"write [{kind}.NAME], one table for each")
        return {}
    return entries


def _one(
    at: TableProblems,
    data: object,
    kind: type[TableT],
    build: Callable[[TableT], BuiltT | None],
) -> BuiltT | None:
    """One table read and built as far as it can be, errors noted; None when nothing can."""
    table = read_table(at, data, kind)
    return build(table) if table is not None else None


def read_table(at: TableProblems, data: object, kind: type[TableT]) -> TableT | None:
    """Check keys and types one by one, so that every wrong one is reported.

    Wrong and missing ones are left out of the result: what else is there can still be checked.
    """
    if not isinstance(data, dict):
        at.error("", f"write [{at.table}], a table")
        return None
    fields = _fields(kind)
    for key in data.keys() - fields.keys():
        at.error(key, f"unknown key{did_you_mean(key, fields)}")
    values: dict[str, Any] = {key: None for key, field in fields.items() if field.required}
    for key, field in fields.items():
        if key not in data:
            if field.required:
                at.error(key, "this key is missing")
            continue
        try:
            values[key] = msgspec.convert(data[key], field.type)
        except msgspec.ValidationError as error:
            at.error(key, _in_words(str(error), field.type))
    return kind(**values)


@cache
def _fields(kind: type[Table]) -> dict[str, msgspec.structs.FieldInfo]:
    """Their types are evaluated anew each time they are asked for, which takes milliseconds."""
    return {field.name: field for field in msgspec.structs.fields(kind)}


_TYPE_WORDS = {
    "str": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def _choices(expected: object) -> str:
    """Those of an enum or ``Literal``, as they are written in the file."""
    for kind in (expected, *get_args(expected)):
        found = kind if isinstance(kind, EnumType) else get_args(kind)
        if isinstance(kind, EnumType) or get_origin(kind) is Literal:
            return ", ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in found)
    return ""


def _in_words(message: str, expected: object) -> str:
    """msgspec's message in the words of a TOML file."""
    message = re.sub(r" - at `\$\[(\d+)\]`", lambda m: f" (entry {int(m[1]) + 1})", message)
    choices = _choices(expected)
    if message.startswith("Invalid enum value") and choices:
        return f"{message.replace('Invalid enum value', 'unknown value')}; use one of {choices}"
    message = message.replace(" | null", "")
    message = re.sub(r"`(\w+)`", lambda m: _TYPE_WORDS.get(m[1], m[0]), message)
    message = message.replace("of length >= 1", "that is not empty")
    return message[0].lower() + message[1:]
