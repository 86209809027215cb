"""Orders of additions that are recovered are the true ones; what has no order is told apart, with a sentence."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sum_orders as S
import torch
from hypothesis import given, settings
from summation_tree import sum_tree

import detprobe
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probes import SumTree, reduction_order
from detprobe.probes._recover import misfit
from detprobe.tree_shape import fold, lines, sentence

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 64, 100, 256)
KNOWN: dict[str, Callable[[list[Any]], Any]] = {
    "one after the other": S.chain,
    "from the last to the first": lambda items: S.chain(items[::-1]),
    "pairwise": S.halves,
    "4 lanes": lambda items: S.lanes(items, 4),
    "8 lanes": lambda items: S.lanes(items, 8),
    "blocks of 16": lambda items: S.blocks(items, 16),
    "numpy's": S.numpy_order,
}


def recovered(fn: Callable[..., Any], n: int, **options: Any) -> SumTree:
    report = reduction_order(fn, n=n, **options)
    assert report.tree is not None, report
    assert report.ok
    return report.tree


def same(tree: SumTree, nested: Any) -> bool:
    other = SumTree.from_nested(nested)
    equal = tree.parting(other) is None
    assert equal == (tree.fingerprint() == other.fingerprint())
    return equal


@pytest.mark.parametrize("method", ["full", "basic"])
@pytest.mark.parametrize("order", KNOWN)
def test_known_orders_are_recovered(order: str, method: str) -> None:
    for n in SIZES if method == "full" else SIZES[:-2]:
        nested = KNOWN[order](list(range(n)))
        assert same(recovered(S.adding(nested), n, method=method), nested), n


@settings(max_examples=15, deadline=None)
@given(S.orders(256))
def test_any_order_of_additions_is_recovered(nested: Any) -> None:
    tree = SumTree.from_nested(nested)
    assert same(recovered(S.adding(nested), tree.n), nested)


@settings(max_examples=30, deadline=None)
@given(S.orders(40))
def test_both_methods_give_one_tree(nested: Any) -> None:
    n = SumTree.from_nested(nested).n
    assert recovered(S.adding(nested), n).parting(recovered(S.adding(nested), n, method="basic")) is None


@settings(max_examples=60, deadline=None)
@given(S.orders(40, widest=6))
def test_exact_additions_of_several_terms_are_recovered(nested: Any) -> None:
    assert same(recovered(S.adding(nested), SumTree.from_nested(nested).n), nested)


@pytest.mark.parametrize("method", ["full", "basic"])
@settings(max_examples=40, deadline=None)
@given(nested=S.orders(40, widest=6))
def test_additions_that_cut_off_are_recovered(nested: Any, method: str) -> None:
    n = SumTree.from_nested(nested).n
    assert same(recovered(S.adding(nested, cutting=True), n, method=method), nested)


@pytest.mark.parametrize("cutting", [False, True])
def test_a_tensor_cores_order_is_recovered_and_its_width_is_told(cutting: bool) -> None:
    nested = S.fused_blocks(list(range(64)), 8)
    report = reduction_order(S.adding(nested, cutting=cutting), n=64)
    assert report.tree is not None
    assert same(report.tree, nested)
    assert report.tree.widest == 9
    assert "additions of up to 9 terms" in str(report)
    assert "8 steps, of which each adds up to 8 elements to the sum of those before at once" in report.findings[0]


@pytest.mark.parametrize(
    ("nested", "said"),
    [
        (S.chain(list(range(50))), "one after the other over 50 elements"),
        (S.chain(list(range(50))[::-1]), "one after the other over 50 elements, 1 apart, from the last to the first"),
        (S.halves(list(range(64))), "pairwise over 64 elements"),
        (S.lanes(list(range(64)), 4), "4 lanes, added pairwise, each one after the other over 16 elements, 4 apart"),
        (S.blocks(list(range(64)), 16), "4 parts, 16 apart, added one after the other, each pairwise over 16 elements"),
        (tuple(range(30)), "in one step over 30 elements"),
        (((0, 2), (1, 3)), "pairwise over 4 elements, the halves first"),
    ],
)
def test_what_is_regular_is_folded_into_a_sentence(nested: Any, said: str) -> None:
    assert sentence(fold(SumTree.from_nested(nested))) == said


@settings(max_examples=60, deadline=None)
@given(S.orders(60, widest=4))
def test_every_tree_can_be_folded_and_keeps_its_size(nested: Any) -> None:
    tree = SumTree.from_nested(nested)
    folded = fold(tree)
    assert folded.size == tree.n
    assert lines(folded)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 100, 128, 129, 136, 256, 300, 1000, 1025])
def test_the_order_of_numpy_is_the_known_one(n: int) -> None:
    for dtype in (torch.float32, torch.float64):
        assert same(recovered(lambda x: np.sum(x.numpy()), n, dtype=dtype), S.numpy_order(list(range(n))))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [2, 31, 33, 100, 1024, 1500])
def test_the_order_of_detprobes_sum_is_the_written_one(n: int, threads: int) -> None:
    torch.set_num_threads(threads)
    tree = recovered(detprobe.ops.sum, n)
    sizes = sum_tree(n)
    own = random.Random(n)
    pairs = [tuple(sorted(own.sample(range(n), 2))) for _ in range(2000)]
    assert misfit(tree, pairs, lambda i, j: int(sizes[i, j])) is None
    assert tree.widest == 2


def test_the_order_of_torchs_sum_changes_with_the_thread_count_and_detprobes_does_not() -> None:
    trees: dict[str, list[SumTree]] = {}
    for name, fn in (("torch", torch.sum), ("detprobe", detprobe.ops.sum)):
        for n, threads in itertools.product((32768, 32769), (1, 2)):
            torch.set_num_threads(threads)
            trees.setdefault(f"{name} {n}", []).append(recovered(fn, n, leaves=64))
    parting = {name: a.parting(b) for name, (a, b) in trees.items()}
    assert parting["torch 32768"] is None
    assert parting["torch 32769"] is not None  # above the grain size, where torch uses threads
    assert len(parting["torch 32769"].elements) == 64
    assert parting["detprobe 32768"] is None
    assert parting["detprobe 32769"] is None


@pytest.mark.parametrize("n", [257, 600])
def test_a_format_that_counts_to_256_is_counted_in_portions(n: int) -> None:
    tree = recovered(torch.sum, n, dtype=torch.bfloat16)
    assert tree.n == n
    assert sorted(tree.leaves(tree.root)) == list(range(n))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_random_numbers_added_in_the_recovered_order_give_torchs_bits(dtype: torch.dtype) -> None:
    for n in (5, 64, 333):
        report = reduction_order(torch.sum, n=n, dtype=dtype)
        assert "give its own bits: 8 of 8 times" in report.findings[-1]
        assert report.tree is not None
        assert report.tree.widest == 2  # an exact sum would often give them too


def test_rounding_to_halves_at_every_step_is_told_from_a_float32_accumulator() -> None:
    def halves(x: torch.Tensor) -> torch.Tensor:
        total = x[0]
        for value in x[1:]:
            total = total + value
        return total

    report = reduction_order(halves, n=40, dtype=torch.float16)
    assert "in float16, give its own bits" in " ".join(report.findings)
    assert same(report.tree, S.chain(list(range(40))))


def test_calls_grow_as_n_log_n_and_are_reported() -> None:
    for order in ("one after the other", "from the last to the first", "pairwise", "8 lanes"):
        for n in (64, 200):
            fn = S.adding(KNOWN[order](list(range(n))))
            calls = 0

            def counting(x: torch.Tensor, fn: Callable[[torch.Tensor], float] = fn) -> float:
                nonlocal calls
                calls += 1
                return fn(x)

            report = reduction_order(counting, n=n)
            told = report.tables[0].rows[0][1]
            assert isinstance(told, int)
            assert told + 8 == calls  # the eight random sums come after
            assert told <= 2 * n * math.log2(n) + 100


def test_leaves_give_the_tree_of_these_elements_alone() -> None:
    whole = S.chain(list(range(100)))
    assert same(recovered(S.adding(whole), 100, leaves=10), S.chain(list(range(10))))


# What has no order to be seen.


def test_an_exact_sum_has_no_order() -> None:
    for n in (3, 50):
        report = reduction_order(detprobe.ops.exact_sum, n=n)
        assert report.ok
        assert report.tree is not None
        assert report.tree.nodes == (tuple(range(n)),) or report.tree.widest == n
        assert "exact sum" in report.findings[0]


def test_a_compensated_sum_has_an_order_and_other_bits() -> None:
    def kahan(x: torch.Tensor) -> np.float32:
        total = lost = np.float32(0)
        for value in x.numpy():
            y = value - lost
            t = total + y
            lost, total = (t - total) - y, t
        return total

    report = reduction_order(kahan, n=30)
    assert same(report.tree, S.chain(list(range(30))))
    assert "rounds in another way (compensation" in report.findings[-1]


def test_a_compensation_that_is_added_at_the_end_looks_like_an_exact_sum() -> None:
    def neumaier(x: torch.Tensor) -> float:
        total = lost = 0.0
        for value in x.double().tolist():
            t = total + value
            lost += (total - t) + value if abs(total) >= abs(value) else (value - t) + total
            total = t
        return total + lost

    report = reduction_order(neumaier, n=30, dtype=torch.float64)
    assert "exact sum" in report.findings[0]


def test_an_order_that_changes_between_calls_is_freedom() -> None:
    own = random.Random(1)

    def shuffled(x: torch.Tensor) -> float:
        items = list(range(64))
        own.shuffle(items)
        return S.adding(S.chain(items))(x)

    report = reduction_order(shuffled, n=64)
    assert report.free
    assert report.tree is None
    assert "distinct results of 8 calls" in report.findings[0]


def test_an_order_that_changes_while_it_is_asked_for_or_when_the_tree_is_there_is_found() -> None:
    chain, pairs = S.adding(S.chain(list(range(32)))), S.adding(S.halves(list(range(32))))
    told = reduction_order(chain, n=32).tables[0].rows[0][1]
    assert isinstance(told, int)
    for turn in (60, told - 63):  # the last 64 calls ask for pairs once more
        calls = itertools.count()
        report = reduction_order(lambda x, calls=calls, turn=turn: (chain if next(calls) < turn else pairs)(x), n=32)
        assert report.tree is None
        assert report.free
        assert report.notes == ("No tree was recovered.",)
    assert "no fixed order was found" in report.findings[0]


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (torch.mean, "expected a sum of all elements"),
        (torch.max, "expected a sum of all elements"),
        (lambda x: x.square().sum(), "expected a sum of all elements"),
        (lambda x: x[:-1].sum(), "expected a sum of all elements"),
        (lambda x: x.sum() * math.inf, "expected a sum, and of small whole numbers it made nan"),
        (lambda x: x * 2, "expected it to return one number, got a tensor of shape (8,)"),
        (lambda x: None, "got NoneType"),
    ],
)
def test_what_is_not_a_sum_is_refused_with_a_sentence(fn: Callable[..., Any], said: str) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError)) as caught:
        reduction_order(fn, n=8)
    assert said in str(caught.value)


def test_a_sum_that_overflows_on_the_way_says_so() -> None:
    report = reduction_order(lambda x: (x * 2.0**100).sum() / 2.0**100, n=8)
    assert report.tree is None
    assert report.ok
    assert "not finite" in report.findings[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "n: expected at least 1, got 0"),
        ({"n": -3}, "n: expected at least 1, got -3"),
        ({"n": 2.5}, "n: expected int, got float"),
        ({"n": 20000}, "at most 16384 probed elements, got 20000"),
        ({"n": 8, "runs": 1}, "runs: expected at least 2, got 1"),
        ({"n": 8, "leaves": 9}, "leaves: expected at most n = 8, got 9"),
        ({"n": 8, "dtype": torch.int32}, "dtype: expected one of float64, float32, bfloat16, float16, got int32"),
        ({"n": 8, "dtype": "float32"}, "dtype: expected a torch.dtype"),
        ({"n": 8, "method": "fast"}, "method: expected one of full, basic, got 'fast'"),
        ({"n": 8, "device": "moon"}, "device: expected one of cpu, cuda, got 'moon'"),
        ({"n": 8, "fn": 3}, "fn: expected a callable, got int"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError)) as caught:
        reduction_order(**{"fn": torch.sum, **options})
    assert said in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(NotAvailableError, match="no GPU"):
        reduction_order(torch.sum, n=8, device="cuda")
