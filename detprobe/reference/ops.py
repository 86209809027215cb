"""The ops, forward, on rows: [rows, n] arrays of acc, and results in acc before their one rounding (`narrow`).

The lines are those of the table "The ops, forward" in csrc/README.md. An argument that is left out (weight, bias)
leaves out its operation.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from detprobe.reference.formats import Array, in_acc, quiet
from detprobe.reference.functions import exp, log
from detprobe.reference.order import largest_rows, max_rows, min_rows, sum_products, sum_rows

__all__ = [
    *(
        "Normalized",
        "batch_norm_inference",
        "batch_norm_training",
        "deviations",
        "divisor",
        "dot",
        "layer_norm",
        "log_softmax",
    ),
    *("log_softmax", "logsumexp", "mean", "rms_norm", "running_average", "softmax", "std", "var", "vector_norm"),
]


class Normalized(NamedTuple):
    """A norm's result and what its gradient needs, all in acc."""

    y: Array
    """[rows, n]"""
    mean: Array
    """[rows]; [0] for rms_norm."""
    squares: Array
    """[rows]: P(d, d), or P(z, z) for rms_norm."""
    rstd: Array
    """[rows]"""


@quiet
def mean(z: Array) -> Array:
    """S(z) / N: [rows, n] to [rows]."""
    return sum_rows(z) / in_acc(z.shape[1], z)


@quiet
def var(z: Array, correction: float = 1) -> Array:
    """The sum of squared deviations over max(0, n - correction): [rows, n] to [rows]."""
    d = deviations(z)
    return sum_products(d, d) / divisor(z, correction)


@quiet
def std(z: Array, correction: float = 1) -> Array:
    """The root of `var`."""
    return np.sqrt(var(z, correction))


@quiet
def deviations(z: Array) -> Array:
    """d[i] = z[i] - m."""
    return z - mean(z)[:, None]


@quiet
def divisor(z: Array, correction: float) -> Array:
    """M = round_acc(max(0, n - correction)): [1]."""
    return in_acc(max(0, z.shape[1] - correction), z)


@quiet
def vector_norm(z: Array, ord: float) -> Array:
    """The norm of order 0, 1, 2, inf or -inf: [rows, n] to [rows].

    Raises:
        ValueError: for another order, and for an empty row with inf or -inf.
    """
    if ord == 0:
        return sum_rows(np.where(z != 0, in_acc(1, z), in_acc(0, z)))
    if ord == 1:
        return sum_rows(np.abs(z))
    if ord == 2:
        return np.sqrt(sum_products(z, z))
    if ord == math.inf:
        return max_rows(np.abs(z))
    if ord == -math.inf:
        return min_rows(np.abs(z))
    raise ValueError(f"expected an order of 0, 1, 2, inf or -inf, got {ord}")


def dot(a: Array, b: Array) -> Array:
    """P(a, b): two times [rows, n] to [rows]."""
    return sum_products(a, b)


@quiet
def logsumexp(z: Array) -> Array:
    """log(S(exp(z - m))) + m: [rows, n] to [rows]; -inf for an empty row."""
    m = largest_rows(z) if z.shape[1] else np.zeros(len(z), z.dtype)
    m = np.where(np.isinf(m), in_acc(0, z), m)
    return log(sum_rows(exp(z - m[:, None]))) + m


@quiet
def softmax(z: Array) -> Array:
    """e[i] / S(e): [rows, n] to [rows, n]."""
    if z.shape[1] == 0:
        return z.copy()
    e = exp(z - largest_rows(z)[:, None])
    return e / sum_rows(e)[:, None]


@quiet
def log_softmax(z: Array) -> Array:
    """(z[i] - m) - log(S(e)): [rows, n] to [rows, n]."""
    if z.shape[1] == 0:
        return z.copy()
    m = largest_rows(z)
    return (z - m[:, None]) - log(sum_rows(exp(z - m[:, None])))[:, None]


def layer_norm(z: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Normalized:
    """((d[i] * r) * w[i]) + b[i].

    Args:
        z: [rows, n] acc.
        weight, bias: [n] acc.
    """
    return _centered(z, _along(weight, 0), _along(bias, 0), eps)


def batch_norm_training(
    z: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Normalized:
    """((d[i] * r) * w[c]) + b[c].

    Args:
        z: [channels, n] acc, a channel's samples in logical order.
        weight, bias: [channels] acc.
    """
    return _centered(z, _along(weight, 1), _along(bias, 1), eps)


@quiet
def _centered(z: Array, weight: Array | None, bias: Array | None, eps: float) -> Normalized:
    m = mean(z)
    d = z - m[:, None]
    squares = sum_products(d, d)
    r = in_acc(1, z) / np.sqrt(squares / in_acc(z.shape[1], z) + in_acc(eps, z))
    return Normalized(_affine(d * r[:, None], weight, bias), m, squares, r)


@quiet
def rms_norm(z: Array, weight: Array | None = None, eps: float | None = None) -> Normalized:
    """(z[i] * r) * w[i].

    Args:
        z: [rows, n] acc.
        weight: [n] acc.
        eps: None is 2^-23 for float32 and 2^-52 for float64.
    """
    if eps is None:
        eps = 2.0**-23 if z.dtype == np.float32 else 2.0**-52
    squares = sum_products(z, z)
    r = in_acc(1, z) / np.sqrt(squares / in_acc(z.shape[1], z) + in_acc(eps, z))
    return Normalized(_affine(z * r[:, None], _along(weight, 0), None), np.zeros(0, z.dtype), squares, r)


@quiet
def batch_norm_inference(
    z: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array]:
    """(((x - running_mean[c]) * r) * w[c]) + b[c], and r.

    Args:
        z: [channels, n] acc.
        mean, var, weight, bias: [channels] acc.

    Returns:
        y: [channels, n], r: [channels].
    """
    r = in_acc(1, z) / np.sqrt(var + in_acc(eps, z))
    return _affine((z - mean[:, None]) * r[:, None], _along(weight, 1), _along(bias, 1)), r


@quiet
def running_average(running: Array, value: Array, divisor: float, momentum: float) -> Array:
    """running * (1 - f) + (value / divisor) * f.

    Args:
        running, value: [channels] acc. Of a mean the divisor is 1; the variance is squares / (n - 1).
        momentum: f before it is rounded to acc.
    """
    f = in_acc(momentum, running)
    return running * (in_acc(1, running) - f) + (value / in_acc(divisor, running)) * f


def _along(values: Array | None, axis: int) -> Array | None:
    """[n] as [1, n], or [channels] as [channels, 1]."""
    return None if values is None else np.expand_dims(values, axis)


def _affine(h: Array, weight: Array | None, bias: Array | None) -> Array:
    h = h if weight is None else h * weight
    return h if bias is None else h + bias
