"""Health tests of a device's random numbers, on the bits and bases it used for light.

NIST SP 800-90B section 4.4: repetition count and adaptive proportion. The tests are run on every
block, so the false alarm rate is set far below the 2^-20 the standard gives as an example.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.records import Record

FALSE_ALARM = 2.0**-60
WINDOW = 1024  # of the adaptive proportion test for binary sources: SP 800-90B section 4.4.2
# More of a block shows no failure that this does not.
MOST = 65_536
_LEAST = 64  # values below which nothing can be said

Bits = NDArray[np.uint8]


def healthy(record: Record, p_z: float) -> bool:
    """``p_z``: probability of the key basis, 0, as designed."""
    return sound(window(record.columns.get("bit")), 0.5) and sound(
        window(record.columns.get("basis")), max(p_z, 1.0 - p_z)
    )


def window(column: NDArray[Any] | None) -> Bits:
    """The part of a column that is tested."""
    if column is None:
        return np.empty(0, dtype=np.uint8)
    return np.asarray(column[:MOST], dtype=np.uint8)


def sound(values: Bits, likeliest: float) -> bool:
    """``likeliest``: probability of the more probable of the two values."""
    if len(values) < _LEAST or likeliest >= 1.0:
        return True
    return _longest_run(values) < repetition_cutoff(likeliest) and _proportions_hold(
        values, likeliest
    )


def bias(bits: Bits) -> float:
    """Standard deviations by which the ones differ from half."""
    if not len(bits):
        return 0.0
    return float((2.0 * int(bits.sum()) - len(bits)) / math.sqrt(len(bits)))


def repetition_cutoff(likeliest: float) -> int:
    """SP 800-90B section 4.4.1: 1 + ceil(-log2(alpha) / H)."""
    return 1 + math.ceil(math.log2(FALSE_ALARM) / math.log2(likeliest))


def _longest_run(values: Bits) -> int:
    changes = np.flatnonzero(np.diff(values))
    edges = np.concatenate(([-1], changes, [len(values) - 1]))
    return int(np.diff(edges).max())


def _proportions_hold(values: Bits, likeliest: float) -> bool:
    """The first value of each window must not come too often in it.

    The cutoff is Hoeffding's bound on the binomial tail: never below the exact one.
    """
    whole = len(values) // WINDOW * WINDOW
    if not whole:
        return True
    windows = values[:whole].reshape(-1, WINDOW)
    counts = (windows == windows[:, :1]).sum(axis=1)
    cutoff = WINDOW * likeliest + math.sqrt(WINDOW * -math.log(FALSE_ALARM) / 2)
    return int(counts.max()) <= cutoff
