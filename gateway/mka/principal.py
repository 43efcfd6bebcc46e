"""Which of several CAKs on one port decides: the principal actor (9.14, 12.2).

The standard leaves to the implementation which participant that is. Ours is the newest under which
everybody can be reached: in a CAK rollover the new one takes over when all members that are live
under the present one are live under it too, so nobody is cut off. That is for the key server to
find; the others follow when it distributes a SAK under the new CAK.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.mka.participant import Participant


def choose(
    present: Participant | None, participants: Collection[Participant]
) -> Participant | None:
    """``participants`` in the order they came. None where nobody is live under any."""
    order = list(participants)
    usable = [item for item in order if item.peers.live and item.key_server is not None]
    if present is None or present not in order or not present.peers.live:
        fallback = [item for item in order if item.peers.live]
        candidates = usable or fallback
        return candidates[-1] if candidates else None
    newer = order[order.index(present) + 1 :]
    reached = present.live_scis()
    for item in reversed(newer):
        if item.is_key_server and item.live_scis() >= reached:
            return item
    return present


def may_follow(
    participant: Participant, present: Participant | None, participants: Collection[Participant]
) -> bool:
    """Whether a SAK under this CAK is to be taken: the principal's, or a newer one's."""
    if present is None:
        return True
    order = list(participants)
    return order.index(participant) >= order.index(present)
