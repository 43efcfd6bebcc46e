"""Both sides replace the same SA at the same time (RFC 7296 2.8.1, 2.8.2, 2.25).

    A                                B
    rekey, Ni(A)  ------.   .------  rekey, Ni(B)
                         . .
                  <-----'   '----->              each finds that both are at it
           Nr(B)  ------.   .------  Nr(A)
                         . .
                  <-----'   '----->              each knows all four nonces

The exchange that holds the lowest of the four is redundant. What it made is deleted by the side
that began it, or, while IKE_FOLLOWUP_KE would be next, never made. The other side deletes the
old SA. A request that comes when our own is answered already comes too late: the peer is told
TEMPORARY_FAILURE and will find that our SA is there.
"""

from __future__ import annotations

from typing import Protocol

from gateway.crypto.secret import Secret


class Rival(Protocol):
    """The peer's exchange to replace the SA that we are replacing."""

    @property
    def lowest_nonce(self) -> bytes: ...


class OwnRekey:
    """Our exchange to make or replace an SA, as long as it is under way."""

    __slots__ = ("committed", "rival", "secrets")

    def __init__(self) -> None:
        self.committed = False  # the peer has agreed: no rival is let in any more
        self.rival: Rival | None = None  # answered by us
        self.secrets: list[Secret] = []  # SK(0), SK(1), ... as they come

    def wipe(self) -> None:
        """It is over, one way or the other: its secrets are in the keys, or of no use."""
        for secret in self.secrets:
            secret.wipe()

    def yields(self, lowest_nonce: bytes) -> bool:
        """The peer has agreed. Whether ours is redundant all the same.

        ``lowest_nonce``: of Ni and Nr of our exchange. Octets are compared from the left, a
        nonce that is the beginning of another is lower (RFC 7296 2.8.1).
        """
        self.committed = True
        return self.rival is not None and lowest_nonce < self.rival.lowest_nonce
