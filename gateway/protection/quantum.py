"""What a tunnel's policy knows about its QKD keys, and whether it trusts them."""

from __future__ import annotations

from gateway.protection.inputs import Health, KeyStock, QuantumHealth
from gateway.protection.settings import DOUBT_LASTS, RIPENING_MAX, RIPENING_MIN


class QuantumSide:
    """Health and stock of one tunnel, with the dwell before keys are trusted again."""

    def __init__(self, *, dwell: float, peer_key_age: float) -> None:
        self._dwell = dwell
        self._peer_key_age = peer_key_age
        self._doubted_until = 0.0  # the peer may offer keys of a time under suspicion
        self._keys_since: float | None = None  # healthy and with a key at hand, unbroken
        self._healthy_since: float | None = None
        self._held_since: float | None = None  # keys need a dwell that began no earlier
        self._held_until = 0.0
        self.health = Health.HEALTHY
        self.reason = ""
        self.last_good: float | None = None
        self.tainted_since = 0.0  # keys delivered from then on are not to be used; see note_health
        self.ready = 0
        self.rate = 0.0
        self._stocked_since: float | None = None  # keys at hand without a break
        self._ripening = 0.0  # seconds a key lies here before the peer has it too
        self.loss_noted = False  # lost, and not yet healthy for a whole dwell since
        self.suspicion_noted = False

    @property
    def suspect(self) -> bool:
        return self.health is Health.SUSPECT

    def note_health(self, item: QuantumHealth, now: float) -> None:
        if item.state is Health.SUSPECT:
            good = (self.last_good if item.last_good is None else item.last_good) or 0.0
            # Found out later to have begun earlier: what was kept goes when it is over.
            self.tainted_since = min(good, self.tainted_since) if self.suspect else good
        if self.suspect and item.state is not Health.SUSPECT:
            self._doubted_until = now + self._peer_key_age
        self.health, self.reason = item.state, item.reason
        if item.last_good is not None:
            self.last_good = item.last_good
        if item.state is Health.HEALTHY:
            if self._healthy_since is None:
                self._healthy_since = now
        else:
            self._healthy_since = None
            self.loss_noted = self.loss_noted or item.state is Health.LOST
            self.suspicion_noted = self.suspicion_noted or item.state is Health.SUSPECT
        self._track(now)

    def note_stock(self, item: KeyStock, now: float) -> None:
        self.ready, self.rate = item.ready, item.rate
        self._track(now)

    def take(self, now: float) -> None:
        """One key goes into an attempt; the next KeyStock corrects the count."""
        self.ready = max(0, self.ready - 1)
        self._track(now)

    def hold(self, now: float, *, at_least: float = 0.0) -> None:
        """From now on keys are trusted only after a whole dwell, and ``at_least`` seconds."""
        self._held_since = now
        self._held_until = now + at_least

    def release(self) -> None:
        """Keys are trusted as they come."""
        self._held_since = None

    @property
    def held(self) -> bool:
        return self._held_since is not None

    def trusted_at(self) -> float | None:
        """From when on a key may be used; None while there is none or QKD is not healthy.

        Without a hold, keys still at hand are good although the link was lost.
        """
        if self.ready == 0 or self.suspect:
            return None
        if self._held_since is None:
            return 0.0
        if self._keys_since is None:
            return None
        return max(max(self._keys_since, self._held_since) + self._dwell, self._held_until)

    def admit_peer_key(self, now: float) -> bool:
        """Whether a key the peer has chosen may be used now; see docs/architecture.md.

        A peer that never heard of the suspicion may hold keys of its time. The first one it
        offers afterwards is refused, whereupon it drops what it holds.
        """
        if self.suspect:
            return False
        if now >= self._doubted_until:
            return True
        self._doubted_until = min(self._doubted_until, now + DOUBT_LASTS)
        return False

    def inherit_doubt(self, old: QuantumSide, now: float) -> None:
        """Go on doubting what ``old`` doubted."""
        self._doubted_until = now + self._peer_key_age if old.suspect else old._doubted_until

    def ripen(self) -> None:
        """The peer did not have a key as young as the last one."""
        self._ripening = min(max(RIPENING_MIN, 2.0 * self._ripening), RIPENING_MAX)

    @property
    def ripe_at(self) -> float:
        """From when on the peer is likely to have the oldest key at hand; no key: 0."""
        if self._stocked_since is None or not self._ripening:
            return 0.0
        return self._stocked_since + self._ripening

    def calm_at(self) -> float | None:
        """When a noted loss or suspicion counts as over; None: not noted or not healthy."""
        if not (self.loss_noted or self.suspicion_noted) or self._healthy_since is None:
            return None
        return self._healthy_since + self._dwell

    def calm(self) -> None:
        self.loss_noted = self.suspicion_noted = False

    def _track(self, now: float) -> None:
        if self.ready == 0:
            self._stocked_since = None
        elif self._stocked_since is None:
            self._stocked_since = now
        if self.health is not Health.HEALTHY or self.ready == 0:
            self._keys_since = None
        elif self._keys_since is None:
            self._keys_since = now
