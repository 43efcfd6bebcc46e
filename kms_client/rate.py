"""How many keys per second the quantum link makes for us as master SAE, measured here.

Between two looks at the KME's ``stored_key_count``::

    generated = (stored now - stored then) + keys drawn by us in between

and the rate is the exponentially weighted mean of ``generated / seconds`` with time constant
``TIME_CONSTANT``; each window counts by its length. A window can be *censored*, that is, say
only "at least so many":

- the KME's store was full, so keys made then were thrown away;
- the KME gives no count, and every key we asked for came.

A censored window may raise the estimate, never lower it. Where the KME gives no count and keys
failed to come although asked for, the store is known to be empty and the window counts fully.
Keys that the peer draws as master SAE are not ours: where a KME keeps one store for both
directions the rate is what the peer leaves us, where it keeps two it is that of our own.
"""

from __future__ import annotations

import math

TIME_CONSTANT = 60.0  # seconds; a change of rate shows to 63 % after this long


class RateEstimator:
    """Sans-IO: times are monotonic seconds given by the caller."""

    rate: float
    """Keys per second; 0.0 until there is something to measure."""

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        self._start = now
        self._stored: int | None = None
        self._source = ""
        self._drawn = 0
        self._shortage = False
        self._measured = False  # by a window that was not censored

    def drawn(self, count: int) -> None:
        """We received this many new keys as master SAE."""
        self._drawn += count

    def shortage(self) -> None:
        """We asked for a key and none came."""
        self._shortage = True

    def look(self, now: float, *, stored: int | None, full: bool = False, source: str = "") -> None:
        """End a window. ``stored`` is None without a count; ``source`` names who counted."""
        seconds = now - self._start
        if seconds > 0:
            self._measure(seconds, stored, full=full, comparable=source == self._source)
        elif self._stored is not None:
            return
        self._start, self._stored, self._source = now, stored, source
        self._drawn, self._shortage = 0, False

    def _measure(self, seconds: float, stored: int | None, *, full: bool, comparable: bool) -> None:
        if stored is None:
            self._count(self._drawn / seconds, seconds, censored=not self._shortage)
        elif self._stored is not None and comparable:
            generated = max(0, stored - self._stored + self._drawn)
            self._count(generated / seconds, seconds, censored=full)

    def _count(self, sample: float, seconds: float, *, censored: bool) -> None:
        if censored and sample <= self.rate:
            return
        weight = 1.0 - math.exp(-seconds / TIME_CONSTANT)
        if not censored and not self._measured:
            self._measured, weight = True, 1.0
        self.rate += weight * (sample - self.rate)
