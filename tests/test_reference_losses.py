"""cross_entropy of detprobe.reference against torch's in f64, and its corners on bits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scalar_numbers import same_bits

from detprobe import reference

NAN = math.nan


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("probabilities", [True, False])
def test_losses_and_gradients_are_those_of_torch(reduction, smoothing, weighted, probabilities):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((40, 7)) * 3, rng.random(7) + 0.1 if weighted else None
    target = rng.random((40, 7)) if probabilities else rng.integers(0, 7, 40)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    if not probabilities:
        options["ignore_index"] = 3
    leaves = torch.tensor(x, requires_grad=True), torch.tensor(target, requires_grad=probabilities)
    expected = F.cross_entropy(*leaves, None if weight is None else torch.tensor(weight), **options)
    got = reference.cross_entropy(x, target, weight, **options)
    np.testing.assert_allclose(got.loss.reshape(expected.shape), expected.detach().numpy(), rtol=1e-12)
    g = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(g))
    of_x, of_target = reference.cross_entropy_backward(g.reshape(-1), x, target, weight, **options)
    np.testing.assert_allclose(of_x, leaves[0].grad.numpy(), rtol=1e-11, atol=1e-14)
    assert (of_target is None) == (not probabilities)
    if probabilities:
        np.testing.assert_allclose(of_target, leaves[1].grad.numpy(), rtol=1e-11, atol=1e-14)


def test_a_mean_over_no_sample_is_nan():
    x = np.zeros((3, 4), np.float32)
    ignored = np.full(3, -100)
    assert same_bits(reference.cross_entropy(x, ignored).loss, np.array([NAN], np.float32))
    assert same_bits(reference.cross_entropy(x, ignored, reduction="sum").loss, np.zeros(1, np.float32))
    assert same_bits(reference.cross_entropy(x, ignored, reduction="none").loss, np.zeros(3, np.float32))
    of_x, _ = reference.cross_entropy_backward(np.ones(1, np.float32), x, ignored)
    assert same_bits(of_x, x), "the gradient is +0.0 where the target is ignored, whatever the total is"
    assert np.isnan(reference.cross_entropy(x[:0], ignored[:0]).loss).all()


def test_an_ignored_sample_contributes_plus_zero_even_if_it_is_nan():
    x = np.array([[NAN, 1], [0, 0]], np.float32)
    got = reference.cross_entropy(x, np.array([9, 0]), ignore_index=9, reduction="none")
    assert same_bits(got.loss, np.array([0, np.log(np.float32(2))], np.float32))
    assert got.total.tolist() == [1]


def test_the_loss_is_its_line_operation_by_operation():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((9, 40)).astype(np.float32), rng.random(40).astype(np.float32)
    t = rng.integers(0, 40, 9)
    lp = reference.log_softmax(x)
    keep, share = np.array([0.7], np.float32), np.array([0.3 / 40], np.float32)
    a, b = w[t] * lp[np.arange(9), t], reference.sum_products(np.broadcast_to(w, x.shape), lp)
    expected = -(keep * a + share * b)
    got = reference.cross_entropy(x, t, w, label_smoothing=0.3, reduction="none")
    assert same_bits(got.loss, expected)
    mean = reference.cross_entropy(x, t, w, label_smoothing=0.3)
    assert same_bits(mean.loss, reference.sum_rows(expected[None]) / reference.sum_rows(w[t][None]))
    q = rng.random((9, 40)).astype(np.float32)
    got = reference.cross_entropy(x, q, w, label_smoothing=0.3, reduction="none")
    assert same_bits(got.loss, -reference.sum_products(w * lp, q * keep + share))


def test_the_gradient_is_its_line_operation_by_operation():
    rng = np.random.default_rng(2)
    x, w, q = (rng.random(shape).astype(np.float32) for shape in ((9, 40), 40, (9, 40)))
    t, g = rng.integers(0, 40, 9), rng.standard_normal(1).astype(np.float32)
    lp = reference.log_softmax(x)
    keep, share = np.array([0.7], np.float32), np.array([0.3 / 40], np.float32)
    k = g / reference.sum_rows(w[t][None])

    def expected(h, height, k):
        return k * (reference.exp(lp) * height[:, None] - h)

    h = np.zeros((9, 40), np.float32)
    h[np.arange(9), t] = w[t]
    of_x, _ = reference.cross_entropy_backward(g, x, t, w)
    assert same_bits(of_x, expected(h, w[t], k))
    h = (share * w)[None].repeat(9, 0)
    h[np.arange(9), t] = keep * w[t] + share * w[t]
    of_x, _ = reference.cross_entropy_backward(g, x, t, w, label_smoothing=0.3)
    assert same_bits(of_x, expected(h, reference.sum_rows(h), k))
    h = w * (q * keep + share)
    of_x, of_q = reference.cross_entropy_backward(g, x, q, w, label_smoothing=0.3, reduction="sum")
    assert same_bits(of_x, expected(h, reference.sum_rows(h), g))
    assert same_bits(of_q, g * -((w * lp) * keep))


def test_bad_arguments_are_refused():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(IndexError, match="expected target classes from 0 to 2, got 3"):
        reference.cross_entropy(x, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"expected a reduction of .* got 'total'"):
        reference.cross_entropy(x, np.array([0, 1]), reduction="total")
