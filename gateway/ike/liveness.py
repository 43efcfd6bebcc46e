"""Whether the peer still lives (RFC 7296 2.4): asked when nothing was heard for a while."""

from __future__ import annotations

from collections.abc import Callable

from gateway.ike import limits
from gateway.ike.sa import IkeSa


class Liveness:
    """Of one IKE SA, from ``begin`` on. ``ask`` sends an empty INFORMATIONAL."""

    def __init__(
        self,
        sa: IkeSa,
        *,
        ask: Callable[[], None],
        heard_at: Callable[[], float | None],
        established: Callable[[], bool],
    ) -> None:
        self._sa = sa
        self._ask = ask
        self._heard_at = heard_at
        self._established = established
        self._hinted_at = -limits.HINT_INTERVAL  # when a hint last made us ask

    def begin(self) -> None:
        self._look_at(self._sa.now + self._interval)

    def stop(self) -> None:
        self._sa.env.deadlines.cancel((self, "liveness"))

    def hinted(self) -> None:
        """Somebody says, unprotected, that the peer does not know this IKE SA."""
        # RFC 7296 2.4, 2.21.4: a hint and no more. A request of ours that is unanswered asks
        # the same question already.
        due = self._hinted_at + limits.HINT_INTERVAL <= self._sa.now
        if self._established() and due and not self._sa.requests.busy:
            self._hinted_at = self._sa.now
            self._ask()

    @property
    def _interval(self) -> float:
        """Until the next look; where liveness is off, whether it still is."""
        return self._sa.peering.timing.liveness_interval or limits.LIVENESS_INTERVAL

    def _look_at(self, when: float) -> None:
        self._sa.env.deadlines.set((self, "liveness"), when, self._look)

    def _look(self, now: float) -> None:
        self._sa.now = now
        if not self._established():
            return
        quiet_until = (self._heard_at() or 0.0) + self._interval
        if quiet_until <= now:
            wanted = self._sa.peering.timing.liveness_interval > 0
            # any unanswered request asks the same question
            if wanted and not self._sa.requests.busy:
                self._ask()
            quiet_until = now + self._interval
        self._look_at(quiet_until)
