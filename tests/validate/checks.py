"""What a check is: a figure measured now, the figure it must be, and where that comes from.

A module ``tests/validate/check_NAME.py`` with a tuple ``CHECKS`` is found by itself. Use
``near``, ``at_most``, ``at_least`` and ``exactly`` to write one:

    CHECKS = (
        near("GYS: Q_mu at 0 km", 2.137e-2, lambda: gain(...), relative=1e-3,
             source="Ma et al., quant-ph/0503005"),
    )

The function measures when it is called, not before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Value = float | int | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    source: str  # publication, standard or outside program the expectation comes from
    expected: Value
    tolerance: str  # in words
    measure: Callable[[], Value]
    holds: Callable[[Value], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the report."""

    name: str
    expected: Value
    got: Value
    tolerance: str
    ok: bool
    source: str
    seconds: float


def near(
    name: str,
    expected: float,
    measure: Callable[[], float],
    *,
    source: str,
    relative: float = 0.0,
    absolute: float = 0.0,
) -> Check:
    """Within the larger of a relative and an absolute tolerance."""
    allowed = max(abs(expected) * relative, absolute)
    words = f"{relative:.3g} relative" if abs(expected) * relative >= absolute else f"{absolute:g}"

    def holds(got: Value) -> bool:
        return isinstance(got, float | int) and abs(got - expected) <= allowed

    return Check(
        name=name,
        source=source,
        expected=expected,
        tolerance=f"+- {words}",
        measure=measure,
        holds=holds,
    )


def at_most(name: str, bound: float, measure: Callable[[], float], *, source: str) -> Check:
    return Check(
        name=name,
        source=source,
        expected=bound,
        tolerance="at most",
        measure=measure,
        holds=lambda got: isinstance(got, float | int) and math.isfinite(got) and got <= bound,
    )


def at_least(name: str, bound: float, measure: Callable[[], float], *, source: str) -> Check:
    return Check(
        name=name,
        source=source,
        expected=bound,
        tolerance="at least",
        measure=measure,
        holds=lambda got: isinstance(got, float | int) and math.isfinite(got) and got >= bound,
    )


def exactly(name: str, expected: Value, measure: Callable[[], Value], *, source: str) -> Check:
    return Check(
        name=name,
        source=source,
        expected=expected,
        tolerance="exact",
        measure=measure,
        holds=lambda got: got == expected,
    )
