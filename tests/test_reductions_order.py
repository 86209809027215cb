"""The order of additions that results give away is the written one; exact sums have none; and planted faults show."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
import written
from bit_patterns import words_of
from reduction_inputs import FLOATS, KINDS, Problem, stream, tensor
from scalar_numbers import nearest
from summation_tree import masses, recovered, scan_tree, sum_tree
from torch import Tensor

import detprobe.bits  # noqa: F401 - loads the kernels
from detprobe import reference as R

OPS = torch.ops.detprobe
SMALL = (2, 3, 5, 31, 32, 33, 63, 64, 65, 100)
LARGE = (1023, 1024, 1025, 1500, 3000)


def between(x: Tensor) -> Tensor:
    """The sums of rows that lie between other dimensions: [k, n, 5]."""
    rows = len(x)
    filled = torch.cat([x, x[: -rows % 5]]) if rows % 5 else x
    filled = filled if len(filled) % 5 == 0 else torch.cat([filled, *[x[:1]] * (-len(filled) % 5)])
    return OPS.sum(filled.reshape(-1, 5, x.shape[1]).transpose(1, 2).contiguous(), [1], False, None).flatten()[:rows]


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: OPS.sum(x, [1], False, None),
    "columns": lambda x: OPS.sum(x.t().contiguous(), [0], False, None),
    "between": between,
    "steps": lambda x: OPS.sum(torch.stack([x, -x], 2)[..., 0], [1], False, None),
    "two dimensions": lambda x: OPS.sum(x.unsqueeze(0).expand(1, *x.shape), [0, 2], False, None),
    "one by one": lambda x: torch.stack([OPS.sum(row, None, False, None) for row in x[:40]]),
}


def sampled(n: int, count: int = 300) -> list[tuple[int, int]]:
    draws = (stream(n, 2 * count) >> np.uint64(11)) % np.uint64(n)
    return [(int(i), int(j)) for i, j in draws.reshape(-1, 2) if i != j]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_the_tree_of_a_sum_is_the_written_one(way, dtype):
    for n in (*SMALL, *LARGE):
        pairs = list(combinations(range(n), 2)) if n in SMALL else sampled(n)
        found = recovered(WAYS[way], masses(dtype, n, pairs))
        sizes = sum_tree(n)
        expected = np.array([sizes[i, j] for i, j in pairs])[: len(found)]
        wrong = np.flatnonzero(found != expected)
        assert not len(wrong), f"n {n}: {pairs[wrong[0]]} meet over {found[wrong[0]]} leaves, not {expected[wrong[0]]}"


def test_the_tree_of_the_last_prefix_sum_is_the_written_one():
    for n in (*SMALL, *LARGE):
        pairs = list(combinations(range(n), 2)) if n in SMALL else sampled(n)
        sizes = scan_tree(n)
        for along in (0, 1):
            x = masses(torch.float32, n, pairs)
            rows = x if along else x.t().contiguous()
            last = OPS.cumsum(rows, along, False, None).select(along, n - 1)
            first = OPS.cumsum(rows.flip(along), along, True, None).select(along, 0)
            expected = n - np.array([sizes[i, j] for i, j in pairs])
            assert np.array_equal(last.numpy(), expected)
            assert np.array_equal(first.numpy(), expected)


@pytest.mark.parametrize("kind", ["wide", "cancelling", "huge", "tiny"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_an_exact_sum_is_the_sum_of_fractions_rounded_once(dtype, kind):
    for n in (1, 2, 33, 700):
        x = tensor(dtype, (3, n), kind, n)
        for row, got in zip(x, OPS.exact_sum(x, [1], False, None), strict=True):
            exact = sum((Fraction(v) for v in row.tolist()), Fraction(0))
            assert float(got) == (nearest(exact, written.NAMES[dtype]) if exact else 0)
            assert not exact or got.isfinite() or abs(exact) > torch.finfo(dtype).max


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_no_order_split_layout_or_thread_count_changes_an_exact_sum(dtype, kind):
    x = tensor(dtype, (3000,), kind, 5)
    first = words_of(OPS.exact_sum(x, None, False, None))
    shuffled = x[torch.from_numpy(np.argsort(stream(9, 3000)))]
    ways = [x.flip(0), shuffled, x.reshape(50, 60).t(), x.reshape(10, 20, 15).permute(2, 0, 1), shuffled[:, None]]
    ways += [torch.stack([shuffled, x], 1)[:, 1], torch.cat([x[1000:], x[:1000]])]
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        for way in ways:
            assert words_of(OPS.exact_sum(way, None, False, None)) == first
    zeros = torch.cat([x, -torch.zeros(77, dtype=dtype)])  # -0.0 is what a sum can always be given
    assert words_of(OPS.exact_sum(zeros, None, False, None)) == first


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_an_exact_sum_of_many_is_exact_where_a_sum_is_not(dtype):
    one = tensor(dtype, (40000,), "wide")
    x = torch.cat([one, -one.flip(0), torch.tensor([0.375], dtype=dtype)])
    assert float(OPS.exact_sum(x, None, False, None)) == 0.375
    assert float(OPS.exact_sum(torch.stack([x, -x], 1), [0], False, None)[1]) == -0.375


# Planted faults: DSUM-1 with one thing wrong each. The table of the goldens has to tell each of them from the truth.


def summed(z, identity=-0.0, lanes=32, block=1024, heights=(16, 8, 4, 2, 1), leaf=None, factor=None):
    """S of rows, or P where there is a factor, with whatever is wrong."""
    rows, n = z.shape
    leaf = leaf or (lambda s, a, b: s + a if b is None else R.fma(a, b, s))
    parts = []
    for at in range(0, n, block):
        s = np.full((rows, lanes), identity, z.dtype)
        for i in range(at, min(n, at + block), lanes):
            a = z[:, i : min(i + lanes, n, at + block)]
            b = None if factor is None else factor[:, i : i + a.shape[1]]
            s[:, : a.shape[1]] = leaf(s[:, : a.shape[1]], a, b)
        for h in heights:
            s = s[:, :h] + s[:, h : 2 * h] if heights[0] == lanes // 2 else s[:, ::2] + s[:, 1::2]
        parts.append(s[:, 0])
    y = np.stack(parts, 1)
    return y[:, 0] if y.shape[1] == 1 else summed(y, identity, lanes, block, heights)


def split(z, threads=3):
    """Each of three threads sums its part."""
    return R.sum_rows(np.stack([R.sum_rows(part) for part in np.array_split(z, threads, axis=1)], 1))


def flushed(z):
    return np.where(np.abs(z) < np.finfo(z.dtype).tiny, z * 0, z)


def halfway_up(z, name):
    """Ties away from zero: half a step in size is added, and the rest is cut off."""
    shift = {"float16": 13, "bfloat16": 16}[name]
    bits = z.view(np.uint32) + np.uint32(1 << (shift - 1))
    cut = (bits >> np.uint32(shift) << np.uint32(shift)).view(np.float32)
    return R.narrow(np.where(np.isfinite(z), cut, z), name)


def products(z):
    return z, z[:, ::-1].copy()


FAULTS: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "nothing is wrong": (summed, R.sum_rows),
    "nothing is wrong with products": (
        lambda z: summed(z, factor=products(z)[1]),
        lambda z: R.sum_products(*products(z)),
    ),
    "lanes start at +0.0": (lambda z: summed(z, identity=0.0), R.sum_rows),
    "16 lanes": (lambda z: summed(z, lanes=16, heights=(8, 4, 2, 1)), R.sum_rows),
    "blocks of 512": (lambda z: summed(z, block=512), R.sum_rows),
    "neighbouring lanes are added first": (lambda z: summed(z, heights=(1, 2, 4, 8, 16)), R.sum_rows),
    "one thread more, another split": (split, R.sum_rows),
    "from the other end": (lambda z: R.sum_rows(z[:, ::-1]), R.sum_rows),
    "one accumulator": (lambda z: np.cumsum(z, axis=1)[:, -1], R.sum_rows),
    "numpy's order": (lambda z: z.sum(axis=1), R.sum_rows),
    "more precision between": (lambda z: R.sum_rows(z.astype(np.float64)).astype(z.dtype), R.sum_rows),
    "subnormals are flushed": (lambda z: flushed(R.sum_rows(flushed(z))), R.sum_rows),
    "a product is rounded before it is added": (
        lambda z: summed(z, factor=products(z)[1], leaf=lambda s, a, b: s + a if b is None else s + a * b),
        lambda z: R.sum_products(*products(z)),
    ),
    "a square is added with one rounding where two are written": (
        lambda z: R.fma(z[:, 0], z[:, 1], z[:, 2]),
        lambda z: z[:, 0] * z[:, 1] + z[:, 2],
    ),
    "a mean multiplies with the reciprocal": (
        lambda z: R.sum_rows(z) * (z.dtype.type(1) / z.dtype.type(z.shape[1])),
        R.mean,
    ),
    "softmax multiplies with the reciprocal": (
        lambda z: R.exp(z - R.max_rows(z)[:, None]) * (1 / R.sum_rows(R.exp(z - R.max_rows(z)[:, None])))[:, None],
        R.softmax,
    ),
    "another exp": (lambda z: np.exp(z), R.exp),
    "another log": (lambda z: np.log(z), R.log),
    "prefix sums one by one": (lambda z: np.cumsum(z, axis=1), R.cumsum_rows),
    "variance of squares": (
        lambda z: (R.sum_products(z, z) - R.sum_rows(z) * R.mean(z)) / z.dtype.type(z.shape[1] - 1),
        R.var,
    ),
    "a maximum that ignores NaN": (lambda z: np.fmax.reduce(z, axis=1), R.max_rows),
    "a maximum that keeps -0.0": (lambda z: np.where(z.max(1) == 0, z.dtype.type(-0.0), z.max(1)), R.max_rows),
}
EXACT = ("nothing is wrong", "nothing is wrong with products")


def telling(fault: str) -> list[Problem]:
    """The problems of the goldens' table at which a fault shows in the stored bits."""
    wrong, right = FAULTS[fault]
    found = []
    for dtype in FLOATS:
        for problem in (Problem(dtype, 24, 70, "mixed", seed=3), Problem(dtype, 2, 2100, "wide", "transposed")):
            z, name = written.read(problem.x), written.NAMES[dtype]
            with np.errstate(all="ignore"):
                a, b = (R.narrow(np.ascontiguousarray(f(z)), name) for f in (wrong, right))
            if a.tobytes() != b.tobytes():
                found.append(problem)
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_the_table_of_the_goldens_tells_a_planted_fault(fault):
    found = telling(fault)
    assert bool(found) == (fault not in EXACT), found
    if fault not in EXACT:
        assert any(problem.dtype in (torch.float32, torch.float64) for problem in found)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_the_table_of_the_goldens_tells_another_rounding_of_halves(name):
    dtype = getattr(torch, name)
    z = R.sum_rows(written.read(Problem(dtype, 2, 2100, "wide", "transposed").x))
    many = written.read(Problem(dtype, 24, 70, "mixed", seed=3).x)
    results = np.concatenate([z, R.cumsum_rows(many).reshape(-1)])
    assert (halfway_up(results, name) != R.narrow(results, name)).any()


def test_a_nan_that_keeps_its_payload_would_show():
    x = Problem(torch.float32, 24, 70, "mixed", seed=3).x
    words = words_of(x.flatten())
    nans = words[np.isnan(written.read(x.flatten()))]
    assert len(set(nans.tolist())) > 1
    assert set(words_of(OPS.sum(x, [1], False, None)[OPS.sum(x, [1], False, None).isnan()]).tolist()) == {0x7FC00000}
    assert math.isnan(float(OPS.sum(x, None, False, None)))
