"""The CPU kernels against detprobe.reference, bit for bit: more dimensions, integers, and `dtype=`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reduction_forms import FORMS, OPS, mismatches
from reduction_inputs import FLOATS, KINDS, LAYOUTS, Problem, tensor
from torch import Tensor

REDUCTIONS: dict[str, Callable[..., tuple[str, tuple[Any, ...]]]] = {
    "sum": lambda x, dim, keepdim: ("sum", (x, dim, keepdim, None)),
    "exact_sum": lambda x, dim, keepdim: ("exact_sum", (x, dim, keepdim, None)),
    "mean": lambda x, dim, keepdim: ("mean", (x, dim, keepdim, None)),
    "dot": lambda x, dim, keepdim: ("dot", (x, x.flip(0), dim, keepdim)),
    "var": lambda x, dim, keepdim: ("var", (x, dim, keepdim, 1.0)),
    "std": lambda x, dim, keepdim: ("std", (x, dim, keepdim, 0.0)),
    "norm 1": lambda x, dim, keepdim: ("vector_norm", (x, 1.0, dim, keepdim, None)),
    "norm 2": lambda x, dim, keepdim: ("vector_norm", (x, 2.0, dim, keepdim, None)),
    "norm inf": lambda x, dim, keepdim: ("vector_norm", (x, math.inf, dim, keepdim, None)),
    "logsumexp": lambda x, dim, keepdim: ("logsumexp", (x, dim, keepdim)),
}
DIMS = [[0, 2], [2, 0], [-1, 0], [3, 1], [1, 3, 0], [2, 1], [-2], [0], [0, 1, 2, 3], [3, 2, 1, 0], [], None]
FOUR = (3, 5, 4, 7)
MEMORY: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "channels last": {"order": (0, 2, 3, 1)},
    "reversed": {"order": (3, 2, 1, 0)},
    "steps": {"order": (1, 3, 0, 2), "steps": (1, 2, 1, 3), "offset": 2},
    "expanded": {"expanded": (1,)},
    "expanded twice": {"expanded": (0, 3)},
}


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_dimensions_are_reduced_in_ascending_order_whatever_the_caller_names_and_the_memory_is(name, memory):
    found = []
    for at, dim in enumerate(DIMS):
        x = tensor(FLOATS[at % 4], FOUR, "wide", at, **MEMORY[memory])
        found += [f"{dim}: {text}" for text in mismatches(*REDUCTIONS[name](x, dim, at % 2 == 0))]
    assert found == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_rows_of_several_blocks_over_dimensions_that_do_not_lie_together(name, dtype):
    x = tensor(dtype, (40, 3, 31, 2), "cancelling")
    y = tensor(dtype, (6, 50, 40), "wide", order=(1, 2, 0))
    found = [mismatches(*REDUCTIONS[name](x, [2, 0], False)), mismatches(*REDUCTIONS[name](y, [1, 2], True))]
    found += [mismatches(*REDUCTIONS[name](x.flip(0, 2), None, False))]
    assert found == [[], [], []]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_maps_along_any_dimension_give_the_written_bits(dtype, memory):
    found = []
    for dim in (0, 1, 2, 3, -1):
        x = tensor(dtype, FOUR, "wide", dim + 3, **MEMORY[memory])
        for op, args in (("softmax", (x, dim, False, None)), ("softmax", (x, dim, True, None))):
            found += mismatches(op, args)
        for reverse in (False, True):
            found += mismatches("cumsum", (x, dim, reverse, None))
    assert found == []


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_layer_norm_over_any_number_of_dimensions_gives_the_written_bits(dtype, memory):
    found = []
    x = tensor(dtype, FOUR, "wide", **MEMORY[memory])
    for dims in (1, 2, 3, 4):
        shape = FOUR[4 - dims :]
        w, b = (tensor(dtype, shape, "normal", salt, order=tuple(reversed(range(dims)))) for salt in (1, 2))
        for args in ((x, dims, w, b, 1e-5, True), (x, dims, None, None, 1e-5, True), (x, dims, w, None, 1e-6, False)):
            found += mismatches("layer_norm", args)
    assert found == []


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_batch_norm_of_two_to_five_dimensions_in_any_memory_gives_the_written_bits(dtype, training):
    orders = {2: [(0, 1), (1, 0)], 3: [(0, 1, 2), (0, 2, 1)], 4: [(0, 1, 2, 3), (0, 2, 3, 1), (1, 0, 3, 2)]}
    orders[5] = [(0, 1, 2, 3, 4), (0, 2, 3, 4, 1)]
    found = []
    for ndim, ways in orders.items():
        for shape in ((6, 5, 4, 3, 2)[:ndim], (2, 9, 30, 20, 2)[:ndim]):
            for order in ways:
                x = tensor(dtype, shape, "wide", ndim, order=order)
                c = shape[1]
                w, b, mean = (tensor(dtype, (c,), "normal", salt) for salt in (1, 2, 3))
                args = (x, w, b, 1e-5) if training else (x, mean, w.abs(), w, b, 1e-5)
                text = mismatches("batch_norm_training" if training else "batch_norm_inference", args)
                found += [f"{shape} {order}: {line}" for line in text]
    assert found == []


def test_expanded_and_stepped_batches_are_normalized_by_the_written_bits():
    for memory in MEMORY.values():
        x = tensor(torch.float32, FOUR, "normal", **memory)
        assert mismatches("batch_norm_training", (x, None, None, 1e-5)) == []


TARGETS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "int64": lambda t, classes: t % classes,
    "stepped": lambda t, classes: torch.stack([t % classes, t], -1)[..., 0],
    "ignored": lambda t, classes: torch.where(t % 3 == 0, -100, t % classes),
    "all ignored": lambda t, classes: torch.full_like(t, -100),
}


@pytest.mark.parametrize("target", [*TARGETS, "shares"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_cross_entropy_of_more_dimensions_gives_the_written_bits(dtype, target):
    found = []
    cases = [((5,), 0, 0.1), ((7, 5), 1, 0.0), ((3, 5, 6), 1, 0.1), ((3, 5, 6), 0, 0.0), ((2, 40, 3, 4), 2, 0.25)]
    for at, (shape, reduction, smoothing) in enumerate(cases):
        classes = shape[min(1, len(shape) - 1)]
        samples = shape[:1] + shape[2:] if len(shape) > 1 else ()
        for weighed in (False, True):
            layout = {"order": tuple(reversed(range(len(shape))))} if at % 2 == weighed else {}
            x = tensor(dtype, shape, "normal", at, **layout)
            w = tensor(dtype, (classes,), "normal", 9) if weighed else None
            if target == "shares":
                t = tensor(dtype, shape, "normal", 4, **layout).abs()
            else:
                t = TARGETS[target](torch.arange(7, 7 + math.prod(samples)).reshape(samples), classes)
            args = (x, t, w, reduction, -100, smoothing)
            where = f"{shape} {reduction} {smoothing} {weighed}"
            found += [f"{where}: {text}" for text in mismatches("cross_entropy", args)]
    assert found == []


INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
UNSIGNED = [torch.uint16, torch.uint32, torch.uint64]


@pytest.mark.parametrize("dtype", INTEGERS + UNSIGNED, ids=str)
def test_integers_wrap_as_written(dtype):
    found = []
    for rows, n in ((1, 1), (3, 70), (70, 3), (2, 3000), (0, 3), (3, 0)):
        for layout in ("contiguous", "transposed", "steps inside", "one element for a row"):
            x = Problem(dtype, rows, n, "bits", layout).x
            for op in ("sum", "exact_sum"):
                found += [f"{op} {rows}x{n} {layout}: {text}" for text in mismatches(op, (x, [1], False, None))]
            if rows:  # the definition cannot scan no rows
                for reverse in (False, True):
                    text = mismatches("cumsum", (x, 1, reverse, None))
                    found += [f"cumsum {rows}x{n} {layout}: {line}" for line in text]
            if dtype in INTEGERS[1:]:
                found += [f"dot {rows}x{n} {layout}: {text}" for text in mismatches("dot", (x, x, [1], False))]
    assert found == []


@pytest.mark.parametrize("to", [torch.int64, torch.int32, torch.int8, torch.uint8, *FLOATS], ids=str)
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_dtype_converts_the_input_first_and_then_the_bits_are_as_written(dtype, to):
    found = []
    for rows, n, layout in ((3, 70, "transposed"), (2, 1100, "steps inside"), (9, 40, "contiguous")):
        x = Problem(dtype, rows, n, "wide", layout).x
        if dtype.is_floating_point and not to.is_floating_point:
            x = x.clamp(0, 100)  # beyond the integers, a conversion has no meaning
        calls = [("sum", (x, [1], False, to)), ("exact_sum", (x, [1], False, to)), ("cumsum", (x, 1, False, to))]
        if to.is_floating_point:
            calls += [("mean", (x, [1], True, to)), ("softmax", (x, 1, False, to)), ("softmax", (x, 1, True, to))]
        if dtype.is_floating_point and torch.promote_types(dtype, to) == to:
            calls += [("vector_norm", (x, 2.0, [1], False, to)), ("vector_norm", (x, math.inf, None, False, to))]
        for op, args in calls:
            found += [f"{op} {rows}x{n} {layout}: {text}" for text in mismatches(op, args)]
    assert found == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_single_numbers_and_vectors_give_the_written_bits(dtype):
    found = []
    for x in (tensor(dtype, (), "normal"), tensor(dtype, (1,), "normal"), tensor(dtype, (37,), "wide", steps=(3,))):
        for name, call in REDUCTIONS.items():
            if not (x.dim() == 0 and name == "dot"):
                found += [f"{name}: {text}" for text in mismatches(*call(x, None, False))]
        calls = [("softmax", (x, 0, False, None)), ("softmax", (x, -1, True, None)), ("cumsum", (x, 0, False, None))]
        for op, args in calls:
            found += [f"{op}: {text}" for text in mismatches(op, args)]
        found += [f"{op}: {text}" for op in ("exp", "log") for text in mismatches(op, (x,))]
    assert found == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_row_of_more_than_a_million_has_three_levels_and_the_written_bits(dtype):
    x = tensor(dtype, ((1 << 20) + 1500,), "cancelling")
    for op, args in (("sum", (x, None, False, None)), ("cumsum", (x, 0, False, None))):
        assert mismatches(op, args, g_kind=None) == []
    if dtype is torch.float32:
        assert mismatches("dot", (x, x.flip(0), None, False), g_kind=None) == []
        assert mismatches("sum", (torch.stack([x, x.flip(0)], 1), [0], False, None), g_kind=None) == []


PROBLEMS = st.builds(
    Problem,
    dtype=st.sampled_from(FLOATS),
    rows=st.integers(1, 40),
    n=st.one_of(st.integers(1, 130), st.integers(1000, 1100), st.integers(2040, 2060)),
    kind=st.sampled_from((*KINDS, "mixed")),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 1 << 20),
)


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(form=st.sampled_from(sorted(FORMS)), problem=PROBLEMS)
def test_any_call_gives_the_written_bits(form, problem):
    if problem.n > 130 and problem.rows > 5:
        problem = Problem(problem.dtype, 5, problem.n, problem.kind, problem.layout, problem.seed)
    assert mismatches(*FORMS[form](problem)) == []


@st.composite
def reductions(draw):
    """Any shape, in any order in memory, and any of its dimensions in any order."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    order = draw(st.permutations(range(len(shape))))
    steps = draw(st.lists(st.integers(1, 3), min_size=len(shape), max_size=len(shape)))
    expanded = draw(st.sets(st.integers(0, len(shape) - 1), max_size=2))
    dtype, kind = draw(st.sampled_from(FLOATS)), draw(st.sampled_from(("normal", "wide", "mixed")))
    x = tensor(dtype, shape, kind, draw(st.integers(0, 99)), order=order, steps=steps, expanded=tuple(expanded))
    dims = draw(st.permutations(range(len(shape))))[: draw(st.integers(0, len(shape)))]
    dims = [d - len(shape) if draw(st.booleans()) else d for d in dims]
    return x, dims, draw(st.booleans())


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(name=st.sampled_from(sorted(REDUCTIONS)), call=reductions())
def test_any_reduction_of_any_dimensions_gives_the_written_bits(name, call):
    assert mismatches(*REDUCTIONS[name](*call)) == []


def test_a_count_beyond_what_float32_counts_is_rounded_once():
    n = (1 << 26) + 5  # the smallest power of two from which a DSUM-1 of ones rounds twice
    x, exact = torch.ones(1).expand(n), torch.tensor(n).float()
    assert torch.equal(OPS.mean(x, None, False, None), OPS.sum(x, None, False, None) / exact)
