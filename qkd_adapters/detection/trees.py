"""A second opinion from half-space trees (river, extra ``ml``): advisory, raises no alarm.

A tree that splits at random knows no physics. It may show a pattern nobody wrote a rule for,
and misses what moves one feature of many; docs/detection.md has the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkd_adapters.detection.errors import MissingExtraError

TREES = 25
HEIGHT = 8
WINDOW = 250  # blocks whose mass the trees compare with
SCALE = 8.0  # sigma at which a score has reached either end of the trees' range
SEED = 1


class HalfSpaceTrees:
    """Scores the feature scores of verdicts: 0 is usual, 1 has never been seen."""

    def __init__(self) -> None:
        """Raises MissingExtraError where river is not installed."""
        try:
            from river import anomaly  # noqa: PLC0415 (an extra, heavy to load)
        except ImportError as error:
            raise MissingExtraError(
                "half-space trees need river: install the extra 'ml' of qsgw"
            ) from error
        self._trees: Any = anomaly.HalfSpaceTrees(
            n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=SEED
        )

    def score(self, scores: Mapping[str, float]) -> float:
        return float(self._trees.score_one(_scaled(scores)))

    def learn(self, scores: Mapping[str, float]) -> None:
        """From a block of a link in state up, and from no other."""
        self._trees.learn_one(_scaled(scores))


def _scaled(scores: Mapping[str, float]) -> dict[str, float]:
    """The trees split the unit cube."""
    return {name: min(max(0.5 + score / (2 * SCALE), 0.0), 1.0) for name, score in scores.items()}
