"""What a scenario may ask of any foreign IKE daemon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.peers.facts import PeerSettings, SaFacts
from netns_lab.peers.fetch import Tree
from netns_lab.peers.libreswan import Libreswan
from netns_lab.peers.strongswan import StrongSwan
from netns_lab.process import Completed, Daemon


class Peer(Protocol):
    """One daemon on one host: ``prepare``, ``start``, ..., ``close``."""

    settings: PeerSettings
    version: str

    @property
    def daemon(self) -> Daemon: ...

    @property
    def log(self) -> Path: ...

    async def prepare(self) -> None:
        """Its root, with the configuration in it."""

    async def start(self) -> None:
        """Return when it has its connection and secrets."""

    async def close(self) -> None:
        """End it and take its root down."""

    async def restart(self) -> None:
        """As an operator would: it says goodbye, and has forgotten everything."""

    async def clear_kernel(self) -> None:
        """Take away what a crash left in its kernel."""

    async def configure(self, settings: PeerSettings) -> None:
        """Another configuration, without a restart."""

    async def give_ppks(self, ppks: Mapping[str, bytes]) -> None:
        """PPKs to know by their key_IDs, beside those it has."""

    async def sas(self) -> tuple[SaFacts, ...]:
        """Its IKE SAs, in any state."""

    def same_ike(self, sa: SaFacts, ours: dict[str, Any]) -> bool:
        """Does the peer tell of the same IKE SA, keyed alike, as our status does?"""

    async def initiate(self) -> Completed:
        """Set the tunnel up; what the peer said, failed or not."""

    async def rekey_child(self) -> None: ...

    async def rekey_ike(self) -> None: ...

    async def terminate(self) -> None: ...


def make(lab: Lab, host: str, tree: Tree, settings: PeerSettings) -> Peer:
    """The peer whose programs are in ``tree``."""
    match tree.name:
        case "strongswan":
            return StrongSwan(lab, host, tree, settings)
        case "libreswan":
            return Libreswan(lab, host, tree, settings)
        case other:
            raise LabError(f"no peer {other!r}")
