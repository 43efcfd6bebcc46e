"""What a scenario is, and the list of all of them.

@scenario("nat", peers=("strongswan",))
async def nat_between(run: Run) -> None:
    '''A NAT between the two: ESP in UDP on port 4500.'''
    async with run.pair(Setup(...)) as pair:
        await pair.up("HYBRID")
        await pair.prove()
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from netns_lab.interop.findings import Findings
from netns_lab.interop.mka_pair import MkaPair, MkaSetup
from netns_lab.interop.pair import Pair
from netns_lab.interop.setup import Setup
from netns_lab.peers.fetch import Tree

Role = Literal["initiator", "responder", "key-server", "member"]
BOTH: tuple[Role, ...] = ("initiator", "responder")
MKA_BOTH: tuple[Role, ...] = ("key-server", "member")


class Skipped(Exception):  # noqa: N818 - not an error: the peer cannot do it
    """This cannot be tried with this peer; the text says why."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One scenario in one role against one peer, while it is played."""

    name: str
    role: Role  # ours: when the IKE SA is set up, or in MKA
    tree: Tree
    folder: Path  # what a failure leaves
    negotiated: str = ""
    details: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Something worth telling in the report."""
        self.details.append(text)

    @asynccontextmanager
    async def pair(self, setup: Setup) -> AsyncIterator[Pair]:
        """Our gateway at moon and the peer at sun, both running; checked when it is left."""
        with self._findings() as seen:
            async with Pair.running(
                self.name,
                self.tree,
                setup,
                we_initiate=self.role == "initiator",
                folder=self.folder,
                findings=seen,
            ) as pair:
                yield pair

    @asynccontextmanager
    async def link(self, setup: MkaSetup) -> AsyncIterator[MkaPair]:
        """The same, on a MACsec link."""
        with self._findings() as seen:
            async with MkaPair.running(
                self.name,
                self.tree,
                setup,
                we_serve=self.role == "key-server",
                folder=self.folder,
                findings=seen,
            ) as pair:
                yield pair

    @contextmanager
    def _findings(self) -> Iterator[Findings]:
        seen = Findings()
        try:
            yield seen
        finally:
            self.negotiated = seen.negotiated
            self.details += seen.details


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    peers: tuple[str, ...]
    roles: tuple[Role, ...]
    play: Callable[[Run], Awaitable[None]]

    @property
    def what(self) -> str:
        """The first line of its description."""
        return (self.play.__doc__ or "").strip().partition("\n")[0]


SCENARIOS: list[Scenario] = []

Play = Callable[[Run], Awaitable[None]]


def scenario(
    name: str, *, peers: tuple[str, ...] = ("strongswan",), roles: tuple[Role, ...] = BOTH
) -> Callable[[Play], Play]:
    """Enter a function into the list."""

    def enter(play: Play) -> Play:
        SCENARIOS.append(Scenario(name=name, peers=peers, roles=roles, play=play))
        return play

    return enter
