"""Turns what the key source sees into the health of the quantum side, with reasons.

Loss: no key can be had. The pool stays below its target and nothing was delivered for a
while, or the pool stays empty and requests fail (for a shorter while: an empty KME is about to
have its next key, an unreachable one is not), or the KME says the link is down.
Suspicion: the KME passes on an eavesdropping alarm of the link. It comes before loss: a link
that is under attack may well have stopped delivering.

From when on keys are tainted: from the earlier of two moments.

- The last moment we ourselves know the link to have been reported good. What happened between
  that look and this one nobody has told us: a suspicion may have come and gone there, and the
  KME, perhaps another one or started anew, names only the present one's beginning.
- The last good moment by the KME's own account. A detector needs several blocks to be sure, and
  while it was not, the KME said "good" and delivered: our looks of that time are worth nothing.

The KME's account comes as an age, so that no clocks need agree, and is counted from a moment no
later than when it was given. The moments are those of making a key; we know when it was delivered,
which is later. So each uncertainty makes us drop keys that were good, never keep one that was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.protection.inputs import Health, KeyStock, QuantumHealth

LinkState = Literal["up", "down", "suspect"]

PATIENCE_GAPS = 3.0
"""A link counts as lost only after this many of its usual gaps between two keys."""

EMPTY_PATIENCE = 3.0
"""Seconds without a key in the pool after which a failing KME counts as loss: one request with
its timeout. A slow link gets two of its usual gaps, within reason."""

EMPTY_PATIENCE_LIMIT = 60.0

REVISION = 1.0
"""Seconds by which the last good moment must have moved back to be told again."""

PATIENCE_LIMIT = 600.0
"""However slow the link was, seconds without a key after which it counts as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    loss_after: float = 30.0  # seconds without a delivery while keys are wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The key source of one tunnel at one moment. Times are monotonic seconds."""

    at: float
    ready: int  # keys in our pool
    target: int  # keys the pool wants to hold
    rate: float  # keys per second
    stored_at_kme: int | None = None  # None = unknown
    last_delivery: float | None = None  # when the last key came; None = none yet
    last_error: str | None = None  # why the last request failed; None = it did not
    link_state: LinkState | None = None  # as the KME reports the link; None = it does not
    link_reason: str = ""
    link_at: float | None = None  # no later than when the KME gave that report
    link_age: float | None = None  # while suspect: how long before that the link was last good


class HealthMonitor:
    """Watches one key source. ``last_good``: keys delivered since are not known to be good.

    That is the last moment it was seen healthy; where the KME reports the link, when it last
    reported it good; and under suspicion, earlier still if the KME says so.
    """

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self._settings = settings or HealthSettings()
        self._hungry_since: float | None = None  # below target since
        self._empty_since: float | None = None
        self._usual_gap = 0.0  # seconds between keys while they were coming
        self._last_delivery: float | None = None
        self.state = Health.HEALTHY
        self.reason = "not observed yet"
        self.last_good: float | None = None
        self._told_good: float | None = None

    def observe(self, seen: Observation) -> tuple[QuantumHealth | KeyStock, ...]:
        """The stock, then the health if it or its reason changed: inputs for the policy."""
        self._learn(seen)
        state, reason = self._judge(seen)
        before = (self.state, self.reason)
        self.state, self.reason = state, reason
        if state is Health.HEALTHY:
            self.last_good = seen.at if seen.link_at is None else seen.link_at
        elif state is Health.SUSPECT:
            self._look_back(seen)
        stock = KeyStock(ready=seen.ready, rate=seen.rate)
        if (state, reason) == before and not (state is Health.SUSPECT and self._moved_back()):
            return (stock,)
        self._told_good = self.last_good
        return stock, QuantumHealth(state=state, reason=reason, last_good=self.last_good)

    def _look_back(self, seen: Observation) -> None:
        """The earlier of the two moments, see above. Never seen good: none, all is tainted."""
        if self.last_good is not None and seen.link_at is not None and seen.link_age is not None:
            self.last_good = min(self.last_good, seen.link_at - seen.link_age)

    def _moved_back(self) -> bool:
        told, good = self._told_good, self.last_good
        return told is not None and good is not None and good < told - REVISION

    def _learn(self, seen: Observation) -> None:
        if seen.last_delivery != self._last_delivery:
            self._last_delivery = seen.last_delivery
            self._usual_gap = 1.0 / seen.rate if seen.rate > 0 else 0.0
        if seen.ready >= seen.target:
            self._hungry_since = None
        elif self._hungry_since is None:
            self._hungry_since = seen.at
        if seen.ready > 0:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = seen.at

    def _judge(self, seen: Observation) -> tuple[Health, str]:
        if seen.link_state == "suspect":
            return Health.SUSPECT, f"quantum link suspect: {seen.link_reason or 'no detail'}"
        if seen.link_state == "down":
            return Health.LOST, f"quantum link down: {seen.link_reason or 'no detail'}"
        if self._empty_since is not None and seen.last_error is not None:
            patience = max(EMPTY_PATIENCE, min(EMPTY_PATIENCE_LIMIT, 2 * self._usual_gap))
            if seen.at - self._empty_since >= patience:
                return Health.LOST, seen.last_error
        if self._hungry_since is not None:
            silent_since = max(self._hungry_since, seen.last_delivery or self._hungry_since)
            patience = max(
                self._settings.loss_after, min(PATIENCE_LIMIT, PATIENCE_GAPS * self._usual_gap)
            )
            if seen.at - silent_since >= patience:
                cause = seen.last_error or "the KME delivers nothing"
                return Health.LOST, f"no new key for {patience:.0f} s: {cause}"
        return Health.HEALTHY, "keys are coming in"
