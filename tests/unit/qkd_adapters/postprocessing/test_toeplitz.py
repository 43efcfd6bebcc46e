"""Privacy amplification is exact, linear, and refuses what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from qkd_adapters.postprocessing import toeplitz


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, count, dtype=np.uint8)


@pytest.mark.parametrize(
    ("count", "length"), [(1, 1), (2, 1), (100, 99), (1500, 1), (3000, 1100), (10_000, 4_000)]
)
def test_it_is_the_product_with_the_matrix(count: int, length: int) -> None:
    bits, seed = drawn(count), drawn(toeplitz.seed_bits(count), 1)
    rest = count - length
    row, column = np.arange(length)[:, None], np.arange(rest)[None, :]
    toeplitz_part = seed[row + rest - 1 - column] if rest else np.zeros((length, 0), np.uint8)
    matrix = np.hstack((np.eye(length, dtype=np.uint8), toeplitz_part))
    expected = matrix.astype(np.float32) @ bits % 2
    assert (toeplitz.hash_key(bits, seed, length) == expected).all()


def test_it_is_linear_where_the_matrix_is_too_large_to_write_down() -> None:
    count, length = 300_000, 100_000
    seed = drawn(toeplitz.seed_bits(count), 3)
    one, other = drawn(count, 4), drawn(count, 5)
    hashed = [toeplitz.hash_key(bits, seed, length) for bits in (one, other, one ^ other)]
    assert (hashed[0] ^ hashed[1] == hashed[2]).all()
    assert hashed[0].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("count", "length", "seed"), [(10, 0, 9), (10, 11, 9), (10, 5, 8)])
def test_what_cannot_be_hashed_is_refused(count: int, length: int, seed: int) -> None:
    with pytest.raises(ValueError, match="hash"):
        toeplitz.hash_key(drawn(count), drawn(seed), length)
