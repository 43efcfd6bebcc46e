"""Every scenario, with every peer and role it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Imported for what they enter into the list.
from netns_lab.interop import (
    certificates,
    libreswan,
    lifetime,
    mka,
    nat,
    proposals,
    quantum,
    several,
    trouble,
)
from netns_lab.interop.report import Result, Row
from netns_lab.interop.scenario import SCENARIOS, Role, Scenario

__all__ = [
    "Part",
    "certificates",
    "choose",
    "libreswan",
    "lifetime",
    "mka",
    "nat",
    "parts",
    "proposals",
    "quantum",
    "several",
    "trouble",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One scenario with one peer in one role."""

    scenario: Scenario
    peer: str
    role: Role  # ours

    @property
    def label(self) -> str:
        return f"{self.scenario.name}/{self.peer}/{self.role}"

    def row(
        self,
        result: Result,
        *,
        version: str = "",
        negotiated: str = "",
        detail: str = "",
        seconds: float = 0.0,
    ) -> Row:
        return Row(
            peer=self.peer,
            version=version,
            scenario=self.scenario.name,
            role=self.role,
            result=result,
            negotiated=negotiated,
            detail=detail,
            seconds=seconds,
        )


def parts() -> list[Part]:
    """All there is, peer by peer."""
    found = [
        Part(scenario=scenario, peer=peer, role=role)
        for scenario in SCENARIOS
        for peer in scenario.peers
        for role in scenario.roles
    ]
    return sorted(found, key=lambda part: part.peer, reverse=True)


def choose(words: Sequence[str]) -> list[Part]:
    """The parts whose label has one of ``words`` in it; all without any."""
    return [part for part in parts() if not words or any(word in part.label for word in words)]
