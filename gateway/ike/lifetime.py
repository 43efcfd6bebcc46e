"""When an IKE SA is to be replaced. Lifetimes are each end's own affair (RFC 7296 2.8).

    established                       due to be rekeyed       to be replaced       closed
    |---------------------------------[ drawn by lot ]--------|--------------------|
    0                                 80 % ... 90 %           95 %                 100 %

Each end draws its moment anew for every IKE SA, so they seldom begin together. What is due is
told to the outside, which may have a QKD key for it, and told again while nothing comes of it,
with a wait that is drawn as well. "Replaced" means by a new IKE SA from IKE_SA_INIT on, made
before this one is closed: for a peer that cannot or will not rekey.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.ike import limits
from gateway.ike.sa import IkeSa


class Lifetime:
    """Of one IKE SA. ``due``: it should be rekeyed, or (True) replaced; ``over``: closed."""

    __slots__ = ("_due", "_ends_at", "_over", "_replace_at", "_retry", "_sa")

    def __init__(self, sa: IkeSa, *, due: Callable[[bool], None], over: Callable[[], None]) -> None:
        self._sa = sa
        self._due = due
        self._over = over
        self._ends_at = self._replace_at = self._retry = 0.0

    def begin(self) -> None:
        """From now on. Nothing happens where the connection sets no lifetime."""
        lifetime = self._sa.connection.ike_lifetime
        if lifetime is None:
            return
        now = self._sa.now
        self._ends_at = now + lifetime
        self._replace_at = now + limits.IKE_REPLACE_SHARE * lifetime
        share = limits.IKE_REKEY_SHARE - limits.IKE_REKEY_JITTER * self._lot()
        self._retry = min(limits.IKE_REKEY_RETRY, limits.IKE_REKEY_RETRY_SHARE * lifetime)
        self._wait(now + share * lifetime)

    def stop(self) -> None:
        self._sa.env.deadlines.cancel((self, "due"))

    def _wait(self, when: float) -> None:
        self._sa.env.deadlines.set((self, "due"), min(when, self._ends_at), self._expire)

    def _expire(self, now: float) -> None:
        self._sa.now = now
        if now >= self._ends_at:
            self._over()
            return
        self._wait(now + self._retry * (1.0 - limits.IKE_REKEY_RETRY_JITTER * self._lot()))
        self._due(now >= self._replace_at)

    def _lot(self) -> float:
        """0 <= lot < 1."""
        return int.from_bytes(self._sa.env.rng.random_bytes(4), "big") / 2.0**32
