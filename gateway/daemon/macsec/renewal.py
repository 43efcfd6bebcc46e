"""Whether a link's CAK is renewed as it should be, and who is there that has another one."""

from __future__ import annotations

from gateway.daemon.macsec.caks import Caks
from gateway.daemon.macsec.events import Refusals, short
from gateway.mka.limits import LIFE_TIME
from gateway.mka.views import ParticipantFacts, PortFacts

ROLLOVER_MAX = 2 * LIFE_TIME  # seconds after which a newer CAK should have taken over


def not_renewed(facts: PortFacts | None, caks: Caks, now: float) -> str | None:
    """Why the CAK in use is older than it should be; None where it is not."""
    newest = caks.newest
    if newest is None:
        return None
    if caks.source_lost is not None:
        return f"no IKE SA, so the CAK is not replaced: {caks.source_lost}"
    principal = _principal(facts)
    behind = principal is not None and principal.ckn != newest.ckn
    if behind and now - newest.since >= ROLLOVER_MAX:
        return f"CAK {short(newest.ckn)} does not come into use: the peer has not got it"
    return None


def refusal(facts: PortFacts | None, caks: Caks, refusals: Refusals, now: float) -> str | None:
    """Who is there with another key, while nobody has ours for longer than a rollover takes."""
    newest = caks.newest
    if facts is None or newest is None or now - newest.since < LIFE_TIME:
        return None
    live = {item.ckn for item in facts.participants if any(peer.live for peer in item.peers)}
    return None if newest.ckn in live else refusals.text(now)


def _principal(facts: PortFacts | None) -> ParticipantFacts | None:
    items = () if facts is None else facts.participants
    return next((item for item in items if item.principal), None)
