from __future__ import annotations

import sys

import numpy as np
import pytest

from qkd_adapters.detection.errors import MissingExtraError
from qkd_adapters.detection.trees import HalfSpaceTrees


def test_what_never_was_scores_higher() -> None:
    pytest.importorskip("river")
    rng = np.random.default_rng(1)
    trees = HalfSpaceTrees()

    def scores(shift: float) -> dict[str, float]:
        return {f"f{i}": float(rng.normal(shift, 1.0)) for i in range(6)}

    for _ in range(1000):
        trees.learn(scores(0.0))
    usual = np.mean([trees.score(scores(0.0)) for _ in range(50)])
    strange = np.mean([trees.score(scores(6.0)) for _ in range(50)])
    assert strange > usual + 0.2


def test_without_river_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(MissingExtraError, match="extra 'ml'"):
        HalfSpaceTrees()
