"""What happened inside the MKA core, for policy, status, log and counters."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mka.errors import DropReason
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.model import PortState


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A frame had no effect."""

    reason: DropReason
    text: str
    source: bytes  # MAC address; empty where the frame has none


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLive:
    ckn: bytes
    sci: Sci
    mi: MemberId


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLost:
    """Nothing that proves it lives for the MKA Life Time, or it came back under another MI."""

    ckn: bytes
    sci: Sci
    mi: MemberId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyServerChanged:
    """``sci`` None: there is none, so no new SAK."""

    ckn: bytes
    sci: Sci | None
    ourselves: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRenewed:
    """This participant goes on as another member, with a new MI."""

    ckn: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SakMade:
    """We are key server and distribute a new SAK."""

    ckn: bytes
    ki: KeyIdentifier
    an: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SakRefused:
    """The key server distributed one that we do not take."""

    ckn: bytes
    ki: KeyIdentifier
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SakInUse:
    """Frames leave under this SAK."""

    ckn: bytes
    ki: KeyIdentifier
    an: int
    suite: CipherSuite
    confidentiality: Confidentiality


@dataclass(frozen=True, slots=True, kw_only=True)
class SakFailed:
    """The SecY did not take it."""

    ckn: bytes
    ki: KeyIdentifier
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SakRetired:
    """Its SAs are deleted, its key wiped."""

    ckn: bytes
    ki: KeyIdentifier


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSakPossible:
    """Members hear each other, and no SAK comes of it. Told once for each reason."""

    ckn: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalChanged:
    """Another CAK decides from now on; None: none has a live peer."""

    ckn: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CakRetired:
    """Its participant is gone, its keys are wiped."""

    ckn: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortChanged:
    """CLEAR is a warning: what passes is not protected."""

    state: PortState
    reason: str


Event = (
    Dropped
    | PeerLive
    | PeerLost
    | KeyServerChanged
    | IdentityRenewed
    | SakMade
    | SakRefused
    | SakInUse
    | SakFailed
    | SakRetired
    | NoSakPossible
    | PrincipalChanged
    | CakRetired
    | PortChanged
)
