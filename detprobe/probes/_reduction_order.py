"""`reduction_order`: in which order does this callable add?"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch

from detprobe.checks import check_callable, check_number
from detprobe.errors import ArgumentValueError
from detprobe.probe_report import Column, ProbeReport, Table, TreeFigure
from detprobe.probes._common import Progress, Writer, check_device, check_dtype, check_runs, ticking, untouched
from detprobe.probes._evaluate import ACCUMULATORS, evaluate, random_values
from detprobe.probes._masks import FORMATS, Masks, NoTree
from detprobe.probes._recover import basic, full, misfit
from detprobe.sum_tree import SumTree
from detprobe.tree_shape import fold, sentence

__all__ = ["reduction_order"]

_METHODS = ("full", "basic")
_CHECKED = 64  # pairs that are asked once more, when the tree is there
_QUESTION = "In which order does this callable add the elements of a vector?"


def reduction_order(
    fn: Callable[[torch.Tensor], Any],
    *,
    n: int,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    leaves: int | None = None,
    method: str = "full",
    runs: int = 8,
    progress: bool | Progress | None = None,
) -> ProbeReport:
    """Recover the summation tree of a callable from its results alone.

    Example:
        >>> report = detprobe.probes.reduction_order(torch.sum, n=64)
        >>> print(report)  # the tree, folded
        >>> report.tree.fingerprint()
        >>> report.tree.parting(other.tree)  # None, or the first place where two orders part

    Args:
        fn: takes a tensor [n] of `dtype` on `device` and returns its sum: a tensor of one element, or a float.
        n: elements.
        dtype: float32, float64, float16 or bfloat16.
        device: "cpu" or "cuda"; the GPU where there is one, and else the CPU.
        leaves: probe this many elements, evenly spaced, and leave the others zero: the tree is then that of these. For
            large n; None probes all of them, up to 16384.
        method: "full" asks for O(n log n) pairs of elements; "basic" for all n (n - 1) / 2, as a check.
        runs: calls on the same random numbers, which must agree; at least 2.
        progress: True for a bar on stderr, or a callable (done, total or None, text).

    Returns:
        A report with the tree in `report.tree`; None there, with a sentence in `findings`, where there is no fixed
        order to be seen. `free` says that the results of identical calls differed.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument cannot be used; fn is not a sum of its elements.
        NotAvailableError: the device is not there.
        Whatever fn raises.

    Source: P. Xie et al., USENIX ATC 2025 (FPRev); see `_recover.py`.
    """
    check_callable("fn", fn, "pass a function that takes a vector and returns its sum, as in torch.sum")
    check_number("n", n, int, 1, "elements of the vector")
    check_dtype(dtype, tuple(FORMATS))
    check_runs(runs)
    if method not in _METHODS:
        raise ArgumentValueError(f"method: expected one of {', '.join(_METHODS)}, got {method!r:.80}")
    if leaves is not None:
        check_number("leaves", leaves, int, 1, "elements to probe")
        if leaves > n:
            raise ArgumentValueError(f"leaves: expected at most n = {n}, got {leaves}")
    where = torch.device(check_device(device, ("cpu", "cuda")))
    m = leaves or n
    masks = Masks(fn, n, [k * n // m for k in range(m)], dtype, where)
    name = str(dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    writer = Writer(
        "reduction_order",
        _QUESTION,
        str(where),
        fn=_name(fn),
        n=n,
        dtype=name,
        leaves=m,
        method=method,
        runs=runs,
        threads=threads,
    )
    with untouched(), torch.no_grad(), ticking(progress, "probing") as tick:
        masks.check_is_sum()
        values = random_values(m, dtype, runs)
        again = {masks.sum_of(values[0]) for _ in range(runs)}
        if len(again) > 1:
            said = f"{len(again)} distinct results of {runs} calls on the same numbers: its order changes."
            return writer.report(free=True, findings=[said])
        try:
            tree = _recovered(masks, m, method, tick)
        except NoTree as answer:
            again |= {masks.sum_of(values[0]) for _ in range(runs)}  # did it change in the meantime?
            return writer.report(free=len(again) > 1, findings=[str(answer)], notes=["No tree was recovered."])
        recovered_in = masks.calls
        findings = [*_about(tree, n, name), _checked(tree, masks, values, dtype)]
    columns = (Column("elements probed"), Column("calls made"), Column("calls for all pairs"), Column("depth"))
    row = (m, recovered_in, m * (m - 1) // 2, tree.depth)
    return writer.report(
        free=False,
        findings=findings,
        tables=[Table("", (*columns, Column("fingerprint")), ((*row, tree.fingerprint()),))],
        figures=[TreeFigure("Order of the additions", tree)],
    )


def _recovered(masks: Masks, m: int, method: str, tick: Progress) -> SumTree:
    """The tree, and its counts measured once more.

    Raises:
        NoTree: the callable does not add in one fixed order.
    """
    guess = m * max(1, m.bit_length() - 1) if method == "full" else m * (m - 1) // 2
    done = 0

    def lost(i: int, j: int) -> int:
        nonlocal done
        done += 1
        if done % 64 == 0:
            tick(min(done, guess), guess, "reduction_order")
        return masks.lost(i, j)

    tree = full(m, lost, masks.keeps) if method == "full" else basic(m, lost)
    pairs = list(combinations(range(m), 2)) if m <= 12 else _some_pairs(m)
    if misfit(tree, pairs, masks.lost) is not None:
        raise NoTree("Its counts change from call to call, or with the other elements: no fixed order was found.")
    return tree


def _some_pairs(m: int) -> list[tuple[int, int]]:
    own = random.Random(m)
    return [(i, j) for i, j in (own.sample(range(m), 2) for _ in range(_CHECKED))]


def _about(tree: SumTree, n: int, dtype: str) -> list[str]:
    if tree.n == 1:
        return ["One element: there is nothing to add."]
    if len(tree.nodes) == 1 and tree.n > 2:
        return [
            f"All {tree.n} elements are added in one step that rounds once: an exact sum, or one in a format so wide "
            f"that {dtype} cannot show its order."
        ]
    probed = "" if tree.n == n else f" (of {n}; the numbers below count those that were probed)"
    said = [f"It adds {tree.n} elements{probed} in one fixed order: {sentence(fold(tree))}."]
    if tree.widest > 2:
        said.append(f"It has additions of up to {tree.widest} terms that round once, as fused units have.")
    return said


def _checked(tree: SumTree, masks: Masks, values: torch.Tensor, dtype: torch.dtype) -> str:
    """Random numbers, added by the callable and in the tree's order."""
    rows = len(values)
    got = torch.tensor([masks.sum_of(row) for row in values], dtype=torch.float64)
    best = (0, dtype)
    for accumulator in ACCUMULATORS[dtype]:
        equal = int((evaluate(tree, values, accumulator).double() == got).sum())
        best = max(best, (equal, accumulator), key=lambda pair: pair[0])
        if equal == rows:
            break
    equal, accumulator = best
    name = str(accumulator).removeprefix("torch.")
    if equal == rows:
        return f"Random numbers, added in this order in {name}, give its own bits: {rows} of {rows} times."
    return (
        f"Random numbers, added in this order, give its own bits in {equal} of {rows} cases at best ({name}): "
        "something in it rounds in another way (compensation, a fused unit that cuts off, another format in between)."
    )


def _name(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", type(fn).__name__))
