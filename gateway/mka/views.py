"""What a port shows of itself. Frozen, whole, without secrets."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mka.commands import PortState
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.mka.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFacts:
    sci: Sci
    mi: MemberId
    mn: int
    priority: int
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantFacts:
    ckn: bytes
    mi: MemberId
    mn: int
    principal: bool
    key_server: Sci | None
    peers: tuple[PeerFacts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SakFacts:
    ckn: bytes
    ki: KeyIdentifier
    an: int
    suite: CipherSuite
    confidentiality: Confidentiality
    transmits: bool
    next_pn: int  # as last reported


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFacts:
    interface: str
    port: PortState
    rollover: State
    participants: tuple[ParticipantFacts, ...]  # the newest last
    saks: tuple[SakFacts, ...]  # installed; the newest first
