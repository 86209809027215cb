"""The CPU kernels against detprobe.reference, bit for bit: every op, every gradient, every way to call them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import written
from reduction_forms import ELEMENTWISE, FORMS, NEEDS_ELEMENTS, OPS, difference, incoming, mismatches
from reduction_inputs import FLOATS, KINDS, LAYOUTS, Problem

import detprobe.nn
import detprobe.ops
from detprobe import reference

# Lengths around a lane, a stripe of lanes, a block and a level of blocks, with few and with many rows.
LENGTHS = [(1, 1), (9, 1), (7, 2), (2, 31), (8, 32), (33, 33), (1, 63), (9, 64), (8, 65)]
LENGTHS += [(2, 1000), (1, 1023), (1, 1024), (2, 1025), (1, 2047), (1, 3000)]
LONG = dict(zip(FLOATS, [(2, 5000), (1, 33000), (1, 33000), (2, 17000)], strict=True))


def bad(form, problems, g_kind="normal"):
    """What does not agree, as lines that say how to see it again."""
    return [
        f"{form} of {problem}: {text}" for problem in problems for text in mismatches(*FORMS[form](problem), g_kind)
    ]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_every_length_of_a_row_gives_the_written_bits(form, dtype):
    kinds = ("normal", "cancelling", "mixed")
    layouts = ("contiguous", "transposed", "every second")
    # Both 16-bit types are loaded alike and computed in one type: each takes half of the lengths.
    half = {torch.float16: slice(0, None, 2), torch.bfloat16: slice(1, None, 2)}.get(dtype, slice(None))
    sizes = list(enumerate(LENGTHS))[half]
    problems = [
        Problem(dtype, r, n, kinds[i % 3 if n < 1000 else i % 2], layouts[(i // 2) % 3], seed=i) for i, (r, n) in sizes
    ]
    assert bad(form, problems) == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", [form for form in FORMS if form not in NEEDS_ELEMENTS and "entropy" not in form])
def test_rows_without_elements_give_the_written_bits(form, dtype):
    for _ in range(3):  # what is left unwritten may be right by chance
        assert bad(form, [Problem(dtype, rows, 0) for rows in (1, 3, 40)]) == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_no_rows_give_the_written_bits(form, dtype):
    assert bad(form, [Problem(dtype, 0, n) for n in (1, 5)]) == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ELEMENTWISE])
def test_long_rows_give_the_written_bits(form, dtype):
    layout = "transposed" if dtype in (torch.float16, torch.float64) else "contiguous"
    problems = [Problem(dtype, *LONG[dtype], "wide", layout)]
    if dtype is torch.float32:
        problems.append(Problem(dtype, 2, 5000, "wide", "every second"))
    assert bad(form, problems) == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_number_gives_the_written_bits(form, dtype):
    problems = [Problem(dtype, 24, 40, "mixed"), Problem(dtype, 33, 3, "mixed", "transposed", 5)]
    if form.startswith(("layer_norm", "rms_norm", "cross_entropy")):  # sums over rows: one NaN hides the other kinds
        problems += [Problem(dtype, 34, 5, kind, seed=seed) for seed, kind in enumerate(KINDS)]
    assert bad(form, problems) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_layout_gives_the_written_bits(form, layout):
    sizes = ((17, 70), (70, 17), (3, 1100), (9, 33))
    problems = [Problem(dtype, *size, "wide", layout) for dtype, size in zip(FLOATS, sizes, strict=True)]
    assert bad(form, problems) == []


NORMS = [form for form in FORMS if "norm" in form and "vector" not in form]
WEIGHTED = NORMS + [form for form in FORMS if "cross_entropy" in form and ("weigh" in form or "none" in form)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", WEIGHTED)
def test_every_kind_of_weight_gives_the_written_bits(form, dtype):
    problems = [Problem(dtype, 12, 37, "normal", seed=seed, weights=kind) for seed, kind in enumerate(KINDS)]
    assert bad(form, problems) == []


# A gradient that comes in as NaN goes through a sum unchanged: nothing is computed, so nothing is said of its bits.
THROUGH = ("sum", "exact_sum")


G_KINDS = ("expanded", "mixed", *KINDS[3:])


@pytest.mark.parametrize("g_kind", G_KINDS)
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ELEMENTWISE])
def test_every_kind_of_incoming_gradient_gives_the_written_bits(form, g_kind):
    first = G_KINDS.index(g_kind)
    if form in THROUGH and g_kind in ("mixed", "nan", "bits"):
        g_kind = "wide"
    problems = [Problem(FLOATS[at % 4], 12, 37, "normal") for at in (first, first + 2)]
    assert bad(form, problems, g_kind) == []


WANTED = [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", NORMS)
def test_a_gradient_has_the_same_bits_whichever_others_are_wanted(form, dtype):
    for problem in (Problem(dtype, 12, 37, "wide"), Problem(dtype, 40, 1100, "normal", "transposed")):
        op, args = FORMS[form](problem)
        results = getattr(OPS, op)(*args)
        g = incoming(args, results[0], "normal")
        if op == "layer_norm":
            x, dims, weight, _, _, centered = args
            call, given = OPS.layer_norm_backward, (g, x, *results[1:], weight, dims, centered)
        else:
            training = op == "batch_norm_training"
            mean = results[1] if training else args[1].to(results[-1].dtype)
            given = (g, args[0], mean, results[-1], args[1 if training else 3], training)
            call = OPS.batch_norm_backward
        everything = call(*given, [True] * 3)
        for wanted in WANTED:
            for one, full, want in zip(call(*given, list(wanted)), everything, wanted, strict=True):
                assert difference(one, full) is None if want else one.numel() == 0, f"{problem}, {wanted}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_cross_entropy_has_the_same_gradients_whichever_are_wanted(dtype):
    x, q = Problem(dtype, 9, 37).x, Problem(dtype, 9, 37).shares
    results = OPS.cross_entropy(x, q, None, 1, -100, 0.1)
    given = (results[0], x, q, None, *results[1:], 1, -100, 0.1)
    of_x, of_q = OPS.cross_entropy_backward(*given, [True, True])
    assert difference(OPS.cross_entropy_backward(*given, [True, False])[0], of_x) is None
    assert difference(OPS.cross_entropy_backward(*given, [False, True])[1], of_q) is None


@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0, 1 / 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_running_statistics_are_the_written_ones(dtype, momentum):
    for problem in (Problem(dtype, 7, 40, "wide"), Problem(dtype, 33, 1500, "normal", "transposed")):
        x, kept = problem.x.t(), problem.wider
        for stored in {dtype, kept}:
            mean, var = problem.along(problem.rows, 1, stored), problem.along(problem.rows, 2, stored).abs()
            z = written.read(problem.x)
            found = reference.batch_norm_training(z)
            old = [written.read(one).astype(z.dtype) for one in (mean, var)]
            new = ((found.mean, 1.0), (found.squares, problem.n - 1.0))
            expected = [
                written.write(reference.running_average(a, b, divisor, momentum), stored, mean.shape)
                for a, (b, divisor) in zip(old, new, strict=True)
            ]
            detprobe.ops.batch_norm(x, mean, var, training=True, momentum=momentum)
            assert [difference(a, b) for a, b in zip((mean, var), expected, strict=True)] == [None, None]


def test_a_cumulative_average_counts_the_batches_seen():
    norm = detprobe.nn.BatchNorm1d(7, momentum=None)
    mean, var = np.zeros(7, np.float32), np.ones(7, np.float32)
    for batch in range(1, 8):
        problem = Problem(torch.float32, 7, 12, "wide", seed=batch)
        norm(problem.x.t())
        found = reference.batch_norm_training(written.read(problem.x))
        f = float(np.float32(1) / np.float32(batch))
        mean = reference.running_average(mean, found.mean, 1.0, f)
        var = reference.running_average(var, found.squares, 11.0, f)
        assert norm.running_mean.numpy().tobytes() == mean.tobytes()
        assert norm.running_var.numpy().tobytes() == var.tobytes()
