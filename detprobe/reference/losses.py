"""cross_entropy and its gradients on rows: the logits of a sample along the last axis, samples in logical order.

The lines are those of csrc/README.md. `weight` that is left out leaves out its operation in the forward and is 1.0 in
the backward, as written there.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detprobe.reference.formats import Array, in_acc, quiet
from detprobe.reference.functions import exp, log
from detprobe.reference.order import largest_rows, sum_products, sum_rows

__all__ = ["CrossEntropy", "cross_entropy", "cross_entropy_backward"]

REDUCTIONS = ("none", "mean", "sum")


class CrossEntropy(NamedTuple):
    """A loss and what its gradient needs, all in acc."""

    loss: Array
    """[samples] for "none", else [1]."""
    total: Array
    """[1]: S(u)."""
    max: Array
    """[samples]: m of log_softmax."""
    logsum: Array
    """[samples]: log(S(e)) of log_softmax."""


@quiet
def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> CrossEntropy:
    """The loss of every sample, their sum or their mean.

    Args:
        x: [samples, classes] acc.
        target: [samples] integers, or [samples, classes] probabilities in acc.
        weight: [classes] acc.
        reduction: "none", "mean" or "sum".
        ignore_index: the class whose samples do not count; not for probabilities.
        label_smoothing: an f64, before any rounding.

    Raises:
        ValueError: for another reduction.
        IndexError: for a class that is not there.

    Source: csrc/README.md, cross_entropy.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"expected a reduction of {REDUCTIONS}, got {reduction!r}")
    lp, m, logsum = _log_probabilities(x)
    keep, share = _smoothing(x, label_smoothing)
    if target.ndim == 2:
        k = target if label_smoothing == 0 else target * keep + share
        v = lp if weight is None else weight[None, :] * lp
        loss, u = -sum_products(v, k), np.ones(len(x), x.dtype)
    else:
        counts, t = _classes(target, ignore_index, x.shape[1])
        a = np.take_along_axis(lp, t[:, None], axis=1)[:, 0]
        u = np.ones(len(x), x.dtype)
        if weight is not None:
            u = weight[t]
            a = u * a
        loss = -a
        if label_smoothing != 0:
            b = sum_rows(lp) if weight is None else sum_products(_each_row(weight, x), lp)
            loss = -((keep * a) + (share * b))
        loss, u = np.where(counts, loss, in_acc(0, x)), np.where(counts, u, in_acc(0, x))
    total = sum_rows(u[None, :])
    if reduction == "sum":
        loss = sum_rows(loss[None, :])
    if reduction == "mean":
        loss = sum_rows(loss[None, :]) / total
    return CrossEntropy(loss, total, m, logsum)


@quiet
def cross_entropy_backward(
    g: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array | None]:
    """The gradients of x and of target probabilities; None for target classes.

    Args:
        g: [samples] for "none", else [1].
        The others: as `cross_entropy`.

    Returns:
        [samples, classes] acc, and the same for probabilities.

    Source: csrc/README.md, "The ops, backward".
    """
    forward = cross_entropy(
        *(x, target, weight), reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    lp = _log_probabilities(x)[0]
    keep, share = _smoothing(x, label_smoothing)
    k = np.broadcast_to(g / forward.total if reduction == "mean" else g, len(x))[:, None]
    each = np.ones(x.shape[1], x.dtype) if weight is None else weight
    w = _each_row(each, x)
    if target.ndim == 2:
        smoothed = target if label_smoothing == 0 else target * keep + share
        h = w * smoothed
        v = lp if weight is None else w * lp
        of_target = k * -v if label_smoothing == 0 else k * -(v * keep)
        return k * (exp(lp) * sum_rows(h)[:, None] - h), of_target
    counts, t = _classes(target, ignore_index, x.shape[1])
    hit = np.arange(x.shape[1])[None, :] == t[:, None]
    if label_smoothing == 0:
        h = np.where(hit, w, in_acc(0, x))
        height = each[t]
    else:
        h = np.where(hit, (keep * w) + (share * w), share * w)
        height = sum_rows(h)
    of_x = k * (exp(lp) * height[:, None] - h)
    return np.where(counts[:, None], of_x, in_acc(0, x)), None


def _log_probabilities(x: Array) -> tuple[Array, Array, Array]:
    """lp = (x - m) - log(S(e)), with m and log(S(e)) of every sample."""
    m = largest_rows(x)
    logsum = log(sum_rows(exp(x - m[:, None])))
    return (x - m[:, None]) - logsum[:, None], m, logsum


def _smoothing(x: Array, label_smoothing: float) -> tuple[Array, Array]:
    """keep and share, computed in f64 and rounded to acc: [1] each."""
    return in_acc(1 - label_smoothing, x), in_acc(label_smoothing / x.shape[1], x)


def _classes(target: Array, ignore_index: int, classes: int) -> tuple[Array, Array]:
    """Which samples count, and a class for each sample, 0 where it does not count."""
    counts = target != ignore_index
    t = np.where(counts, target, 0)
    outside = (t < 0) | (t >= classes)
    if outside.any():
        raise IndexError(f"expected target classes from 0 to {classes - 1}, got {t[outside][0]}")
    return counts, t


def _each_row(weight: Array, x: Array) -> Array:
    return np.broadcast_to(weight[None, :], x.shape)
