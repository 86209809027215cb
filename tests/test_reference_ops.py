"""The ops and gradients of detprobe.reference against other formulas: torch's, in f64 and with its autograd.

Two formulas round in other places, hence a tolerance here, far below what another meaning of an op would give. What has
to be exact is asked for on bits: corners, and lines that are retold operation by operation.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scalar_numbers import same_bits, words

from detprobe import reference

INF, NAN = math.inf, math.nan
SHAPES = pytest.mark.parametrize(("rows", "n"), [(3, 5), (2, 1100), (40, 3), (1, 2)])


def drawn(rows, n, seed=0):
    return np.random.default_rng([seed, rows, n]).standard_normal((rows, n)) + 0.25


def close(got, expected, rtol=1e-11):
    expected = expected.detach().numpy()
    assert got.dtype == np.float64
    assert got.shape == expected.shape
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * max(scale, 1e-300))


def torch_gradients(function, *inputs):
    """Result, a random incoming gradient, and torch's gradients of all inputs."""
    leaves = [torch.tensor(v, requires_grad=True) for v in inputs]
    y = function(*leaves)
    g = np.random.default_rng(99).standard_normal(tuple(y.shape))
    return y, g, torch.autograd.grad(y, leaves, torch.tensor(g))


REDUCTIONS = {
    "sum": (lambda x: x.sum(1), reference.sum_rows, lambda g, z, y: reference.sum_backward(g, z)),
    "mean": (lambda x: x.mean(1), reference.mean, lambda g, z, y: reference.mean_backward(g, z)),
    "var": (lambda x: x.var(1), reference.var, lambda g, z, y: reference.var_backward(g, z)),
    "var 0.5": (
        lambda x: x.var(1, correction=0.5),
        lambda z: reference.var(z, 0.5),
        lambda g, z, y: reference.var_backward(g, z, 0.5),
    ),
    "std": (lambda x: x.std(1), reference.std, reference.std_backward),
    "logsumexp": (lambda x: x.logsumexp(1), reference.logsumexp, reference.logsumexp_backward),
    **{
        f"norm {p}": (
            lambda x, p=p: torch.linalg.vector_norm(x, p, 1),
            lambda z, p=p: reference.vector_norm(z, p),
            lambda g, z, y, p=p: reference.vector_norm_backward(g, z, y, p),
        )
        for p in (1, 2, INF, -INF)
    },
}
MAPS = {
    "softmax": (lambda x: x.softmax(1), reference.softmax, reference.softmax_backward),
    "log_softmax": (lambda x: x.log_softmax(1), reference.log_softmax, reference.log_softmax_backward),
    "cumsum": (lambda x: x.cumsum(1), reference.cumsum_rows, lambda g, y: reference.cumsum_backward(g)),
    "reversed cumsum": (
        lambda x: x.flip(1).cumsum(1).flip(1),
        lambda z: reference.cumsum_rows(z, reverse=True),
        lambda g, y: reference.cumsum_backward(g, reverse=True),
    ),
}


@SHAPES
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_and_their_gradients_are_those_of_torch(name, rows, n):
    stock, forward, backward = REDUCTIONS[name]
    z = drawn(rows, n)
    y, g, (of_x,) = torch_gradients(stock, z)
    close(forward(z), y)
    close(backward(g, z, forward(z)), of_x, rtol=1e-9)


@SHAPES
@pytest.mark.parametrize("name", MAPS)
def test_maps_of_rows_and_their_gradients_are_those_of_torch(name, rows, n):
    stock, forward, backward = MAPS[name]
    z = drawn(rows, n)
    y, g, (of_x,) = torch_gradients(stock, z)
    close(forward(z), y)
    close(backward(g, forward(z)), of_x, rtol=1e-9)


@SHAPES
def test_dot_and_its_gradient_are_those_of_torch(rows, n):
    a, b = drawn(rows, n), drawn(rows, n, 1)
    y, g, (of_a, of_b) = torch_gradients(lambda a, b: (a * b).sum(1), a, b)
    close(reference.dot(a, b), y)
    got = reference.dot_backward(g, a, b)
    close(got[0], of_a)
    close(got[1], of_b)


@SHAPES
@pytest.mark.parametrize("affine", [True, False])
def test_norms_of_layers_and_their_gradients_are_those_of_torch(rows, n, affine):
    z, w, b = drawn(rows, n), drawn(1, n, 1)[0], drawn(1, n, 2)[0]
    weight = w if affine else None
    pair = slice(None) if affine else slice(0)  # torch's gradients of what is left out are 0, and not compared

    def stock(x, w, b):
        return F.layer_norm(x, (n,), *[w, b][pair]) + 0 * (w + b)

    y, g, expected = torch_gradients(stock, z, w, b)
    got = reference.layer_norm(z, weight, b if affine else None)
    close(got.y, y)
    of = reference.layer_norm_backward(g, z, got.mean, got.rstd, weight)
    for one, other in list(zip(of, expected, strict=True))[: 3 if affine else 1]:
        close(one, other, rtol=1e-8)

    y, g, expected = torch_gradients(lambda x, w: F.rms_norm(x, (n,), w if affine else None) + 0 * w, z, w)
    got = reference.rms_norm(z, weight)
    close(got.y, y)
    of = reference.rms_norm_backward(g, z, got.rstd, weight)
    for one, other in list(zip(of, expected, strict=True))[: 2 if affine else 1]:
        close(one, other, rtol=1e-8)


@SHAPES
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_norms_of_batches_and_their_gradients_are_those_of_torch(rows, n, affine, training):
    z, w, b = drawn(rows, n), drawn(1, rows, 1)[0], drawn(1, rows, 2)[0]
    mean, var = drawn(1, rows, 3)[0], drawn(1, rows, 4)[0] ** 2
    running = [torch.tensor(mean), torch.tensor(var)]
    weight, bias = (w, b) if affine else (None, None)

    def stock(x, w, b):
        pair = [w, b] if affine else [None, None]
        return F.batch_norm(x.T, *running, *pair, training=training, momentum=0.3).T + 0 * (w + b)[:, None]

    y, g, expected = torch_gradients(stock, z, w, b)
    if training:
        got = reference.batch_norm_training(z, weight, bias)
        close(got.y, y)
        of = reference.batch_norm_training_backward(g, z, got.mean, got.rstd, weight)
        close(reference.running_average(mean, got.mean, 1, 0.3), running[0])
        close(reference.running_average(var, got.squares, n - 1, 0.3), running[1])
    else:
        result, rstd = reference.batch_norm_inference(z, mean, var, weight, bias)
        close(result, y)
        of = reference.batch_norm_inference_backward(g, z, mean, rstd, weight)
    for one, other in list(zip(of, expected, strict=True))[: 3 if affine else 1]:
        close(one, other, rtol=1e-8)


def test_layer_norm_is_its_line_operation_by_operation():
    z, w, b = (v.astype(np.float32) for v in (drawn(4, 70), drawn(1, 70, 1)[0], drawn(1, 70, 2)[0]))
    eps = np.array([1e-5], np.float32)
    d = z - (reference.sum_rows(z) / np.float32(70))[:, None]
    r = np.float32(1) / np.sqrt(reference.sum_products(d, d) / np.float32(70) + eps)
    assert same_bits(reference.layer_norm(z, w, b, 1e-5).y, (d * r[:, None]) * w + b)


def test_a_count_is_rounded_once_to_acc():
    n = 2**24 + 1
    z = np.broadcast_to(np.float32(0), (1, n))
    got = reference.mean_backward(np.array([2.0**24], np.float32), z[:, :1].repeat(3, 1))
    assert got.tolist() == [[np.float32(2.0**24) / np.float32(3)] * 3]
    assert reference.formats.in_acc(n, z).tolist() == [2.0**24]


def test_empty_rows():
    z = np.zeros((2, 0), np.float32)
    zero, nan = np.zeros(2, np.float32), np.full(2, NAN, np.float32)
    assert same_bits(reference.mean(z), nan)
    assert same_bits(reference.var(z), nan)
    assert same_bits(reference.logsumexp(z), np.full(2, -INF, np.float32))
    for p in (0, 1, 2):
        assert same_bits(reference.vector_norm(z, p), zero)
    for function in (reference.softmax, reference.log_softmax):
        assert function(z).shape == (2, 0)
    with pytest.raises(ValueError, match="an empty row has no maximum"):
        reference.vector_norm(z, INF)
    with pytest.raises(ValueError, match="expected an order of 0, 1, 2, inf or -inf, got 3"):
        reference.vector_norm(z, 3)


def test_rows_with_infinities_and_nan():
    z = np.array([[-INF, -INF], [INF, 1], [NAN, 1], [-INF, 1], [1e30, -1e30]], np.float32)
    f32 = {"dtype": np.float32}
    assert same_bits(reference.logsumexp(z), np.array([-INF, INF, NAN, 1, 1e30], **f32))
    assert same_bits(reference.softmax(z)[:4], np.array([[NAN, NAN], [NAN, NAN], [NAN, NAN], [0, 1]], **f32))
    assert same_bits(reference.log_softmax(z)[3:], np.array([[-INF, 0], [0, -2e30]], **f32))
    assert same_bits(reference.vector_norm(z, INF), np.array([INF, INF, NAN, INF, 1e30], **f32))
    assert same_bits(reference.vector_norm(z, -INF), np.array([INF, 1, NAN, 1, 1e30], **f32))
    assert same_bits(reference.vector_norm(z, 0), np.full(5, 2, **f32))
    assert same_bits(reference.vector_norm(z, 2), np.array([INF, INF, NAN, INF, INF], **f32))
    assert same_bits(reference.var(z), np.array([NAN, NAN, NAN, NAN, INF], **f32))


def test_one_element_has_no_variance():
    z = np.array([[3.0]], np.float32)
    assert same_bits(reference.var(z), np.array([NAN], np.float32))
    assert same_bits(reference.var(z, 0), np.zeros(1, np.float32))
    assert same_bits(reference.var(z, 5), np.array([NAN], np.float32))


def test_subnormals_are_kept():
    tiny = words(1, 2, 0x80000005)[None, :]
    assert same_bits(reference.vector_norm(tiny, 1), words(8))
    assert same_bits(reference.vector_norm(tiny, INF), words(5))
    assert same_bits(reference.vector_norm(tiny, 0), np.array([3], np.float32))
    assert same_bits(reference.mean(tiny), words(0x80000001)), "-2 thirds of a step"
    assert same_bits(reference.mean_backward(words(3), tiny), words(1, 1, 1)[None, :])


def test_gradients_at_their_corners():
    f32 = {"dtype": np.float32}
    z = np.array([[0.0, -0.0, 3, -3, NAN], [2, -2, 1, 0, 2]], **f32)
    g = np.array([-6, 6], **f32)

    def norm(p):
        return reference.vector_norm_backward(g, z, reference.vector_norm(z, p), p)

    assert same_bits(norm(1), np.array([[-0.0, -0.0, -6, 6, NAN], [6, -6, 6, 0, 6]], **f32))
    assert same_bits(norm(0), np.zeros((2, 5), **f32))
    assert same_bits(norm(INF), np.array([[0, 0, 0, 0, NAN], [2, -2, 0, 0, 2]], **f32))
    assert same_bits(norm(-INF), np.array([[0, 0, 0, 0, NAN], [0, 0, 0, 0, 0]], **f32))
    flat = np.array([[-0.0, 0.0], [4, 4]], **f32)
    assert same_bits(reference.vector_norm_backward(g, flat, np.zeros(2, **f32), 2)[0], np.zeros(2, **f32)), (
        "the norm of zeros has the gradient +0.0"
    )
    # +0.0 stands for g, so that the deviation -0.0 keeps its sign.
    of_std = reference.std_backward(g, flat, reference.std(flat))
    assert same_bits(of_std, np.array([[-0.0, 0.0], [0.0, 0.0]], **f32))


def test_a_result_is_stored_and_read_back_before_it_enters_a_gradient():
    z = reference.widen(reference.narrow(drawn(3, 50).astype(np.float32), "bfloat16"), "bfloat16")
    g = np.ones(3, np.float32)
    y = reference.logsumexp(z)
    stored = reference.widen(reference.narrow(y, "bfloat16"), "bfloat16")
    assert (y != stored).any()
    assert not same_bits(reference.logsumexp_backward(g, z, stored), reference.logsumexp_backward(g, z, y))
