"""Configuration of a KME (``qsgw-kme serve --config``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkd_adapters.address import Address, split_host_port
from qkd_adapters.config_file import ConfigFile, Table
from qkd_adapters.link.messages import BLOCK_BITS

# --- the file as written -----------------------------------------------------------------


class _KmeTable(Table, frozen=True, kw_only=True):
    id: str
    listen: list[str]
    ca: str
    certificate: str
    key: str
    control_socket: str


class _KmeLinkTable(Table, frozen=True, kw_only=True):
    connect: str
    peer_kme: str


class _KeysTable(Table, frozen=True, kw_only=True):
    min_size: int = 64
    max_size: int = 4096
    max_per_request: int = 128
    max_count: int = 1024
    max_sae_ids: int = 4
    lifetime: str = "1h"


class _SaeTable(Table, frozen=True, kw_only=True):
    peers: list[str]
    certificate: tuple[str, ...] = ()


class _KmeFile(Table, frozen=True, kw_only=True):
    kme: _KmeTable
    link: _KmeLinkTable
    sae: dict[str, dict[str, Any]]
    keys: _KeysTable = _KeysTable()


# --- what the program uses ---------------------------------------------------------------


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


def load_kme(path: Path) -> KmeSettings:
    """Raises KmeConfigError."""
    file = ConfigFile(path)
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


def _keys(file: ConfigFile, raw: _KeysTable) -> KeySettings:
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


def _saes(file: ConfigFile, raw: dict[str, _SaeTable]) -> tuple[SaeSettings, ...]:
    owners: dict[str, str] = {}
    saes = []
    for sae_id, table in raw.items():
        where = f"sae.{sae_id}"
        for peer in table.peers:
            if peer in raw:
                raise file.error(where, "peers", f"{peer!r} is served by this KME too")
        if len(set(table.peers)) != len(table.peers):
            raise file.error(where, "peers", "names one SAE twice")
        names = table.certificate or default_certificate_names(sae_id)
        for name in names:
            if not name.startswith(("uri:", "dns:", "cn:")):
                raise file.error(where, "certificate", f"{name!r} is not uri:, dns: or cn:")
            if owners.setdefault(name, sae_id) != sae_id:
                raise file.error(where, "certificate", f"{name!r} is also {owners[name]!r}")
        saes.append(SaeSettings(sae_id=sae_id, peers=tuple(table.peers), certificate_names=names))
    return tuple(saes)


def default_certificate_names(sae_id: str) -> tuple[str, ...]:
    return (f"uri:urn:qsgw:sae:{sae_id}", f"dns:{sae_id}", f"cn:{sae_id}")
