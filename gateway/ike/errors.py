"""What a peer did wrong, as the Notify that would tell it so."""

from __future__ import annotations

from gateway.errors import QsgwError
from gateway.ike.registry import NotifyType


class ProtocolError(QsgwError):
    """A message breaks the protocol or our policy.

    ``notify`` and ``data`` are what an answer would carry; whether one is sent is the
    session's decision. ``reason`` is one line for the operator.
    """

    def __init__(self, notify: NotifyType, reason: str, data: bytes = b"") -> None:
        super().__init__(f"{notify.name}: {reason}")
        self.notify = notify
        self.reason = reason
        self.data = data


class NoIkeSaError(QsgwError):
    """What was asked of an IKE SA that is not established, or no more."""


class FragmentError(QsgwError):
    """A fragment that is dropped without an answer (RFC 7383 2.6)."""


class FragmentLimitError(FragmentError):
    """A fragmented message would take more memory than one message may."""
