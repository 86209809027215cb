"""Why a finding differs, from its bits, and which fix holds, by trying it on the same frozen inputs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch

from detprobe.conditions import deterministic_flag, threads
from detprobe.errors import NotAvailableError
from detprobe.rerouting import deterministic
from detprobe.result import Trial
from detprobe.scanning._compare import Measure, difference
from detprobe.scanning._freeze import FrozenCall

__all__ = ["cause_of", "cause_of_axis", "try_fixes"]

CONTEXT = "detprobe.deterministic()"
FLAG = "torch.use_deterministic_algorithms(True)"
ONE_THREAD = "torch.set_num_threads(1)"

_SORT_LIMIT = 1 << 22  # elements; sorting more costs more than the answer is worth

# What is known of an op's kernels; the first that fits. Hints only: the verdict never comes from here.
_KNOWN = (
    (
        ("index_put", "index_add", "scatter", "embedding", "reduce", "segment", "bincount", "histc"),
        "adds",
    ),
    (("max_pool", "avg_pool", "upsample", "grid_sampler", "interpolate", "reflection_pad", "replication_pad"), "adds"),
    (("convolution", "conv", "cudnn"), "library"),
    (("mm", "linear", "matmul", "attention"), "library"),
    (("sort", "topk", "argsort", "kthvalue", "median", "mode", "unique"), "ties"),
)


def cause_of(call: FrozenCall, results: list[Any], sample: list[Any], measure: Measure) -> str:
    """One or two sentences: what moved, and what is known to move it."""
    kind = _known(call.facts.name)
    cuda = any(t.is_cuda for t in call.tensors)
    if _permuted(results, sample):
        text = "The same values came back in other places: the order among equals (ties), or of arrival, is not fixed."
    elif measure.max_ulp is None:
        text = "Numbers and NaN, or other shapes, came back in turn."
    elif measure.max_ulp == 0:
        text = "Only signs of zero, or bits of NaN, differ."
    else:
        text = "Values differ in their last bits: the terms of a sum were added in another order."
    return text + _hint(kind, call, cuda)


def _known(op: str) -> str:
    name = op.split("::")[-1]
    for parts, kind in _KNOWN:
        if any(part in name for part in parts):
            return kind
    return ""


def _hint(kind: str, call: FrozenCall, cuda: bool) -> str:
    if kind == "adds":
        share = _duplicates(call.tensors)
        who = "atomic adds reach" if cuda else "threads add to"
        several = f"{100 * share:.1f} % of the indices repeat another one, and " if share else ""
        return f" {several[:1].upper()}{several[1:]}{who} a shared place in the order in which they arrive."
    if kind == "library":
        return " The library splits this sum between threads, and the parts meet in no fixed order."
    if kind == "ties":
        return " The sort behind it is not stable."
    return ""


def _duplicates(tensors: list[torch.Tensor]) -> float:
    """Share of index entries that name a place which an earlier entry has named; 0 without indices."""
    for tensor in tensors:
        if tensor.dtype in (torch.int64, torch.int32) and 1 < tensor.numel() <= _SORT_LIMIT:
            return 1.0 - len(torch.unique(tensor)) / tensor.numel()
    return 0.0


def _permuted(results: list[Any], sample: list[Any]) -> bool:
    """True when what differs is a rearrangement: the same bits, in other places."""
    seen = False
    for a, b in zip(results, sample, strict=True):
        if difference([a], [b]) is None:
            continue
        if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor) or a.shape != b.shape:
            return False
        if not 1 < a.numel() <= _SORT_LIMIT or a.is_complex():
            return False
        words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
        x, y = (t.contiguous().view(words).flatten().sort().values for t in (a, b))
        if not torch.equal(x, y):
            # An index result (argsort, topk) is permuted when its values only trade places in some rows.
            return False
        seen = True
    return seen


def cause_of_axis(axis: str, label: str) -> str:
    """For a call that repeats, and moves when something else than the data is changed."""
    texts = {
        "threads": "Repeats, but the sum is split between threads, so that its order depends on how many there are",
        "layout": "Repeats, but another kernel path, with another order, is taken for another memory layout",
        "batch": "Repeats, but the order of its sums depends on how much else is in the batch",
        "device": "Repeats on each device, but the devices do not agree",
        "stress": "Repeats on an idle machine, but not under a competing load",
    }
    return f"{texts[axis]} ({label})."


def try_fixes(call: FrozenCall, replays: int) -> tuple[Trial, ...]:
    """Replay with each candidate set; what holds first, and of those the cheapest.

    One thread comes last of those that hold, whatever it costs here: it slows every other op.
    """
    cuda = any(t.is_cuda for t in call.tensors)
    plain, _ = _timed(call, replays, cuda)
    trials = [_try(FLAG, deterministic_flag, call, replays, plain, cuda), *_in_context(call, replays, plain, cuda)]
    if not cuda and torch.get_num_threads() > 1:
        trials.append(_try(ONE_THREAD, functools.partial(threads, 1), call, replays, plain, cuda))
    rank = {"identical": 0, "still differs": 1, "refuses": 2}
    return tuple(sorted(trials, key=lambda t: (rank[t.result], t.fix == ONE_THREAD, t.cost or 0.0)))


def _in_context(call: FrozenCall, replays: int, plain: float, cuda: bool) -> list[Trial]:
    """The context is a candidate where it replaces something in this call."""
    try:
        with deterministic() as report:
            trial = _try(CONTEXT, nullcontext, call, replays, plain, cuda)
    except NotAvailableError:
        return []
    return [trial] if report.replaced else []


def _try(name: str, setting: Callable[[], Any], call: FrozenCall, replays: int, plain: float, cuda: bool) -> Trial:
    with setting():
        try:
            seconds, same = _timed(call, replays, cuda)
        except Exception as error:  # torch refuses with RuntimeError; a user's op may do so with anything
            lines = str(error).strip().splitlines()
            return Trial(name, "refuses", None, lines[0] if lines else type(error).__name__)
    return Trial(name, "identical" if same else "still differs", seconds / plain if plain > 0 else None)


def _timed(call: FrozenCall, replays: int, cuda: bool) -> tuple[float, bool]:
    """Median time of one run, s, and whether all runs gave the same bits."""
    reference = call.again()
    times: list[float] = []
    same = True
    for _ in range(replays - 1):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        again = call.again()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        same = same and difference(reference, again) is None
    return median(times), same
