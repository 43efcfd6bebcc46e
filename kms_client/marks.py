"""KMEs whose keys one peer does not take: asked last, and tried again after a while.

A KME may be well while the peer's half of its pair is dead: it goes on giving keys that the
peer cannot fetch. Only the peer's answer to a key tells. One such answer is enough for a mark,
since a mark changes nothing but the order in which KMEs are asked.

A marked KME rests for a while. Then its status is looked at again, and if that tells of no
broken link, one key is fetched from it. The peer takes it, and the mark goes; or it does not,
and the next rest is longer. Sans-IO: every call is given the monotonic time ``now``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

REST_MIN = 60.0
"""Seconds. Each try may cost a rekey its QKD key, so it is no shorter than the default
``restore_dwell``, for which that is shown."""

REST_MAX = 3600.0
"""The rest doubles up to this: one key, and at most one rekey without one, per hour."""


@dataclass(slots=True)
class _Mark:
    rest: float
    until: float


class PeerMarks:
    """Marks of one peer SAE.

    ``order``: the KMEs as preferred. ``look_first``: seconds from a look at the status to a key.
    """

    def __init__(self, order: Sequence[str], *, look_first: float) -> None:
        self._order = tuple(order)
        self._look_first = look_first
        self._marks: dict[str, _Mark] = {}  # by name of the KME

    @property
    def standing(self) -> tuple[str, ...]:
        return tuple(self._marks)

    def refused(self, kme: str, now: float) -> None:
        """The peer did not take a key of this KME."""
        mark = self._marks.get(kme)
        if mark is None:
            self._marks[kme] = _Mark(REST_MIN, now + REST_MIN)
        elif now >= mark.until:  # else another key of the same lot: known already
            mark.rest = min(2 * mark.rest, REST_MAX)
            mark.until = now + mark.rest

    def taken(self, kme: str, now: float) -> bool:
        """The peer took one. Returns whether that ended a mark.

        KMEs after this one are not asked while it gives: nothing would ever end their marks.
        """
        place = self._order.index(kme)
        ended = [
            name
            for name, mark in self._marks.items()
            if name == kme or (self._order.index(name) > place and now >= mark.until)
        ]
        for name in ended:
            del self._marks[name]
        return bool(ended)

    def postpone(self, kme: str, now: float) -> bool:
        """Its link is still broken: rest once more. False where it is not marked."""
        mark = self._marks.get(kme)
        if mark is None:
            return False
        mark.until = now + mark.rest
        return True

    def resting(self, now: float) -> frozenset[str]:
        """Not even their status is worth a look now."""
        return frozenset(kme for kme, mark in self._marks.items() if now < mark.until)

    def avoided(self, now: float, waiting: Collection[str]) -> frozenset[str]:
        """No key should come from these now. ``waiting``: KMEs of keys the peer has not seen."""
        return frozenset(
            kme
            for kme, mark in self._marks.items()
            if kme in waiting or now < mark.until + self._look_first
        )
