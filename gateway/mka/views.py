"""What a port shows of itself. Frozen, whole, without secrets."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.participant import Participant
from gateway.mka.peers import Peer
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.mka.sak import Sak
from gateway.mka.states import State
from gateway.model import PortState


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
    ckn: bytes  # empty: from before a restart
    ki: KeyIdentifier
    an: int
    suite: CipherSuite
    confidentiality: Confidentiality
    transmits: bool
    next_pn: int  # as last reported
    receivers: tuple[Sci, ...]  # whose receive SAs are installed


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFacts:
    interface: str
    port: PortState
    rollover: State
    participants: tuple[ParticipantFacts, ...]  # the newest last
    saks: tuple[SakFacts, ...]  # installed; the newest first


def participant_facts(participant: Participant, own: Sci, *, principal: bool) -> ParticipantFacts:
    """``own``: our SCI."""
    server = participant.server
    elected = own if participant.is_key_server else None
    return ParticipantFacts(
        ckn=participant.ckn,
        mi=participant.mi,
        mn=participant.mn,
        principal=principal,
        key_server=elected if server is None else server.sci,
        peers=tuple(map(_peer_facts, participant.peers.all())),
    )


def _peer_facts(peer: Peer) -> PeerFacts:
    basic = peer.basic
    return PeerFacts(
        sci=basic.sci, mi=basic.mi, mn=basic.mn, priority=basic.priority, live=peer.live
    )


def sak_facts(sak: Sak, *, transmits: bool) -> SakFacts:
    return SakFacts(
        ckn=sak.ckn,
        ki=sak.ki,
        an=sak.an,
        suite=sak.suite,
        confidentiality=sak.confidentiality,
        transmits=transmits,
        next_pn=sak.pn,
        receivers=tuple(sak.receivers),
    )
