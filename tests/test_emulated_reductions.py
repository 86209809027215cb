"""The CUDA kernels of the reductions, on emulated threads, are detprobe.reference bit for bit under every schedule.

`torch.ops.detprobe._emulate` puts the emulator's table in the place of the CPU's kernels, so that an op goes the whole
way from tensors to jobs to kernels. `fused=False` forbids the kernel that does all of an op for short rows.
"""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from bit_patterns import FORMATS, corners, place, words_of

from detprobe import _C, _emulator, reference

assert _C  # importing it registers the ops
ops = torch.ops.detprobe
SEEDS = (0, 1, 2, 17)
NAMES = {torch.float32: "float32", torch.float64: "float64", torch.float16: "float16", torch.bfloat16: "bfloat16"}
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

# shape, reduced dimensions, and how it lies in memory
LAYOUTS = {
    "inner": ((5, 37), (1,), {}),
    "one element": ((3, 1), (1,), {}),
    "no element": ((3, 0), (1,), {}),
    "no row": ((0, 3), (1,), {}),
    "two blocks and a half": ((2, 2500), (1,), {}),
    "outer": ((130, 70), (0,), {}),
    "outer, blocks": ((1030, 5), (0,), {}),
    "outer, few": ((3, 9, 4), (1,), {}),
    "strided": ((4, 300), (1,), {"order": (1, 0), "steps": (2, 3), "offset": 3}),
}
WIDE = {
    "two runs": ((7, 3, 45), (0, 2), {}),
    "everything": ((3, 5, 11), (0, 1, 2), {"order": (2, 0, 1), "steps": (1, 2, 1)}),
    "expanded": ((9, 6, 5), (0, 1), {"expanded": (0,)}),
    "outer, two runs": ((20, 6, 4, 5), (0, 2), {"order": (2, 0, 1, 3)}),
}


@contextlib.contextmanager
def emulated(seed, fused=True):
    ops._emulate(_emulator.kernels(seed, fused=fused))
    try:
        yield
    finally:
        ops._emulate(0)


def schedules(dtype):
    """Seeds, and whether fused: all of them for float32, elsewhere one."""
    return [(seed, fused) for seed in (SEEDS if dtype is torch.float32 else (17,)) for fused in (True, False)]


def draw(dtype, shape, seed, how=None, spread=1.0, plain=False):
    """Moderate numbers, and on every third diagonal some corners."""
    rng, format = np.random.default_rng(seed), FORMATS[dtype]
    n = math.prod(shape)
    numbers = (rng.standard_normal(n) * np.exp(rng.uniform(-spread, spread, n))).astype(np.float32)
    if dtype in NAMES:
        acc = numbers.astype(reference.acc_dtype(NAMES[dtype]))
        words = reference.narrow(acc, NAMES[dtype]).view(f"u{format.bytes}")
    else:
        words = rng.integers(0, 2 ** (8 * format.bytes) - 1, n, np.uint64, endpoint=True).astype(f"u{format.bytes}")
        words = words % 2 if dtype is torch.bool else words
    if not plain and dtype in NAMES:
        rare = rng.choice(np.array(corners(dtype), dtype=words.dtype), n)
        at = np.indices(shape).sum(axis=0).ravel() if n else np.zeros(0, int)
        words = np.where((at % 3 == 2) & (rng.random(n) < 0.02), rare, words)
    return place(words, dtype, shape, **(how or {}))


def rows_first(x, dims):
    kept = [d for d in range(x.dim()) if d not in dims]
    return x.permute(*kept, *dims), math.prod(x.shape[d] for d in kept)


def words_in_rows(x, dims):
    ordered, rows = rows_first(x, dims)
    return words_of(ordered).reshape(rows, math.prod(x.shape[d] for d in dims))


def stored(words, dtype):
    name = str(dtype).removeprefix("torch.")
    return words if dtype in (torch.float16, torch.bfloat16) else words.view(name)


def acc_rows(x, dims):
    return reference.widen(stored(words_in_rows(x, dims), x.dtype), str(x.dtype).removeprefix("torch."))


def same(result, dims, expected, what):
    """A result with its reduced dimensions in `dims` (none: a number for each row), against acc of the reference."""
    name = str(result.dtype).removeprefix("torch.")
    words = words_in_rows(result, dims) if dims else words_of(result)
    wanted = reference.narrow(expected, name).view(words.dtype).reshape(words.shape)
    wrong = np.flatnonzero(words != wanted)
    assert wrong.size == 0, f"{what}: {wrong.size} of {words.size} differ, first at {wrong[0]}"


def column(values, dtype):
    """acc for each row, stored and read back."""
    return reference.widen(reference.narrow(values, NAMES[dtype]), NAMES[dtype])


def like_rows(values, x, dims):
    """acc for each row as a tensor that has the reduced dimensions with size 1."""
    shape = [1 if d in dims else s for d, s in enumerate(x.shape)]
    return place(reference.narrow(values, NAMES[x.dtype]).view(f"u{FORMATS[x.dtype].bytes}"), x.dtype, shape)


# (op on tensors, reference on rows): x, y of its shape, g for each row, dims
REDUCTIONS = {
    "sum": (lambda x, y, d: ops.sum(x, d, False, None), lambda x, y: reference.sum_rows(x)),
    "mean": (lambda x, y, d: ops.mean(x, d, False, None), lambda x, y: reference.mean(x)),
    "dot": (lambda x, y, d: ops.dot(x, y, d, False), reference.dot),
    "var": (lambda x, y, d: ops.var(x, d, False, 1.0), lambda x, y: reference.var(x)),
    "std": (lambda x, y, d: ops.std(x, d, False, 0.5), lambda x, y: reference.std(x, 0.5)),
    "norm 0": (lambda x, y, d: ops.vector_norm(x, 0.0, d, False, None), lambda x, y: reference.vector_norm(x, 0)),
    "norm 1": (lambda x, y, d: ops.vector_norm(x, 1.0, d, False, None), lambda x, y: reference.vector_norm(x, 1)),
    "norm 2": (lambda x, y, d: ops.vector_norm(x, 2.0, d, False, None), lambda x, y: reference.vector_norm(x, 2)),
    "norm inf": (
        lambda x, y, d: ops.vector_norm(x, math.inf, d, False, None),
        lambda x, y: reference.vector_norm(x, math.inf),
    ),
    "norm -inf": (
        lambda x, y, d: ops.vector_norm(x, -math.inf, d, False, None),
        lambda x, y: reference.vector_norm(x, -math.inf),
    ),
    "logsumexp": (lambda x, y, d: ops.logsumexp(x, d, False), lambda x, y: reference.logsumexp(x)),
}


@pytest.mark.parametrize("layout", [*LAYOUTS, *WIDE])
@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_every_reduction_is_the_definition_under_every_schedule(dtype, layout):
    shape, dims, how = (LAYOUTS | WIDE)[layout]
    x, y = draw(dtype, shape, 1, how), draw(dtype, shape, 2)
    for name, (op, definition) in REDUCTIONS.items():
        if name.endswith("inf") and math.prod(shape) == 0:
            continue
        expected = definition(acc_rows(x, dims), acc_rows(y, dims))
        for seed, fused in schedules(dtype):
            with emulated(seed, fused):
                result = op(x, y, list(dims))
            same(result, (), expected, f"{name}, seed {seed}, fused {fused}")


@pytest.mark.parametrize("layout", [*LAYOUTS, *WIDE])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_wrap_as_the_definition_does(dtype, layout):
    shape, dims, how = (LAYOUTS | WIDE)[layout]
    x, y = draw(dtype, shape, 3, how), draw(dtype, shape, 4)
    a, b = acc_rows(x, dims), acc_rows(y, dims)
    for seed, fused in itertools.product((1, 17), (True, False)):
        with emulated(seed, fused):
            total = ops.sum(x, list(dims), False, None)
            product = ops.dot(x, y, list(dims), False) if dtype is not torch.bool else None
        same(total, (), reference.sum_rows(a), "sum")
        if product is not None:
            same(product, (), reference.dot(a, b), "dot")


MAPS = {
    "softmax": (lambda x, y, d: ops.softmax(x, d, False, None), lambda x, y: reference.softmax(x)),
    "log_softmax": (lambda x, y, d: ops.softmax(x, d, True, None), lambda x, y: reference.log_softmax(x)),
    "softmax backward": (
        lambda x, y, d: ops.softmax_backward(y, x, d, False),
        lambda x, y: reference.softmax_backward(y, x),
    ),
    "log_softmax backward": (
        lambda x, y, d: ops.softmax_backward(y, x, d, True),
        lambda x, y: reference.log_softmax_backward(y, x),
    ),
    "cumsum": (lambda x, y, d: ops.cumsum(x, d, False, None), lambda x, y: reference.cumsum_rows(x)),
    "cumsum, reverse": (lambda x, y, d: ops.cumsum(x, d, True, None), lambda x, y: reference.cumsum_rows(x, True)),
    "exp": (lambda x, y, d: ops.exp(x), lambda x, y: reference.exp(x)),
    "log": (lambda x, y, d: ops.log(x), lambda x, y: reference.log(x)),
    "multiply": (lambda x, y, d: ops.multiply(x, y), lambda x, y: x * y),
    "divide": (lambda x, y, d: ops.divide(x, 3.0), lambda x, y: x / x.dtype.type(3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_every_map_along_a_dimension_is_the_definition_under_every_schedule(dtype, layout):
    shape, dims, how = LAYOUTS[layout]
    x, y = draw(dtype, shape, 5, how), draw(dtype, shape, 6)
    for name, (op, definition) in MAPS.items():
        with np.errstate(all="ignore"):
            rows = acc_rows(x, dims)
            expected = definition(rows, acc_rows(y, dims)) if rows.size else rows
        for seed, fused in schedules(dtype):
            with emulated(seed, fused):
                result = op(x, y, dims[0])
            same(result, dims, expected, f"{name}, seed {seed}, fused {fused}")


@pytest.mark.parametrize("layout", ["inner", "outer, blocks", "strided", "two blocks and a half", *WIDE])
@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_the_gradients_of_the_reductions_are_the_definition_under_every_schedule(dtype, layout):
    shape, dims, how = (LAYOUTS | WIDE)[layout]
    x = draw(dtype, shape, 7, how)
    z, d = acc_rows(x, dims), list(dims)
    over = column(reference.mean(z), dtype)
    g = like_rows(over, x, dims)
    y = {ord: column(reference.vector_norm(z, ord), dtype) for ord in (1, 2, math.inf, -math.inf)}
    std, lse = column(reference.std(z), dtype), column(reference.logsumexp(z), dtype)
    cases = [
        ("var", lambda: ops.var_backward(g, x, d, 1.0), reference.var_backward(over, z)),
        ("std", lambda: ops.std_backward(g, x, like_rows(std, x, dims), d, 1.0), reference.std_backward(over, z, std)),
        (
            "logsumexp",
            lambda: ops.logsumexp_backward(g, x, like_rows(lse, x, dims), d),
            reference.logsumexp_backward(over, z, lse),
        ),
    ]
    for ord, norm in y.items():
        cases.append(
            (
                f"norm {ord}",
                lambda ord=ord, norm=norm: ops.vector_norm_backward(g, x, like_rows(norm, x, dims), float(ord), d),
                reference.vector_norm_backward(over, z, norm, ord),
            )
        )
    for name, op, expected in cases:
        for seed, fused in schedules(dtype):
            with emulated(seed, fused):
                result = op()
            same(result, dims, expected, f"{name}, seed {seed}, fused {fused}")


@pytest.mark.parametrize("shape", [(5, 40), (2, 1030), (2, 3, 20)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_layer_norm_and_rms_norm_are_the_definition_under_every_schedule(dtype, affine, shape):
    dims = tuple(range(1, len(shape)))
    x, g = draw(dtype, shape, 8), draw(dtype, shape, 9)
    w, b = (draw(dtype, shape[1:], s, plain=True) if affine else None for s in (10, 11))
    z, gz = acc_rows(x, dims), acc_rows(g, dims)
    wz, bz = (None if t is None else acc_rows(t[None], dims)[0] for t in (w, b))
    layer, rms = reference.layer_norm(z, wz, bz, 1e-5), reference.rms_norm(z, wz, 1e-6)
    for seed, fused in schedules(dtype):
        with emulated(seed, fused):
            y, mean, rstd = ops.layer_norm(x, len(dims), w, b, 1e-5, True)
            back = ops.layer_norm_backward(g, x, mean, rstd, w, len(dims), True, [True] * 3)
            r, _, r_rstd = ops.layer_norm(x, len(dims), w, None, 1e-6, False)
            r_back = ops.layer_norm_backward(g, x, mean[:0], r_rstd, w, len(dims), False, [True, True, False])
        for got, at, expected in (
            *((y, dims, layer.y), (mean, (), layer.mean), (rstd, (), layer.rstd)),
            *zip(back, (dims, (), ()), reference.layer_norm_backward(gz, z, layer.mean, layer.rstd, wz), strict=True),
            *((r, dims, rms.y), (r_rstd, (), rms.rstd)),
            *zip(r_back[:2], (dims, ()), reference.rms_norm_backward(gz, z, rms.rstd, wz), strict=True),
        ):
            same(got, at, expected, f"seed {seed}, fused {fused}")


@pytest.mark.parametrize("shape", [(6, 3, 15), (40, 36), (2, 5, 600)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_batch_norm_is_the_definition_under_every_schedule(dtype, affine, shape):
    dims = tuple(d for d in range(len(shape)) if d != 1)
    x, g = draw(dtype, shape, 12), draw(dtype, shape, 13)
    w, b = (draw(dtype, shape[1:2], s, plain=True) if affine else None for s in (14, 15))
    z, gz = acc_rows(x, dims), acc_rows(g, dims)
    wz, bz = (None if t is None else acc_rows(t[None], (1,))[0] for t in (w, b))
    norm = reference.batch_norm_training(z, wz, bz, 1e-5)
    for seed, fused in schedules(dtype):
        with emulated(seed, fused):
            y, mean, squares, rstd = ops.batch_norm_training(x, w, b, 1e-5)
            back = ops.batch_norm_backward(g, x, mean, rstd, w, True, [True] * 3)
            still = ops.batch_norm_backward(g, x, mean, rstd, w, False, [True] * 3)
            running = ops.running_average(mean, squares, 7.0, 0.1)
        for got, at, expected in (
            *((y, dims, norm.y), (mean, (), norm.mean), (squares, (), norm.squares), (rstd, (), norm.rstd)),
            *zip(
                *(back, (dims, (), ())),
                reference.batch_norm_training_backward(gz, z, norm.mean, norm.rstd, wz),
                strict=True,
            ),
            *zip(
                *(still, (dims, (), ())),
                reference.batch_norm_inference_backward(gz, z, norm.mean, norm.rstd, wz),
                strict=True,
            ),
            (running, (), reference.running_average(norm.mean, norm.squares, 7.0, 0.1)),
        ):
            same(got, at, expected, f"seed {seed}, fused {fused}")


@pytest.mark.parametrize("shape", [(7, 10), (3, 5, 6), (2, 1100)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_cross_entropy_is_the_definition_under_every_schedule(dtype, soft, smoothing, shape):
    x, w = draw(dtype, shape, 16), draw(dtype, shape[1:2], 17, plain=True)
    z, wz = acc_rows(x, (1,)), acc_rows(w[None], (1,))[0]
    if soft:
        target = draw(dtype, shape, 18, plain=True)
        tz = acc_rows(target, (1,))
    else:
        tz = np.random.default_rng(19).integers(0, shape[1], len(z))
        tz[0] = -100
        target = torch.from_numpy(tz.reshape(shape[:1] + shape[2:]))
    for number, reduction in enumerate(("none", "mean", "sum")):
        how = {"reduction": reduction, "label_smoothing": smoothing}
        loss = reference.cross_entropy(z, tz, wz, **how)
        gz = column(loss.loss, dtype)
        g = place(words_of_acc(gz, dtype), dtype, target.shape[:1] + shape[2:] if number == 0 else ())
        grads = reference.cross_entropy_backward(gz, z, tz, wz, **how)
        for seed, fused in schedules(dtype)[:2]:
            with emulated(seed, fused):
                got = ops.cross_entropy(x, target, w, number, -100, smoothing)
                back = ops.cross_entropy_backward(g, x, target, w, *got[1:], number, -100, smoothing, [True, soft])
            for result, expected in zip(got, loss, strict=True):
                same(result, (), expected, f"{reduction}, seed {seed}, fused {fused}")
            for result, expected in zip(back, grads, strict=True):
                if expected is not None:
                    same(result, (1,), expected, f"gradient, {reduction}, seed {seed}, fused {fused}")


def words_of_acc(values, dtype):
    return reference.narrow(values, NAMES[dtype]).view(f"u{FORMATS[dtype].bytes}")


@pytest.mark.parametrize("layout", [*LAYOUTS, *WIDE])
@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_exact_sums_are_the_definition_under_every_schedule(dtype, layout):
    shape, dims, how = (LAYOUTS | WIDE)[layout]
    x = draw(dtype, shape, 20, how, spread=20)
    wanted = reference.exact_sum_rows(acc_rows(x, dims), NAMES[dtype])
    for seed in SEEDS:
        with emulated(seed):
            result = ops.exact_sum(x, list(dims), False, None)
        words = words_of(result)
        assert (words == np.asarray(wanted).view(words.dtype).reshape(words.shape)).all()


def test_a_scan_of_more_than_1024_tiles_goes_up_two_levels():
    n = 1024 * 1024 + 1500
    x = draw(torch.float32, (1, n), 21, plain=True)
    expected = reference.cumsum_rows(acc_rows(x, (1,)))
    total = reference.sum_rows(acc_rows(x, (1,)))
    with emulated(2):
        same(ops.cumsum(x, 1, False, None), (1,), expected, "cumsum")
        same(ops.sum(x, [1], False, None), (), total, "sum")


@pytest.mark.parametrize("name", [*REDUCTIONS, "softmax", "log_softmax"])
def test_rows_of_special_numbers_are_the_definition(name):
    inf, nan = math.inf, math.nan
    special = [[1, inf, 2], [inf, inf, 3e38], [-inf, -inf, -inf], [inf, -inf, 0], [1, nan, inf], [-0.0, -0.0, -0.0]]
    special += [[-0.0, 0.0, -0.0], [3e38, 3e38, 3e38], [1e-45, -1e-45, 1e-40], [nan, nan, nan], [-1, nan, -3]]
    op, definition = (REDUCTIONS | MAPS)[name]
    for copies in (1, 500):  # rows of one block, and of two
        values = np.tile(np.array(special, np.float32), (1, copies))
        x = place(values.view(np.uint32), torch.float32, values.shape)
        dims = () if name in REDUCTIONS else (1,)
        for seed, fused in itertools.product((0, 17), (True, False)):
            with emulated(seed, fused):
                result = op(x, x, [1] if name in REDUCTIONS else 1)
            same(result, dims, definition(values, values), f"{name}, seed {seed}, fused {fused}")


def test_cross_entropy_of_special_numbers_is_the_definition():
    values = np.array([[1, math.nan], [-0.0, -0.0], [math.inf, 1], [-math.inf, -math.inf]], np.float32)
    x, target = torch.from_numpy(values), np.array([0, 1, 0, 1])
    wanted = reference.cross_entropy(values, target, reduction="none")
    with emulated(17):
        got = ops.cross_entropy(x, torch.from_numpy(target), None, 0, -100, 0.0)
    for result, expected in zip(got, wanted, strict=True):
        same(result, (), expected, "cross_entropy")
