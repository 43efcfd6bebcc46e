"""What the MKA core asks of the SecY (802.1AE), and the answers it takes back.

Commands with a token are answered, with the same one, by Done or Failed; one that is not answered
by ``limits.COMMAND_TIMEOUT`` counts as failed. The others are not answered: what they remove may
be gone already, what they add to may never have been installed, and a lowest PN may be above theirs
(then it stays). They are to be carried out in the order they come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from gateway.crypto.secret import Secret
from gateway.mka.identifiers import KeyIdentifier, Sci
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.model import PortState

Token = NewType("Token", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaKey:
    """What all SAs of one SAK share. ``key`` is a copy: wiped by whoever carries out the command.

    ``salt`` (12 octets) and the SSCIs are there for XPN suites only.
    """

    an: int
    ki: KeyIdentifier
    key: Secret
    suite: CipherSuite
    confidentiality: Confidentiality
    salt: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmitSa:
    """Our own secure channel. Packet numbers begin at 1: no SAK is ever installed twice."""

    sci: Sci
    ssci: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveSa:
    """A peer's secure channel; ``lowest_pn`` (>= 1): frames below it are replays."""

    sci: Sci
    lowest_pn: int
    ssci: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSas:
    """createSAs, enableReceiveSAs: all receive SAs, active, and the transmit SA, not in use yet.

    Receive channels are made where they are not there. Answer: Done or Failed.
    """

    token: Token
    key: SaKey
    transmit: TransmitSa
    receive: tuple[ReceiveSa, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableTransmitSa:
    """enableTransmitSA: from now on frames leave with this AN. Answer: Done or Failed.

    Also back to the SA before, where the answer for the new one was Failed or did not come.
    """

    token: Token
    an: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReceiveSa:
    """A member is there that was not when the SAK was installed."""

    key: SaKey
    receive: ReceiveSa


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSas:
    """deleteSAs: the transmit SA and every receive SA with this AN."""

    an: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteReceiveSc:
    """A member is gone: its receive channel with all SAs in it."""

    sci: Sci


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseLowestPn:
    """Delay protection (9.10): this member's frames below ``lowest_pn`` are too old."""

    sci: Sci
    an: int
    lowest_pn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPort:
    state: PortState


Command = (
    InstallSas
    | EnableTransmitSa
    | InstallReceiveSa
    | DeleteSas
    | DeleteReceiveSc
    | RaiseLowestPn
    | SetPort
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    token: Token
    reason: str


Answer = Done | Failed
