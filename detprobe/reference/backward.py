"""The gradients, on rows: the lines of the table "The ops, backward" in csrc/README.md.

`g` is the incoming gradient in acc: [rows] where the op reduces, [rows, n] where it does not. `y` is the op's result,
stored in its own dtype and read back (`widen(narrow(y, name), name)`). Results are in acc, before their one rounding.
An argument that is left out leaves out its operation.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

import math

import numpy as np

from detprobe.reference.arithmetic import sign
from detprobe.reference.formats import Array, in_acc, quiet
from detprobe.reference.functions import exp
from detprobe.reference.ops import deviations, divisor
from detprobe.reference.order import sum_products, sum_rows
from detprobe.reference.scan import cumsum_rows

__all__ = [
    *("batch_norm_inference_backward", "batch_norm_training_backward", "cumsum_backward", "dot_backward"),
    *("layer_norm_backward", "log_softmax_backward", "logsumexp_backward", "mean_backward", "rms_norm_backward"),
    *("softmax_backward", "std_backward", "sum_backward", "var_backward", "vector_norm_backward"),
]


def sum_backward(g: Array, z: Array) -> Array:
    """g for every element: [rows] to [rows, n]. exact_sum has the same."""
    return np.broadcast_to(g[:, None], z.shape).copy()


@quiet
def mean_backward(g: Array, z: Array) -> Array:
    """g / N: [rows] to [rows, n]."""
    return sum_backward(g / in_acc(z.shape[1], z), z)


@quiet
def var_backward(g: Array, z: Array, correction: float = 1) -> Array:
    """(g * (2 / M)) * d[i]: [rows] to [rows, n]."""
    factor = in_acc(2, z) / divisor(z, correction)
    return (g * factor)[:, None] * deviations(z)


@quiet
def std_backward(g: Array, z: Array, y: Array, correction: float = 1) -> Array:
    """As `var_backward`, with g / (2 * y) in the place of g, and +0.0 there where y = 0; `y` is [rows]."""
    inner = np.where(y == 0, in_acc(0, z), g / (in_acc(2, z) * y))
    return var_backward(inner, z, correction)


@quiet
def vector_norm_backward(g: Array, z: Array, y: Array, ord: float) -> Array:
    """The gradient of the norm of order 0, 1, 2, inf or -inf: [rows] to [rows, n]; `y` is [rows]."""
    zero = in_acc(0, z)
    over, norm = g[:, None], y[:, None]
    if ord == 0:
        return np.zeros_like(z)
    if ord == 1:
        return over * sign(z)
    if ord == 2:
        return np.where(norm == 0, zero, (z / norm) * over)
    if abs(ord) == math.inf:
        chosen = (np.abs(z) == norm) | np.isnan(z)
        counted = sum_rows(chosen.astype(z.dtype))
        return np.where(chosen, (g / counted)[:, None] * sign(z), zero)
    raise ValueError(f"expected an order of 0, 1, 2, inf or -inf, got {ord}")


@quiet
def dot_backward(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """g * b[i] for a, g * a[i] for b: [rows] to two times [rows, n]."""
    return g[:, None] * b, g[:, None] * a


@quiet
def logsumexp_backward(g: Array, z: Array, y: Array) -> Array:
    """g * exp(z - y): [rows] to [rows, n]; `y` is [rows]."""
    return g[:, None] * exp(z - y[:, None])


@quiet
def softmax_backward(g: Array, y: Array) -> Array:
    """(g[i] - P(g, y)) * y[i]: [rows, n] each."""
    return (g - sum_products(g, y)[:, None]) * y


@quiet
def log_softmax_backward(g: Array, y: Array) -> Array:
    """g[i] - exp(y[i]) * S(g): [rows, n] each."""
    return g - exp(y) * sum_rows(g)[:, None]


def cumsum_backward(g: Array, reverse: bool = False) -> Array:
    """G of g in the other direction: [rows, n]; `reverse` is that of the forward."""
    return cumsum_rows(g, reverse=not reverse)


@quiet
def layer_norm_backward(
    g: Array, z: Array, mean: Array, rstd: Array, weight: Array | None = None
) -> tuple[Array, Array, Array]:
    """((t[i] - S(t) / N) - h[i] * (P(t, h) / N)) * r, with h and t as below.

    Args:
        g, z: [rows, n] acc.
        mean, rstd: [rows], of the forward.
        weight: [n] acc.

    Returns:
        The gradients of x [rows, n], weight [n] and bias [n].
    """
    h = (z - mean[:, None]) * rstd[:, None]
    t = g if weight is None else g * weight[None, :]
    return _centered(t, h) * rstd[:, None], *_parameters(g.T, h.T)


@quiet
def rms_norm_backward(g: Array, z: Array, rstd: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """(t[i] - h[i] * (P(t, h) / N)) * r, with h and t as below.

    Args:
        g, z: [rows, n] acc.
        rstd: [rows], of the forward.
        weight: [n] acc.

    Returns:
        The gradients of x [rows, n] and weight [n].
    """
    h = z * rstd[:, None]
    t = g if weight is None else g * weight[None, :]
    slope = sum_products(t, h) / in_acc(t.shape[1], t)
    return (t - h * slope[:, None]) * rstd[:, None], sum_products(g.T, h.T)


@quiet
def batch_norm_training_backward(
    g: Array, z: Array, mean: Array, rstd: Array, weight: Array | None = None
) -> tuple[Array, Array, Array]:
    """((g - S(g) / N) - h * (P(g, h) / N)) * (w[c] * r), with h as below.

    Args:
        g, z: [channels, n] acc.
        mean, rstd: [channels], of the forward.
        weight: [channels] acc.

    Returns:
        The gradients of x [channels, n], weight [channels] and bias [channels].
    """
    h = (z - mean[:, None]) * rstd[:, None]
    scale = rstd if weight is None else weight * rstd
    return _centered(g, h) * scale[:, None], *_parameters(g, h)


@quiet
def batch_norm_inference_backward(
    g: Array, z: Array, mean: Array, rstd: Array, weight: Array | None = None
) -> tuple[Array, Array, Array]:
    """g * (w[c] * r); arguments and results as `batch_norm_training_backward`, `mean` is the running one."""
    h = (z - mean[:, None]) * rstd[:, None]
    scale = rstd if weight is None else weight * rstd
    return g * scale[:, None], *_parameters(g, h)


def _centered(t: Array, h: Array) -> Array:
    """(t[i] - S(t) / N) - h[i] * (P(t, h) / N)."""
    n = in_acc(t.shape[1], t)
    level, slope = sum_rows(t) / n, sum_products(t, h) / n
    return (t - level[:, None]) - h * slope[:, None]


def _parameters(g: Array, h: Array) -> tuple[Array, Array]:
    """P(g, h) for a weight and S(g) for a bias, one row for each of their elements."""
    return sum_products(g, h), sum_rows(g)
