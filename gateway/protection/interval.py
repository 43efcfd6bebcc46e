"""How long a hybrid SA runs before its rekey: as the QKD keys allow, between floor and ceiling.

The rule, with ``n`` keys ready, ``k`` of them reserved, ``r`` keys arriving per second:

    n <= k:  ceiling                            (wait for a key; at the ceiling the reserve is used)
    n >  k:  1 / (r + (n - k - 1) / ceiling)    clamped to [floor, ceiling]

The rekey itself takes one key, so with ``n = k + 1`` the interval is exactly the time in which
its successor arrives: never faster than keys come in. Keys beyond that are spent evenly over
one ceiling, which also lets the interval recover when ``r`` was measured on a full pool that
asked for nothing. Field links that have been published deliver one 256-bit key per 12 to 20 s
(12.7 and 22.2 bit/s); there the link, not the floor, sets the pace.
"""

from __future__ import annotations


def rekey_interval(*, ready: int, rate: float, reserve: int, floor: float, ceiling: float) -> float:
    """Seconds from an SA's set-up to its rekey, given the keys at hand (see the module)."""
    spare = ready - reserve - 1  # left for later after the rekey took its key
    if spare < 0:
        return ceiling
    per_second = max(rate, 0.0) + spare / ceiling
    if per_second * ceiling <= 1.0:
        return ceiling
    return max(floor, 1.0 / per_second)
