"""Why members that hear each other come to no SAK: a port that stays closed says what it lacks."""

from __future__ import annotations

from gateway.mka.key_server import agreed_confidentiality
from gateway.mka.limits import LIFE_TIME
from gateway.mka.participant import Participant
from gateway.mka.settings import PortSettings


class Obstacle:
    """The reason there is now, and since when. It passes in a moment, or it is to be told."""

    __slots__ = ("_reason", "_since", "_told")

    def __init__(self) -> None:
        self._reason: str | None = None
        self._since = 0.0
        self._told = False

    def judge(self, reason: str | None, now: float) -> str | None:
        """What is to be told: each reason once, after it has stood for the MKA Life Time."""
        if reason != self._reason:
            self._reason, self._since, self._told = reason, now, False
        if reason is None or self._told or now < self._since + LIFE_TIME:
            return None
        self._told = True
        return reason

    def next_deadline(self) -> float | None:
        waits = self._reason is not None and not self._told
        return self._since + LIFE_TIME if waits else None


def obstacle_of(principal: Participant, settings: PortSettings) -> str | None:
    """``principal`` has live peers, and there is no SAK. None: one may come yet."""
    if not settings.secures:
        return "this end does not want MACsec"
    if principal.key_server is None:
        return "nobody wants to be key server"
    server = principal.server
    if server is None:
        if agreed_confidentiality(settings, principal.peers.live) is not None:
            return None
        willing = principal.peers.securing
        return "no member is capable of what is configured" if willing else "no member wants MACsec"
    if server.declines or not server.secures:
        return "the key server wants no MACsec"
    return "the key server gives no SAK that can be taken"
