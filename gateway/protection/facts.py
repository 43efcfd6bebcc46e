"""What the policy of one tunnel knows at a moment. Changed only by ``judge`` and ``machine``."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Ended, Protection, QkdPolicy, Renewal
from gateway.protection.quantum import QuantumSide
from gateway.protection.settings import ProtectionSettings
from gateway.protection.table import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Our Initiate or Rekey that has no outcome yet."""

    rekey: bool
    with_ppk: bool
    since: float


@dataclass(slots=True, kw_only=True)
class TunnelFacts:
    """Times are monotonic seconds."""

    settings: ProtectionSettings
    quantum: QuantumSide
    started_at: float
    last_reason: str
    renewal: Renewal  # what to do while DOWN
    state: State = State.DOWN
    attempt: Attempt | None = None
    # the SA that carries the tunnel
    sa: Protection = Protection.DOWN
    sa_since: float = 0.0
    sa_initiated: bool = False  # by us
    up_since: float = 0.0  # since when there has been an SA without a break
    degraded_since: float = 0.0
    degraded_before: float = 0.0  # seconds in earlier DEGRADED spells since the last HYBRID
    degraded_expired: bool = False  # degraded_max ran out: HYBRID or nothing
    # plans
    ended: Ended = Ended.HERE  # how the last SA did
    connecting: bool = False  # set up now
    first_wait_until: float | None = None  # a first set-up waits for the first key
    retry_at: float = 0.0  # no attempt before
    rekey_wanted_at: float | None = None
    failures: int = 0  # of attempts, in a row
    key_spent_in_vain: bool = False  # the last one failed authentication, with a key on offer
    short_lived: int = 0  # SAs that died young, in a row
    keyless: int = 0  # times in a row that a key was on offer and one end had none
    peer_lacks_key: bool = False
    held_back: bool = False  # blocked, and not up since
    troubled: bool = False  # an SA was lost or an attempt failed, and not up since
    trouble: str = ""  # why there is no SA; what is tried since does not change it

    def renew(self, renewal: Renewal) -> None:
        """What to do from now on while there is no SA."""
        self.renewal = renewal
        self.connecting = renewal is Renewal.RESTART

    @property
    def leads(self) -> bool:
        """We are the end that is to rekey first."""
        return self.settings.initiates or (self.settings.on_demand and self.sa_initiated)

    @property
    def trapping(self) -> bool:
        """Traffic is to set the tunnel up."""
        return self.state is State.DOWN and self.renewal is Renewal.TRAP

    @property
    def needs_key(self) -> bool:
        """No SA without a QKD key is allowed now."""
        return self.settings.qkd is QkdPolicy.REQUIRE or self.degraded_expired

    def key_trusted(self, now: float) -> bool:
        """A QKD key is at hand and may go into an SA."""
        at = self.trusted_at()
        return self.settings.qkd is not QkdPolicy.OFF and at is not None and at <= now

    def trusted_at(self) -> float | None:
        """From when on a key may go into an SA; None while there is none to wait for.

        Where there is no SA without one, it lies until the peer has it too: one that comes too
        soon is burned, and the SA's life goes on ending.
        """
        at = self.quantum.trusted_at()
        return at if at is None or not self.needs_key else max(at, self.quantum.ripe_at)
