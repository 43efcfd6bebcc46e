"""KME clients from the configuration; one that cannot be made is a KME that does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gateway.config.schema import KmeConfig
from kms_client.errors import KmeTlsError, TlsMaterialError
from kms_client.etsi014 import KmeClient
from kms_client.failover import Kme
from kms_client.models import QkdKey, Status
from kms_client.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class KmeEntry:
    """A KME as configured, with its files as they are: renewed certificates make another one."""

    config: KmeConfig
    stamps: tuple[int, ...]  # modification times, 0 where a file is missing

    @classmethod
    def of(cls, config: KmeConfig) -> KmeEntry:
        files = (config.ca, config.certificate, config.key)
        return cls(config, tuple(_modified(file) for file in files))


def _modified(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def connect(config: KmeConfig) -> Kme:
    """A client; where certificate or key cannot be used, one that says so on every request.

    So a bad file costs this KME, and not the daemon or the tunnels that do without it.
    """
    files = TlsFiles(ca=config.ca, certificate=config.certificate, key=config.key)
    try:
        return KmeClient(name=config.name, url=config.url, tls=files, timeout=config.timeout)
    except TlsMaterialError as error:
        return UnusableKme(config.name, config.url, str(error))


class UnusableKme:
    """Stands in for a KME whose TLS files cannot be used."""

    def __init__(self, name: str, url: str, reason: str) -> None:
        self.name = name
        self.url = url
        self._reason = reason

    async def status(self, peer_sae: str) -> Status:
        del peer_sae
        self._refuse()

    async def enc_keys(
        self, peer_sae: str, *, number: int = 1, size: int = 256
    ) -> tuple[QkdKey, ...]:
        del peer_sae, number, size
        self._refuse()

    async def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[QkdKey, ...]:
        del peer_sae, key_ids
        self._refuse()

    async def close(self) -> None:
        """Nothing is open."""

    def _refuse(self) -> NoReturn:
        raise KmeTlsError(self.name, self._reason)
