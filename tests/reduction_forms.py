"""Every op in every form of a call, by the kernels and by the written definition, as lists of named tensors to compare.

`by_kernels` calls the op, its public function, its backward op, and autograd through both; `as_written` asks
detprobe.reference for the same. Whoever compares, compares bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import written
from bit_patterns import words_of
from reduction_inputs import Problem, tensor
from torch import Tensor

import detprobe.ops
from detprobe import reference

OPS = torch.ops.detprobe
INF = math.inf
Form = Callable[[Problem], tuple[str, tuple[Any, ...]]]
Named = list[tuple[str, Tensor]]


def _channels(t: Tensor) -> Tensor:
    """[rows, n] as [n, rows], so that the rows are channels."""
    return t.t()


def _inference(p: Problem, weight: bool) -> tuple[Any, ...]:
    parameters = (p.along(p.rows, 2), p.along(p.rows, 3)) if weight else (None, None)
    return (_channels(p.x), p.along(p.rows, 1), p.positive(p.rows), *parameters, 1e-5)


def _half_weights(p: Problem) -> tuple[Tensor, Tensor]:
    return p.along(p.n, 0, p.wider), p.along(p.n, 1, p.wider)


FORMS: dict[str, Form] = {
    "sum": lambda p: ("sum", (p.x, [1], False, None)),
    "exact_sum": lambda p: ("exact_sum", (p.x, [1], False, None)),
    "mean": lambda p: ("mean", (p.x, [1], True, None)),
    "dot": lambda p: ("dot", (p.x, p.other, [1], False)),
    "var": lambda p: ("var", (p.x, [1], False, 1.0)),
    "var, correction": lambda p: ("var", (p.x, [1], True, 2.5)),
    "std": lambda p: ("std", (p.x, [1], False, 1.0)),
    "std, correction": lambda p: ("std", (p.x, [1], True, 0.0)),
    "vector_norm 0": lambda p: ("vector_norm", (p.x, 0.0, [1], False, None)),
    "vector_norm 1": lambda p: ("vector_norm", (p.x, 1.0, [1], False, None)),
    "vector_norm 2": lambda p: ("vector_norm", (p.x, 2.0, [1], False, None)),
    "vector_norm inf": lambda p: ("vector_norm", (p.x, INF, [1], False, None)),
    "vector_norm -inf": lambda p: ("vector_norm", (p.x, -INF, [1], True, None)),
    "logsumexp": lambda p: ("logsumexp", (p.x, [1], False)),
    "softmax": lambda p: ("softmax", (p.x, 1, False, None)),
    "log_softmax": lambda p: ("softmax", (p.x, 1, True, None)),
    "cumsum": lambda p: ("cumsum", (p.x, 1, False, None)),
    "cumsum, reverse": lambda p: ("cumsum", (p.x, 1, True, None)),
    "layer_norm": lambda p: ("layer_norm", (p.x, 1, p.along(p.n), p.along(p.n, 1), 1e-5, True)),
    "layer_norm, plain": lambda p: ("layer_norm", (p.x, 1, None, None, 1e-3, True)),
    "layer_norm, wider weights": lambda p: ("layer_norm", (p.x, 1, *_half_weights(p), 1e-5, True)),
    "layer_norm, bias alone": lambda p: ("layer_norm", (p.x, 1, None, p.along(p.n, 1), 1e-5, True)),
    "rms_norm": lambda p: ("layer_norm", (p.x, 1, p.along(p.n), None, 2.0**-23, False)),
    "rms_norm, plain": lambda p: ("layer_norm", (p.x, 1, None, None, 1e-6, False)),
    "batch_norm_training": lambda p: (
        "batch_norm_training",
        (_channels(p.x), p.along(p.rows), p.along(p.rows, 1), 1e-5),
    ),
    "batch_norm_training, plain": lambda p: ("batch_norm_training", (_channels(p.x), None, None, 1e-5)),
    "batch_norm_training, wider weights": lambda p: (
        "batch_norm_training",
        (_channels(p.x), p.along(p.rows, 0, p.wider), p.along(p.rows, 1, p.wider), 1e-5),
    ),
    "batch_norm_inference": lambda p: ("batch_norm_inference", _inference(p, weight=True)),
    "batch_norm_inference, plain": lambda p: ("batch_norm_inference", _inference(p, weight=False)),
    "cross_entropy": lambda p: ("cross_entropy", (p.x, p.classes(), None, 1, -100, 0.0)),
    "cross_entropy, none": lambda p: ("cross_entropy", (p.x, p.classes(-100), p.along(p.n), 0, -100, 0.0)),
    "cross_entropy, weights": lambda p: ("cross_entropy", (p.x, p.classes(0), p.along(p.n), 1, 0, 0.0)),
    "cross_entropy, smoothed": lambda p: ("cross_entropy", (p.x, p.classes(-7), None, 2, -7, 0.1)),
    "cross_entropy, smoothed weights": lambda p: ("cross_entropy", (p.x, p.classes(), p.along(p.n), 1, -100, 0.3)),
    "cross_entropy, all smooth": lambda p: ("cross_entropy", (p.x, p.classes(), p.along(p.n), 0, -100, 1.0)),
    "cross_entropy, shares": lambda p: ("cross_entropy", (p.x, p.shares, None, 1, -100, 0.0)),
    "cross_entropy, weighed shares": lambda p: ("cross_entropy", (p.x, p.shares, p.along(p.n), 0, -100, 0.0)),
    "cross_entropy, smoothed shares": lambda p: ("cross_entropy", (p.x, p.shares, p.along(p.n), 2, -100, 0.2)),
    "running_average": lambda p: (
        "running_average",
        (p.x[:, 0] if p.n else p.along(p.rows), p.along(p.rows, 1, written.acc_of(p.dtype)), 3.0, 0.1),
    ),
    "multiply": lambda p: ("multiply", (p.x, p.other)),
    "divide": lambda p: ("divide", (p.x, 3.0)),
    "exp": lambda p: ("exp", (p.x,)),
    "log": lambda p: ("log", (p.x,)),
}
ELEMENTWISE = ("running_average", "multiply", "divide", "exp", "log")
NEEDS_ELEMENTS = ("vector_norm inf", "vector_norm -inf")
"""Forms that refuse an empty row."""

PUBLIC: dict[str, Callable[..., Tensor]] = {
    "sum": lambda x, dim, keepdim, dtype: detprobe.ops.sum(x, dim, keepdim, dtype=dtype),
    "exact_sum": lambda x, dim, keepdim, dtype: detprobe.ops.exact_sum(x, dim, keepdim, dtype=dtype),
    "mean": lambda x, dim, keepdim, dtype: detprobe.ops.mean(x, dim, keepdim, dtype=dtype),
    "var": lambda x, dim, keepdim, c: detprobe.ops.var(x, dim, keepdim=keepdim, correction=c),
    "std": lambda x, dim, keepdim, c: detprobe.ops.std(x, dim, keepdim=keepdim, correction=c),
    "vector_norm": lambda x, ord, dim, keepdim, dtype: detprobe.ops.vector_norm(x, ord, dim, keepdim, dtype=dtype),
    "logsumexp": lambda x, dim, keepdim: detprobe.ops.logsumexp(x, () if dim is None else dim, keepdim),
    "softmax": lambda x, dim, log, dtype: (detprobe.ops.log_softmax if log else detprobe.ops.softmax)(x, dim, dtype),
    "cross_entropy": lambda x, target, weight, reduction, ignore_index, smoothing: detprobe.ops.cross_entropy(
        x, target, weight, ignore_index, ("none", "mean", "sum")[reduction], smoothing
    ),
    "batch_norm_inference": lambda x, mean, var, w, b, eps: detprobe.ops.batch_norm(
        x, mean, var, w, b, False, 0.1, eps
    ),
}


def _public(op: str, args: Sequence[Any]) -> Callable[..., Tensor] | None:
    """The function of detprobe.ops that makes this call, if there is one."""
    x = args[0]
    if op == "dot" and x.dim() == 1 and not args[3]:
        return lambda a, b, dim, keepdim: detprobe.ops.dot(a, b)
    if op == "cumsum" and not args[2]:
        return lambda x, dim, reverse, dtype: detprobe.ops.cumsum(x, dim, dtype=dtype)
    if op == "layer_norm":
        shape = tuple(x.shape[x.dim() - args[1] :])
        if args[-1]:
            return lambda x, dims, w, b, eps, centered: detprobe.ops.layer_norm(x, shape, w, b, eps)
        return lambda x, dims, w, b, eps, centered: detprobe.ops.rms_norm(x, shape, w, eps)
    if op == "batch_norm_training" and x.numel() > x.shape[1]:
        return lambda x, w, b, eps: detprobe.ops.batch_norm(x, None, None, w, b, True, 0.1, eps)
    return PUBLIC.get(op)


DIFFERENTIABLE = (
    *("sum", "exact_sum", "mean", "dot", "var", "std", "vector_norm", "logsumexp", "cumsum", "softmax", "layer_norm"),
    *("batch_norm_training", "batch_norm_inference", "cross_entropy"),
)


def incoming(args: Sequence[Any], y: Tensor, kind: str) -> Tensor:
    """The gradient that comes in, in a layout of its own; of kind "expanded", one number for all."""
    if kind == "expanded":
        return tensor(y.dtype, (), "normal", 11).expand(y.shape)
    layout: dict[str, Any] = {"order": tuple(reversed(range(y.dim())))} if len(args) % 2 else {"offset": 3}
    return tensor(y.dtype, y.shape, kind, 11, **layout)


def wanted(op: str, args: Sequence[Any]) -> list[int]:
    """The places of the arguments that have a gradient."""
    if op not in DIFFERENTIABLE or not args[0].is_floating_point():
        return []
    places = {"layer_norm": (0, 2, 3), "batch_norm_training": (0, 1, 2), "batch_norm_inference": (0, 3, 4)}
    places |= {"dot": (0, 1), "cross_entropy": (0, 1)}
    found = [args[at] for at in places.get(op, (0,))]
    return [
        at
        for at, value in zip(places.get(op, (0,)), found, strict=True)
        if isinstance(value, Tensor) and value.is_floating_point()
    ]


def _autograd(function: Callable[..., Any], args: Sequence[Any], places: Sequence[int], g: Tensor) -> Sequence[Tensor]:
    inputs = list(args)
    for at in places:
        inputs[at] = inputs[at].detach().requires_grad_()
    found = function(*inputs)
    y = found[0] if isinstance(found, tuple) else found
    return torch.autograd.grad(y, [inputs[at] for at in places], g)


def _backward_op(op: str, args: Sequence[Any], g: Tensor, results: Sequence[Tensor]) -> dict[int, Tensor] | None:
    """The gradients by the backward op, where there is one that takes the arguments as they are."""
    x, y = args[0], results[0]
    if op in ("var", "std", "vector_norm", "logsumexp"):
        dim = args[2] if op == "vector_norm" else args[1]
        kept = written.Rows(x, dim).kept
        g, y = g.reshape(kept), y.reshape(kept)
        if op == "var":
            return {0: OPS.var_backward(g, x, dim, args[3])}
        if op == "std":
            return {0: OPS.std_backward(g, x, y, dim, args[3])}
        if op == "logsumexp":
            return {0: OPS.logsumexp_backward(g, x, y, dim)}
        return {0: OPS.vector_norm_backward(g, x, y, args[1], dim)} if x.dtype == y.dtype else None
    if op == "softmax" and y.dtype == x.dtype:
        return {0: OPS.softmax_backward(g, y, args[1], args[2])}
    if op == "layer_norm":
        _, dims, weight, bias, _, centered = args
        wanted = [True, weight is not None, bias is not None]
        found = OPS.layer_norm_backward(g, x, *results[1:], weight, dims, centered, wanted)
        return dict(zip((0, 2, 3), found, strict=True))
    if op in ("batch_norm_training", "batch_norm_inference"):
        training = op == "batch_norm_training"
        weight = args[1] if training else args[3]
        mean = results[1] if training else args[1].to(written.acc_of(x.dtype))
        found = OPS.batch_norm_backward(g, x, mean, results[-1], weight, training, [True, True, True])
        return dict(zip((0, 1, 2) if training else (0, 3, 4), found, strict=True))
    if op == "cross_entropy":
        flags = [True, args[1].is_floating_point()]
        found = OPS.cross_entropy_backward(g, x, args[1], args[2], *results[1:], *args[3:], flags)
        return dict(enumerate(found))
    return None


def by_kernels(op: str, args: Sequence[Any], g_kind: str | None = "normal") -> Named:
    """All results of an op and all its gradients, on every way to them."""
    results = getattr(OPS, op)(*args)
    results = results if isinstance(results, tuple) else (results,)
    named = [(f"result {at}", one) for at, one in enumerate(results)]
    public = _public(op, args)
    if public is not None:
        named.append(("public result", public(*args)))
    places = wanted(op, args) if g_kind and results[0].is_floating_point() else []
    if places:
        g = incoming(args, results[0], g_kind)
        for way, function in (("autograd", getattr(OPS, op)), ("public autograd", public)):
            if function is not None:
                named += [
                    (f"{way} of {at}", one)
                    for at, one in zip(places, _autograd(function, args, places, g), strict=True)
                ]
        found = _backward_op(op, args, g, results)
        if found is not None:
            named += [(f"backward op of {at}", found[at]) for at in places]
    return named


def as_written(op: str, args: Sequence[Any], g_kind: str | None = "normal") -> dict[str, Tensor]:
    """The same by detprobe.reference: "result N" and "gradient of N"."""
    results = written.forward(op, args)
    named = {f"result {at}": one for at, one in enumerate(results)}
    places = wanted(op, args) if g_kind and results[0].is_floating_point() else []
    if places:
        found = written.gradients(op, args, incoming(args, results[0], g_kind), results)
        named |= {f"gradient of {at}": found[at] for at in places}
    return named


def written_name(name: str) -> str:
    """What as_written calls the thing that by_kernels calls `name`."""
    if name == "public result":
        return "result 0"
    return name if name.startswith("result") else f"gradient of {name.rsplit(maxsplit=1)[1]}"


def difference(got: Tensor, want: Tensor) -> str | None:
    """How two tensors differ, None if not in a bit; also shape and dtype count."""
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f"got {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    a, b = words_of(got), words_of(want)
    where = (a != b).nonzero()[0]
    if not len(where):
        return None
    first = int(where[0])
    return f"{len(where)} of {len(a)} differ, first at {first}: got {a[first]:#x}, expected {b[first]:#x}"


def mismatches(op: str, args: Sequence[Any], g_kind: str | None = "normal") -> list[str]:
    """Every way to a result or gradient that does not give the written bits."""
    expected = as_written(op, args, g_kind)
    found = []
    for name, got in by_kernels(op, args, g_kind):
        text = difference(got, expected[written_name(name)])
        if text is not None:
            found.append(f"{name}: {text}")
    return found


def digest(t: Tensor) -> str:
    """DIGEST-1 by its definition, not by the kernel."""
    return reference.digest(words_of(t).tobytes(), tuple(t.shape))
