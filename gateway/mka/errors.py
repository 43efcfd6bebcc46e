"""What is wrong with a frame, as the reason it is dropped for."""

from __future__ import annotations

from enum import StrEnum

from gateway.errors import QsgwError


class DropReason(StrEnum):
    """Why a frame had no effect. Counted, never answered (11.11.2)."""

    NOT_MKA = "not-mka"  # another address, Ethertype or EAPOL packet type
    MALFORMED = "malformed"
    UNKNOWN_CKN = "unknown-ckn"  # the peer uses a CAK that we do not have
    UNKNOWN_ALGORITHM = "unknown-algorithm"
    BAD_ICV = "bad-icv"  # the CKN is ours and the CAK is another, or the frame was changed
    LOOPED = "looped"  # our own
    REPLAYED = "replayed"
    DUPLICATE_SCI = "duplicate-sci"
    TOO_MANY_PEERS = "too-many-peers"


class MkpduError(QsgwError):
    """A frame that is dropped. ``reason`` is for counters, the text for the operator."""

    def __init__(self, reason: DropReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def malformed(text: str) -> MkpduError:
    """MkpduError(MALFORMED)."""
    return MkpduError(DropReason.MALFORMED, text)
