"""What the policy of one tunnel is told. Frozen values; times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.model import Ended, Protection


class Health(StrEnum):
    """How the quantum side of a tunnel is."""

    HEALTHY = "healthy"
    LOST = "lost"  # no new keys; keys already delivered stay good
    SUSPECT = "suspect"  # an eavesdropping alarm: recent keys are not to be trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantumHealth:
    """The quantum side changed. ``last_good`` is when it was last healthy for certain, if ever."""

    state: Health
    reason: str
    last_good: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStock:
    """Keys in our own pool, and how fast new ones come. Given on every change."""

    ready: int
    rate: float  # keys per second


@dataclass(frozen=True, slots=True, kw_only=True)
class SaUp:
    """A Child SA is in the kernel and carries the tunnel's traffic.

    ``keyed``: a fresh QKD key was mixed. So it is in all that is HYBRID and in none that is
    PQC_ONLY; CLASSICAL, without ML-KEM, may have one or not.
    ``offered_ppk``: a QKD key was on offer in the exchange, whether or not it was mixed.
    ``initiated``: it is the outcome of our own Initiate or Rekey, which is thereby over.
    """

    protection: Protection
    keyed: bool
    offered_ppk: bool
    initiated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SaDown:
    """The tunnel has no Child SA any more, and it was not policy that closed it."""

    reason: str
    ended: Ended = Ended.HERE


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLost:
    """The peer stopped answering; its IKE SA and children are gone."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """Our own Initiate or Rekey came to nothing. What was running still runs.

    ``ppk_missing``: because one side had no QKD key (also when our pool turned out empty).
    ``rekey``: which of the two it was; None when the reporter cannot tell.
    ``auth_failed``: one end did not accept who the other is.
    """

    reason: str
    ppk_missing: bool
    rekey: bool | None = None
    auth_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFailed:
    """What the peer began came to nothing. It only explains a tunnel that is down."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaExpiring:
    """The kernel's soft limit on bytes, packets or time was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficWaiting:
    """The kernel holds a packet back for want of an SA (XFRM ACQUIRE)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficCeased:
    """Nothing has passed through the SA in either direction for ``idle_timeout``."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorInitiate:
    """``qsgw initiate``: set the tunnel up now; also ends an earlier terminate."""

    reason: str = "the operator asked for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRekey:
    """``qsgw rekey``: rekey now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTerminate:
    """``qsgw terminate``: close the tunnel and keep it closed until OperatorInitiate."""


Input = (
    QuantumHealth
    | KeyStock
    | SaUp
    | SaDown
    | PeerLost
    | AttemptFailed
    | PeerFailed
    | SaExpiring
    | TrafficWaiting
    | TrafficCeased
    | OperatorInitiate
    | OperatorRekey
    | OperatorTerminate
)
