"""What an error in a flow means: for the peer, for the operator, for the IKE SA."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import CryptoError, QsgwError
from gateway.ike.errors import ProtocolError
from gateway.ike.flow import CommandError, ExchangeError, PpkMissingError, YieldedError
from gateway.ike.flows.create_child import ChildNotFoundError
from gateway.ike.payloads import NotifyPayload
from gateway.ike.registry import NotifyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The operator's side of it, as in ExchangeFailed."""

    reason: str
    notify: str | None
    from_peer: bool
    ppk_missing: bool
    yielded: bool = False

    @property
    def ends_it(self) -> bool:
        """RFC 7296 2.21.3: INVALID_SYNTAX in a response is fatal for both."""
        return self.from_peer and self.notify == NotifyType.INVALID_SYNTAX.name


def failure_of(error: QsgwError) -> Failure:
    match error:
        case ExchangeError():
            return Failure(
                reason=error.reason,
                notify=error.notify,
                from_peer=error.from_peer,
                ppk_missing=error.ppk_missing,
                yielded=isinstance(error, YieldedError),
            )
        case ProtocolError():
            return Failure(
                reason=error.reason,
                notify=error.notify.name,
                from_peer=False,
                ppk_missing=isinstance(error, PpkMissingError),
            )
        case _:
            return Failure(reason=str(error), notify=None, from_peer=False, ppk_missing=False)


def answer_to(error: QsgwError) -> list[NotifyPayload]:
    """What a responder answers to a request that failed here; the error comes first."""
    match error:
        case ChildNotFoundError():
            return [error.payload]
        case PpkMissingError(notify=NotifyType.NO_PROPOSAL_CHOSEN):
            # Ours: the proposals are good, no QKD key is what is wrong (see docs/ikev2.md).
            kinds = (error.notify, NotifyType.PPK_IDENTITY)
            return [NotifyPayload(type=kind) for kind in kinds]
        case ProtocolError():
            return [NotifyPayload(type=error.notify, data=error.data)]
        case CryptoError():  # RFC 6989 2.5
            return [NotifyPayload(type=NotifyType.INVALID_SYNTAX)]
        case CommandError() | _:
            return [NotifyPayload(type=NotifyType.TEMPORARY_FAILURE)]
