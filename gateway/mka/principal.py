"""Which of several CAKs on one port decides: the principal actor (9.14, 12.2).

The standard leaves to the implementation which participant that is. Ours is the newest under which
everybody can be reached: in a CAK rollover the new one takes over when all members that are live
under the present one are live under it too, so nobody is cut off. That is for the key server to
find; the others follow when it distributes a SAK under the new CAK.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.mka.participant import Participant
from gateway.mka.sak import Sak


def choose(
    present: Participant | None, participants: Collection[Participant], *, at_rest: bool
) -> Participant | None:
    """``participants`` in the order they came. None where nobody is live under any.

    Only the principal says what is done with SAKs, so the key server does not move on while
    members have yet to hear of one (not ``at_rest``).
    """
    order = list(participants)
    usable = [item for item in order if item.peers.live and item.key_server is not None]
    if present is None or present not in order or not present.peers.live:
        fallback = [item for item in order if item.peers.live]
        candidates = usable or fallback
        return candidates[-1] if candidates else None
    if not at_rest:
        return present
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


def outlived(
    principal: Participant, participants: Collection[Participant], saks: Sequence[Sak]
) -> list[Participant]:
    """Older than the principal and than the CAK of each SAK there is: of no use any more."""
    order = list(participants)
    names = [participant.ckn for participant in order]
    oldest = order.index(principal)
    for sak in saks:  # one from before a restart is under a CAK that is not known
        oldest = min(oldest, names.index(sak.ckn) if sak.ckn in names else 0)
    return order[:oldest]


def least_needed(
    principal: Participant | None, participants: Collection[Participant], saks: Sequence[Sak]
) -> Participant:
    """Who makes room for another CAK: not the principal, and one with a SAK after all others.

    The newest goes last: CAKs that come faster than a rollover takes are passed over, and the
    port moves from the one in use to the last. There are two or more.
    """
    in_use = {sak.ckn for sak in saks}
    spare = [item for item in participants if item is not principal]
    return min(spare, key=lambda item: item.ckn in in_use)
