"""Kernels of the reductions with one thing wrong differ from detprobe.reference: the comparison can fail.

tests/emulated/reduction_faults.cpp has each kernel twice, right and wrong; only the right one is the reference.
"""

import numpy as np
import pytest
from emulated_module import build

from detprobe import reference

SEEDS = (0, 1, 2, 17)
GRIDS = (1, 2, 3, 5)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return build("reduction_faults", tmp_path_factory.mktemp("emulated"))


def numbers(rows, n, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, n)) * np.exp(rng.uniform(-3, 3, (rows, n)))).astype(np.float32)


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32).tolist()


def test_a_dropped_barrier_in_the_fold_of_columns_is_caught(kernels):
    x = numbers(20, 100, 1)
    wanted = bits(reference.sum_rows(x))
    stored = x.T.ravel().tolist()
    for seed in SEEDS:
        assert bits(kernels.columns(stored, 20, seed)) == wanted
        assert bits(kernels.columns_without_a_barrier(stored, 20, seed)) != wanted


def test_an_identity_of_plus_zero_is_caught(kernels):
    x = np.full((2, 40), -0.0, np.float32)
    x[1] = 1
    wanted = bits(reference.sum_rows(x))
    for seed in SEEDS:
        assert bits(kernels.sum(x.ravel().tolist(), [], 2, seed)) == wanted
        assert bits(kernels.sum_from_zero(x.ravel().tolist(), [], 2, seed)) != wanted


def test_two_roundings_in_the_place_of_an_fma_are_caught(kernels):
    x, y = numbers(3, 700, 2), numbers(3, 700, 3)
    wanted = bits(reference.dot(x, y))
    for seed in SEEDS:
        assert bits(kernels.dot(x.ravel().tolist(), y.ravel().tolist(), 3, seed)) == wanted
        assert bits(kernels.dot_with_two_roundings(x.ravel().tolist(), y.ravel().tolist(), 3, seed)) != wanted


def test_an_fma_in_the_place_of_two_roundings_is_caught(kernels):
    rows = numbers(4, 700, 4)  # each its own weight
    wanted = bits(reference.sum_rows(rows * rows))
    for seed in SEEDS:
        right = [kernels.weighted_sum([0.0] * 700, y.tolist(), 1, seed)[0] for y in rows]
        wrong = [kernels.weighted_sum_with_one_rounding([0.0] * 700, y.tolist(), 1, seed)[0] for y in rows]
        assert bits(right) == wanted
        assert bits(wrong) != wanted


def test_a_split_that_follows_the_grid_is_caught(kernels):
    x = numbers(1, 2500, 6)
    wanted = bits(reference.sum_rows(x))
    wrong = {}
    for blocks in GRIDS:
        for seed in SEEDS:
            right = np.array(kernels.partials_by_blocks(x[0].tolist(), blocks, seed), np.float32)
            assert bits(reference.sum_rows(right[None])) == wanted
            parts = np.array(kernels.partials_by_grid(x[0].tolist(), blocks, seed), np.float32)
            wrong.setdefault(blocks, set()).add(tuple(bits(reference.sum_rows(parts[None]))))
    assert all(len(results) == 1 for results in wrong.values())  # every schedule agrees, and no launch shape
    assert len(set().union(*wrong.values())) > 1
    assert any(tuple(wanted) not in results for results in wrong.values())
