"""The health tests pass random numbers of any bias that is designed, and nothing stuck."""

from __future__ import annotations

import numpy as np
import pytest

from qkd_adapters.device.health import bias, repetition_cutoff, sound


def test_the_cutoff_is_the_standards() -> None:
    # SP 800-90B section 4.4.1: C = 1 + ceil(-log2(alpha) / H), here alpha = 2^-60, H = 1.
    assert repetition_cutoff(0.5) == 61


@pytest.mark.parametrize("likeliest", [0.5, 0.8, 0.9])
def test_random_numbers_pass(likeliest: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = (rng.random(65_536) > likeliest).astype(np.uint8)
        assert sound(values, likeliest)


def test_a_stuck_source_fails() -> None:
    assert not sound(np.zeros(1000, dtype=np.uint8), 0.5)
    assert not sound(np.ones(1000, dtype=np.uint8), 0.9)


def test_a_source_that_sticks_for_a_while_fails() -> None:
    values = np.random.default_rng(1).integers(0, 2, 65_536, dtype=np.uint8)
    values[30_000:30_070] = 1
    assert not sound(values, 0.5)


def test_a_source_that_loses_its_balance_fails() -> None:
    rng = np.random.default_rng(1)
    assert not sound((rng.random(65_536) > 0.75).astype(np.uint8), 0.5)


def test_too_few_values_say_nothing() -> None:
    assert sound(np.zeros(20, dtype=np.uint8), 0.5)
    assert sound(np.empty(0, dtype=np.uint8), 0.5)


def test_bias_is_in_standard_deviations() -> None:
    assert bias(np.array([0, 1] * 50, dtype=np.uint8)) == 0.0
    assert bias(np.ones(100, dtype=np.uint8)) == 10.0
    assert bias(np.empty(0, dtype=np.uint8)) == 0.0
