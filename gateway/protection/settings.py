"""What the operator wants of one tunnel, and the constants of the policy. Seconds throughout."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Ended, QkdPolicy, Renewal

FIRST_KEY_WAIT = 5.0
"""How long a first set-up waits for the first QKD key: one KME round trip with its timeout
(3 s) and a retry at the next KME. Without it every start of the daemon would begin PQC_ONLY."""

BACKUP_FACTOR = 1.5
"""A responder rekeys by itself only when the SA is this many times ``rekey_max`` old: the
initiator has then missed its turn, and both do not collide (RFC 7296 2.8.1)."""

BACKUP_GRACE = 1.0
"""Head start of the initiator when both ends have the same reason to rekey at once."""

HARD_AGE_FACTOR = 2.0
"""An SA this many times ``rekey_max`` old is closed however often its rekey failed."""

ATTEMPT_LIMIT = 300.0
"""An attempt without an outcome is taken for failed; IKE itself gives up earlier
(RFC 7296 2.4: several minutes)."""

RIPENING_MIN = 1.0
RIPENING_MAX = 30.0
"""A key that the peer's KME did not have yet: from then on keys lie here so long before they are
offered, twice as long with each time. Relays and bridges between KMEs take seconds."""

REQUIRED_LEAD = 60.0
REQUIRED_LEAD_SHARE = 0.25
"""Where a QKD key is required, the rekey begins so much before the end of the SA's life, or this
share of it where that is less: time for a key that is late, and for a second attempt."""

JITTER_SHARE = 0.25
"""Retries come up to this share earlier, so that gateways do not retry in step."""


DOUBT_LASTS = 1.0
"""Seconds for which the peer's keys are refused once one was, after a suspicion: longer than one
exchange that offers several, shorter than ``retry_min``."""

AUTH_RETRY_MAX = 600.0
"""Longest pause between attempts with a QKD key while authentication fails: that is mended by
people, not by trying, and each attempt costs a key. Six keys an hour instead of seventy."""

REKEY_SPREAD = 0.1
"""The longest interval until a rekey is up to this share below ``rekey_max``, so that tunnels that
began together do not rekey in step (strongSwan: rand_time, 10 % of life_time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionSettings:
    """The policy of one tunnel, from ``[tunnel.NAME]``."""

    qkd: QkdPolicy
    initiates: bool  # start = "initiate"
    on_demand: bool = False  # start = "trap"
    dpd_action: Renewal | None = None  # when the peer is lost; None = as at the start
    close_action: Renewal | None = None  # when the peer closes; None = as at the start
    childless: bool = False  # a connection without tunnels: its IKE SA is what is protected
    allow_classical: bool = False
    restore_dwell: float = 60.0  # QKD must be healthy this long before HYBRID comes back
    degraded_max: float | None = None  # PQC_ONLY may last this long; None = unlimited
    rekey_min: float = 30.0
    rekey_max: float = 3600.0
    key_reserve: int = 1  # keys kept back for the next rekey
    peer_key_age: float = 900.0  # how long a key may wait in a pool, the peer's included
    retry_min: float = 1.0
    retry_max: float = 60.0
    jitter: float = 0.0  # 0 <= jitter < 1, drawn once per tunnel by the daemon

    @property
    def what(self) -> str:
        """What is protected, in a text."""
        return "IKE SA" if self.childless else "tunnel"

    @property
    def at_start(self) -> Renewal:
        if self.initiates:
            return Renewal.RESTART
        return Renewal.TRAP if self.on_demand else Renewal.NONE

    def after(self, ended: Ended) -> Renewal:
        """What to do once the SA has ended so."""
        match ended:
            case Ended.HERE:
                return self.at_start
            case Ended.BY_PEER:
                return self.close_action or self.at_start
            case Ended.PEER_LOST:
                return self.dpd_action or self.at_start
