"""What is asked of a foreign MKA daemon (IEEE 802.1X), and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from netns_lab.process import Daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class MkaSettings:
    """A peer's side of the link."""

    interface: str  # the parent
    address: str  # of its MACsec device, with prefix length
    routes: tuple[tuple[str, str], ...]  # networks that are reached through it: (network, via)
    cak: str = field(repr=False)  # 32 or 64 hexadecimal digits
    ckn: str  # 2 to 64 hexadecimal digits
    priority: int  # the lowest is key server
    encryption: bool = True  # else integrity only


@dataclass(frozen=True, slots=True, kw_only=True)
class MkaFacts:
    """What a peer says of its only participant."""

    secured: bool
    is_key_server: bool
    key_server: str  # SCI, 16 hexadecimal digits
    sci: str
    ckn: str
    live_peers: int


class MkaPeer(Protocol):
    """One daemon on one host: ``prepare``, ``start``, ..., ``close``."""

    settings: MkaSettings
    version: str

    @property
    def device(self) -> str:
        """Its MACsec device."""

    @property
    def daemon(self) -> Daemon: ...

    @property
    def log(self) -> Path: ...

    async def prepare(self) -> None:
        """Its root, with the configuration in it, and the parent interface up."""

    async def start(self) -> None:
        """Return when it answers and has its device; addresses and routes come when that is up."""

    async def stop(self) -> None:
        """As an operator would."""

    async def close(self) -> None:
        """End it and take its root down."""

    async def clear_kernel(self) -> None:
        """Take away what a crash left in its kernel."""

    async def facts(self) -> MkaFacts:
        """What it says now."""

    def key_id(self, kernel: str) -> str:
        """The key identifier MI | KN, both as on the wire, of what it gave its kernel (hex)."""
