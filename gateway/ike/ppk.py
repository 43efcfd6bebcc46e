"""PPKs on the wire and in policy: RFC 8784 (IKE_AUTH) and RFC 9867 (IKE_INTERMEDIATE, children).

    PPK_ID           = type octet | identifier; ours: PPK_ID_FIXED and the key_ID, a UUID
                       as lower-case text
    PPK_IDENTITY_KEY = PPK_ID | PPK Confirmation (the trailing 8 octets)
    PPK Confirmation = first 8 octets of prf(PPK, Ni | Nr | SPIi | SPIr)     IKE_INTERMEDIATE
                     = first 8 octets of prf(PPK, Ni | SPIi | SPIr)          CREATE_CHILD_SA

The last line is ours: the sender of a CREATE_CHILD_SA request cannot know Nr, so Ni of that
request and the SPIs of the IKE SA it runs in are what both sides have.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.ike.commands import SettlePpk
from gateway.ike.config import PpkMode
from gateway.ike.limits import PPK_CONFIRMATION_SIZE
from gateway.ike.outbox import Outbox
from gateway.ike.registry import PpkIdType
from gateway.ike.wire import syntax_error
from gateway.model import KeyId, Ppk

_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class PpkOffer:
    """One PPK_IDENTITY_KEY notify."""

    ppk_id: bytes  # as it stands on the wire, type octet included
    confirmation: bytes


def encode_ppk_id(key_id: KeyId) -> bytes:
    return bytes((PpkIdType.FIXED,)) + key_id.encode("ascii")


def key_id_of(ppk_id: bytes) -> KeyId | None:
    """The key_ID a PPK_ID names, or None where it is no PPK_ID_FIXED with a UUID."""
    if ppk_id[:1] != bytes((PpkIdType.FIXED,)) or not _UUID.fullmatch(ppk_id, 1):
        return None
    return KeyId(ppk_id[1:].decode("ascii").lower())


def encode_offer(key_id: KeyId, confirmation: bytes) -> bytes:
    return encode_ppk_id(key_id) + confirmation


def decode_offer(data: bytes) -> PpkOffer:
    """ProtocolError(INVALID_SYNTAX) where there is no room for a PPK_ID."""
    if len(data) < PPK_CONFIRMATION_SIZE + 2:  # RFC 9867 3.1: identifier of one octet or more
        raise syntax_error(f"PPK_IDENTITY_KEY of {len(data)} octets")
    return PpkOffer(data[:-PPK_CONFIRMATION_SIZE], data[-PPK_CONFIRMATION_SIZE:])


def confirmation(prf: Prf, ppk: Secret, nonces: bytes, spi_i: bytes, spi_r: bytes) -> bytes:
    """Shows the peer that we hold the key. ``nonces``: Ni | Nr, or Ni alone for a child."""
    return prf.compute(ppk, nonces + spi_i + spi_r)[:PPK_CONFIRMATION_SIZE]


def confirms(ours: bytes, received: bytes) -> bool:
    """Constant-time comparison."""
    return hmac.compare_digest(ours, received)


class PpkVerdict(Enum):
    """What a responder does about a PPK in IKE_AUTH."""

    USE = auto()
    PLAIN = auto()  # go on without; where NO_PPK_AUTH was sent it is what is verified
    ABORT = auto()  # AUTHENTICATION_FAILED


def responder_verdict(
    *, use_ppk: bool, no_ppk_auth: bool, have_ppk: bool, mode: PpkMode
) -> PpkVerdict:
    """The table of RFC 8784 section 3.

    ``use_ppk``: negotiated in IKE_SA_INIT. ``no_ppk_auth``: the request carries that notify.
    ``have_ppk``: the key the initiator named is in our hands.
    """
    mandatory = mode is PpkMode.REQUIRE
    if not use_ppk:
        return PpkVerdict.ABORT if mandatory else PpkVerdict.PLAIN
    if have_ppk:
        return PpkVerdict.USE
    if mandatory or not no_ppk_auth:
        return PpkVerdict.ABORT
    return PpkVerdict.PLAIN


class HeldPpk:
    """A QKD key in our hands. However the exchange ends, it is settled exactly once.

    ``settle`` reports the outcome and wipes the key; whoever holds one calls it in the end,
    and a second call does nothing.
    """

    __slots__ = ("_outbox", "_ppk", "_settled", "_tunnel")

    def __init__(self, ppk: Ppk, *, tunnel: str, outbox: Outbox) -> None:
        self._ppk = ppk
        self._tunnel = tunnel
        self._outbox = outbox
        self._settled = False

    @property
    def key_id(self) -> KeyId:
        return self._ppk.key_id

    @property
    def key(self) -> Secret:
        return self._ppk.key

    def settle(self, *, used: bool, reason: str, refused: bool = False) -> None:
        self._ppk.key.wipe()
        if self._settled:
            return
        self._settled = True
        self._outbox.commands.append(
            SettlePpk(
                tunnel=self._tunnel,
                key_id=self.key_id,
                used=used,
                reason=reason,
                refused=refused,
            )
        )
