"""Configuration of the KME and of the link: TOML in, checked and typed values out.

Relative paths are relative to the file. Every error names the file, the table and the key.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qkd_adapters.address import Address, parse_address, split_host_port
from qkd_adapters.errors import KmeConfigError
from qkd_adapters.source import BLOCK_BITS, MAX_RATE

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_MSGSPEC_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)

T = TypeVar("T")


# --- the files as written ----------------------------------------------------------------


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _KmeTable(_Table, frozen=True, kw_only=True):
    id: str
    listen: list[str]
    ca: str
    certificate: str
    key: str
    control_socket: str


class _KmeLinkTable(_Table, frozen=True, kw_only=True):
    connect: str
    peer_kme: str


class _KeysTable(_Table, frozen=True, kw_only=True):
    min_size: int = 64
    max_size: int = 4096
    max_per_request: int = 128
    max_count: int = 1024
    max_sae_ids: int = 4
    lifetime: str = "1h"


class _SaeTable(_Table, frozen=True, kw_only=True):
    peers: list[str]
    certificate: list[str] = []


class _KmeFile(_Table, frozen=True, kw_only=True):
    kme: _KmeTable
    link: _KmeLinkTable
    sae: dict[str, dict[str, Any]]
    keys: _KeysTable = _KeysTable()


class _LinkTable(_Table, frozen=True, kw_only=True):
    name: str
    rate: float
    control_socket: str


class _SideTable(_Table, frozen=True, kw_only=True):
    listen: str


class _LinkFile(_Table, frozen=True, kw_only=True):
    link: _LinkTable
    side: dict[str, dict[str, Any]]


# --- what the programs use ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeSettings:
    """``certificate_names`` as in identity.py: ``uri:...``, ``dns:...`` or ``cn:...``."""

    sae_id: str
    peers: tuple[str, ...]
    certificate_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """Sizes in bits, ``lifetime`` in seconds; ``max_count`` per SAE pair and direction."""

    min_size: int
    max_size: int
    max_per_request: int
    max_count: int
    max_sae_ids: int
    lifetime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeSettings:
    kme_id: str
    listen: tuple[tuple[str, int], ...]
    ca: Path
    certificate: Path
    key: Path
    control_socket: Path
    link: Address
    peer_kme: str
    keys: KeySettings
    saes: tuple[SaeSettings, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(local SAE, remote SAE)."""
        return tuple((sae.sae_id, peer) for sae in self.saes for peer in sae.peers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """``rate`` in 256-bit keys per second over all directions; ``sides`` by KME id."""

    name: str
    rate: float
    control_socket: Path
    sides: tuple[tuple[str, Address], tuple[str, Address]]


class _File:
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
        match = _DURATION.fullmatch(text)
        if match is None or not float(match[1]):
            raise self.error(table, key, f'{text!r} is not a duration such as "90s" or "1h"')
        return float(match[1]) * _UNITS[match[2]]

    def between(self, table: str, key: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise self.error(table, key, f"{value:g} is not between {low:g} and {high:g}")


def load_kme(path: Path) -> KmeSettings:
    """Raises KmeConfigError."""
    file = _File(path)
    raw = file.read(_KmeFile)
    if not raw.kme.listen:
        raise file.error("kme", "listen", "no address")
    try:
        listen = tuple(split_host_port(text) for text in raw.kme.listen)
    except ValueError as error:
        raise file.error("kme", "listen", str(error)) from error
    return KmeSettings(
        kme_id=raw.kme.id,
        listen=listen,
        ca=file.file(raw.kme.ca),
        certificate=file.file(raw.kme.certificate),
        key=file.file(raw.kme.key),
        control_socket=file.file(raw.kme.control_socket),
        link=file.address("link", "connect", raw.link.connect),
        peer_kme=raw.link.peer_kme,
        keys=_keys(file, raw.keys),
        saes=_saes(file, file.tables("sae", raw.sae, _SaeTable)),
    )


def _keys(file: _File, raw: _KeysTable) -> KeySettings:
    file.between("keys", "min_size", raw.min_size, 8, BLOCK_BITS)
    file.between("keys", "max_size", raw.max_size, BLOCK_BITS, 65_536)
    for key, size in (("min_size", raw.min_size), ("max_size", raw.max_size)):
        if size % 8:
            raise file.error("keys", key, f"{size} is not a multiple of 8")
    file.between("keys", "max_per_request", raw.max_per_request, 1, 10_000)
    file.between("keys", "max_count", raw.max_count, 1, 10_000)
    file.between("keys", "max_sae_ids", raw.max_sae_ids, 0, 1_000)
    return KeySettings(
        min_size=raw.min_size,
        max_size=raw.max_size,
        max_per_request=raw.max_per_request,
        max_count=raw.max_count,
        max_sae_ids=raw.max_sae_ids,
        lifetime=file.seconds("keys", "lifetime", raw.lifetime),
    )


def _saes(file: _File, raw: dict[str, _SaeTable]) -> tuple[SaeSettings, ...]:
    owners: dict[str, str] = {}
    saes = []
    for sae_id, table in raw.items():
        where = f"sae.{sae_id}"
        for peer in table.peers:
            if peer in raw:
                raise file.error(where, "peers", f"{peer!r} is served by this KME too")
        if len(set(table.peers)) != len(table.peers):
            raise file.error(where, "peers", "names one SAE twice")
        names = tuple(table.certificate) or default_certificate_names(sae_id)
        for name in names:
            if not name.startswith(("uri:", "dns:", "cn:")):
                raise file.error(where, "certificate", f"{name!r} is not uri:, dns: or cn:")
            if owners.setdefault(name, sae_id) != sae_id:
                raise file.error(where, "certificate", f"{name!r} is also {owners[name]!r}")
        saes.append(SaeSettings(sae_id=sae_id, peers=tuple(table.peers), certificate_names=names))
    return tuple(saes)


def default_certificate_names(sae_id: str) -> tuple[str, ...]:
    return (f"uri:urn:qsgw:sae:{sae_id}", f"dns:{sae_id}", f"cn:{sae_id}")


def load_link(path: Path) -> LinkSettings:
    """Raises KmeConfigError."""
    file = _File(path)
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
