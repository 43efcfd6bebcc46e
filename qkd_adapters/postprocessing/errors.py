"""What can go wrong between two ends that make a key together; all of it ends the block."""

from __future__ import annotations

from kms_client.errors import QsgwError


class PostprocessingError(QsgwError):
    """The block is lost. Nothing of it may be used as key."""


class PeerMessageError(PostprocessingError):
    """A message that the protocol does not allow here, or that cannot be decoded."""


class AuthenticationError(PostprocessingError):
    """A tag does not fit what was received: the classical channel was tampered with."""


class AuthSyncError(AuthenticationError):
    """The peer's tag uses key that we do not hold or have used before (lost block, replay)."""


class OutOfAuthKeyError(PostprocessingError):
    """No key is left to authenticate with. Only a new pre-shared key helps."""

    def __init__(self, needed: int, left: int) -> None:
        super().__init__(f"{needed} bits of authentication key needed, {left} left")
        self.needed = needed
        self.left = left
