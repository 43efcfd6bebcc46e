"""What the policy of one tunnel wants done. To be carried out in the order given."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.config import PpkMode
from gateway.model import Protection, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Initiate:
    """Set up an IKE SA with its first child.

    With ``with_ppk`` take a key from the pool; when there is none, or when the attempt
    fails, say AttemptFailed. Never decided while another attempt is under way.
    """

    with_ppk: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rekey:
    """Replace the running Child SA; keys and failures as with Initiate."""

    with_ppk: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTunnel:
    """Close every SA of the tunnel and give up attempts under way; policies keep dropping."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The policy wants QKD and there is none. Traffic is dropped; CloseTunnel comes with it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblock:
    """The tunnel may be set up again, or was (a peer may bring it up while it is blocked)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapTraffic:
    """Whether to be told of traffic that wants to leave while there is no SA for it."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptPpk:
    """What to insist on, or accept, in exchanges from now on (``Endpoint.set_ppk_mode``)."""

    mode: PpkMode


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineKeys:
    """Drop and wipe pooled keys that were delivered at or after ``since`` (monotonic)."""

    since: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseAlarm:
    id: str
    severity: Severity
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearAlarm:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionChanged:
    old: Protection
    new: Protection
    reason: str


Decision = (
    Initiate
    | Rekey
    | CloseTunnel
    | Block
    | Unblock
    | TrapTraffic
    | AcceptPpk
    | QuarantineKeys
    | RaiseAlarm
    | ClearAlarm
    | ProtectionChanged
)
