"""Who makes the SAKs (9.5)."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.mka.identifiers import MemberId, Sci
from gateway.mka.limits import PRIORITY_NEVER
from gateway.mka.peers import Peer


def elect(own: MemberId, priority: int, sci: Sci, live: Iterable[Peer]) -> MemberId | None:
    """The MI of the key server, which may be ``own``; None without a live peer or a candidate.

    9.5: the lowest priority value, then the lowest SCI. A peer that has selected another as key
    server does not set its flag, and is no candidate.
    """
    peers = list(live)
    candidates = [
        (peer.basic.priority, peer.sci, peer.mi)
        for peer in peers
        if peer.basic.key_server and peer.basic.priority != PRIORITY_NEVER
    ]
    if peers and priority != PRIORITY_NEVER:
        candidates.append((priority, sci, own))
    return min(candidates)[2] if candidates else None
