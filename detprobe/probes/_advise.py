"""`advise`: which settings leave the order of additions free on this device, by small probes that are run for it."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch

from detprobe.conditions import deterministic_flag, threads
from detprobe.probe_report import Column, ProbeReport, Table
from detprobe.probes import _gemm_cuda
from detprobe.probes._common import Progress, Writer, check_device, ticking, untouched
from detprobe.probes._outcomes import Outcomes, gather

__all__ = ["Advice", "advise", "compared", "cost", "cpu_questions", "cuda_questions", "read"]

_QUESTION = "Which of the settings of now leave the order of additions free on this device?"
_RUNS = 8
_RACES = 40  # runs of what two threads race for: on a busy machine the same one often comes first
_ROUNDS = 5  # of a timing; the fastest counts
Run = Callable[[], Any]
Setting = Callable[[], AbstractContextManager[Any]]


class Advice(NamedTuple):
    """One row."""

    setting: str
    value: str
    """What it is now."""
    free: bool
    """Whether it was seen to leave the order free."""
    evidence: str
    """What was run, and what was seen."""
    fix: str
    """What to set, as code; empty where there is nothing to do."""
    cost: float | None
    """Time with the fix divided by time of now, measured on what was run."""


def advise(device: str | torch.device | None = None, *, progress: bool | Progress | None = None) -> ProbeReport:
    """Ask this device which of the settings of now leave float-ordering freedom, with the evidence and the remedy.

    Example:
        >>> print(detprobe.probes.advise())

    Args:
        device: "cpu" or "cuda"; the GPU where there is one, and else the CPU.
        progress: True for a bar on stderr, or a callable (done, total or None, text).

    Returns:
        A report with one row per setting: its value, whether freedom was seen, by what, what to set, and what that
        costs. A no means that these small runs showed none.

    Raises:
        ArgumentTypeError, ArgumentValueError: an unknown device.
        NotAvailableError: the device is not there. Settings are afterwards what they were.
    """
    where = check_device(device, ("cpu", "cuda"))
    writer = Writer("advise", _QUESTION, where, runs=_RUNS, threads=torch.get_num_threads())
    questions = [*cpu_questions(), *(cuda_questions(where) if where != "cpu" else [])]
    rows = []
    with untouched(), ticking(progress, "probing") as tick:
        for at, question in enumerate(questions):
            tick(at, len(questions), "settings")
            rows.append(question())
    loose = [row for row in rows if row.free]
    findings = [f"{row.setting} ({row.value}) leaves freedom: {row.evidence}. To set: {row.fix}." for row in loose]
    columns = (*map(Column, ("setting", "now", "free", "evidence", "to set")), Column("cost", "x", 2))
    return writer.report(
        free=bool(loose),
        findings=findings or ["None of the settings of now was seen to leave freedom."],
        tables=[Table("", columns, tuple(tuple(row) for row in rows))],
    )


def read(get: Callable[[], Any]) -> str:
    """A setting of now; torch refuses to read some once they were written by its other way."""
    try:
        value = get()
    except (RuntimeError, AttributeError) as error:
        return f"not readable ({str(error).splitlines()[0]:.60})"
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def cost(run: Run, setting: Setting) -> float:
    """Time with the setting divided by time of now; rounds take turns, so that a slow moment hits both."""
    now = fixed = float("inf")
    for _ in range(_ROUNDS):
        now = min(now, _seconds(run))
        with setting():
            fixed = min(fixed, _seconds(run))
    return fixed / now


def _seconds(run: Run) -> float:
    _finish(run())  # after a switch the first one pays for it: threads are started, plans are made
    start = time.perf_counter()
    _finish(run())
    return time.perf_counter() - start


def _finish(result: Any) -> None:
    for tensor in result if isinstance(result, tuple) else (result,):
        if tensor.is_cuda:
            torch.cuda.synchronize(tensor.device)


def compared(run: Run, setting: Setting, *, runs: int = _RUNS) -> tuple[Outcomes, Outcomes]:
    """Runs under the settings of now, and runs with one changed, against them."""
    now = gather(run, runs)
    with setting():
        other = gather(run, runs, now)
    return now, other


def _far(found: Outcomes) -> str:
    return "other bits" if found.max_ulp is None else f"up to {found.max_ulp} ULP"


def _distinct(found: Outcomes) -> str:
    return f"{found.distinct} distinct result{'s' if found.distinct > 1 else ''} of {found.runs}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


# What is run: small, and large enough that kernels use their threads.


def _draw(*shape: int, device: str = "cpu") -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def total(device: str = "cpu") -> Run:
    """The gradient of layer_norm's weight: torch gives each thread a part of the batch to add up."""
    x, weight = _draw(2048, 256, device=device), torch.ones(256, device=device)
    grad = _draw(2048, 256, device=device)
    mean, rstd = x.mean(1, keepdim=True), 1 / x.std(1, keepdim=True)
    mask = [False, True, True]
    args = (grad, x, [256], mean, rstd, weight, weight, mask)
    return lambda: torch.ops.aten.native_layer_norm_backward(*args)[1]


def scatter(device: str = "cpu") -> Run:
    """Sums into 50 shared places."""
    index = torch.randint(0, 50, (200_000,), generator=torch.Generator().manual_seed(0)).to(device)
    source = _draw(200_000, device=device)
    return lambda: torch.zeros(50, device=device).index_put_((index,), source, accumulate=True)


def convolution(device: str = "cpu") -> Run:
    """Forward and both gradients of a small convolution."""
    x, weight, grad = (_draw(*shape, device=device) for shape in ((8, 16, 32, 32), (16, 16, 3, 3), (8, 16, 32, 32)))
    rest = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)

    def run() -> tuple[torch.Tensor, ...]:
        y = torch.conv2d(x, weight, padding=1)
        return y, *torch.ops.aten.convolution_backward(grad, x, weight, None, *rest, [True, True, False])[:2]

    return run


def product(device: str, dtype: torch.dtype = torch.float32) -> Run:
    a, b = _draw(256, 2048, device=device).to(dtype), _draw(2048, 256, device=device).to(dtype)
    return lambda: torch.mm(a, b)


# The CPU's settings. Each function runs what it takes and gives one row.


def cpu_questions() -> list[Callable[[], Advice]]:
    return [thread_count, deterministic_algorithms, onednn]


def thread_count(run: Run | None = None) -> Advice:
    """Another thread count cuts a sum in other parts."""
    run = run or total()
    now = torch.get_num_threads()
    other = 1 if now > 1 else 2
    here, there = compared(run, functools.partial(threads, other))
    free = there.verdict != "same" or here.distinct > 1
    seen = f"{_far(there)} from that" if there.verdict != "same" else "the same bits"
    said = f"layer_norm's weight gradient: {_distinct(here)}; {seen} on {_threads(other)}"
    fix = f"torch.set_num_threads(1){f', or {now}' if now > 1 else ''} wherever it runs" if free else ""
    return Advice("thread count", str(now), free, said, fix, cost(run, lambda: threads(1)) if free else None)


def deterministic_algorithms(run: Run | None = None, *, device: str = "cpu") -> Advice:
    """Do sums into shared places repeat, and with the flag?"""
    run = run or scatter(device)
    found, fixed = compared(run, deterministic_flag, runs=_RACES)
    free = found.distinct > 1
    said = f"index_put with accumulate: {_distinct(found)}, {_far(found)}" if free else f"index_put: {_distinct(found)}"
    if free:
        said += f"; {fixed.distinct} with the flag"
    now = read(torch.are_deterministic_algorithms_enabled)
    fix = "detprobe.deterministic(), or torch's flag" if free else ""
    price = cost(run, deterministic_flag) if free else None
    return Advice(
        "deterministic flag" if device == "cpu" else f"deterministic flag, {device}", now, free, said, fix, price
    )


def onednn(run: Run | None = None) -> Advice:
    """Do convolutions repeat, and on another number of threads?"""
    run = run or convolution()
    name = "oneDNN"
    now = read(lambda: torch.backends.mkldnn.enabled)
    if not torch.backends.mkldnn.is_available():
        return Advice(name, "not built", False, "torch was built without oneDNN", "", None)
    count = torch.get_num_threads()
    other = 1 if count > 1 else 2
    here, there = compared(run, functools.partial(threads, other))
    free = here.distinct > 1 or there.verdict != "same"
    seen = f"{_far(there)} from those" if there.verdict != "same" else "the same bits"
    said = f"conv2d and its gradients: {_distinct(here)}; {seen} on {_threads(other)}"
    if not free:
        return Advice(name, now, free, said, "", None)
    off = functools.partial(written, torch.backends.mkldnn, enabled=False)
    with off():
        base = gather(run, _RUNS)
        with threads(other):
            moved = gather(run, _RUNS, base)
    if base.distinct == 1 and moved.verdict == "same":
        return Advice(
            name, now, free, f"{said}; none of that without", "torch.backends.mkldnn.enabled = False", cost(run, off)
        )
    return Advice(name, now, free, f"{said}, and without it", f"torch.set_num_threads({count}) everywhere", None)


# CUDA's settings.


def cuda_questions(device: str) -> list[Callable[[], Advice]]:
    bind = functools.partial
    return [
        bind(deterministic_algorithms, device=device),
        bind(cudnn_deterministic, device),
        bind(cudnn_benchmark, device),
        bind(workspace, device),
        *(bind(tf32_precision, device, op) for op in ("matmul", "conv")),
        *(bind(reduced_precision, device, kind) for kind in ("fp16", "bf16")),
    ]


def cudnn_deterministic(device: str, run: Run | None = None) -> Advice:
    run = run or convolution(device)
    found, fixed = compared(run, lambda: written(torch.backends.cudnn, deterministic=True))
    free = found.distinct > 1
    said = f"conv2d and its gradients: {_distinct(found)}" + (f"; {fixed.distinct} with the flag" if free else "")
    price = cost(run, lambda: written(torch.backends.cudnn, deterministic=True)) if free else None
    fix = "torch.backends.cudnn.deterministic = True" if free else ""
    now = read(lambda: torch.backends.cudnn.deterministic)
    return Advice("cuDNN deterministic", now, free, said, fix, price)


def cudnn_benchmark(device: str, run: Run | None = None) -> Advice:
    """With it cuDNN times its algorithms and takes the fastest, which need not be the same one in the next process."""
    run = run or convolution(device)
    on = torch.backends.cudnn.benchmark
    _, other = compared(run, lambda: written(torch.backends.cudnn, benchmark=not on))
    free = on and other.verdict != "same"
    said = f"conv2d and its gradients: {_far(other)} from those with it {'off' if on else 'on'}"
    if other.verdict == "same":
        said = "conv2d and its gradients: the same bits with it on and off"
    price = cost(run, lambda: written(torch.backends.cudnn, benchmark=False)) if free else None
    fix = "torch.backends.cudnn.benchmark = False" if free else ""
    return Advice("cuDNN benchmark", "on" if on else "off", free, said, fix, price)


@contextmanager
def written(owner: Any, **wanted: bool) -> Iterator[None]:
    """These attributes alone: torch's own `flags()` also write allow_tf32, which they may refuse or warn about."""
    before = {name: getattr(owner, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def workspace(device: str, run: Run | None = None) -> Advice:
    """Products on several streams at once share cuBLAS workspaces unless the variable says how many there are."""
    run = run or _product_beside(device)
    found = gather(run, _RUNS)
    value = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    free = found.distinct > 1
    fix = "CUBLAS_WORKSPACE_CONFIG=:4096:8 before Python starts" if free else ""
    said = f"mm beside another stream: {_distinct(found)}"
    return Advice("cuBLAS workspace", value or "not set", free, said, fix, None)


def _product_beside(device: str) -> Run:
    run, beside = product(device), product(device)

    def both() -> torch.Tensor:
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            beside()
        found: torch.Tensor = run()
        torch.cuda.current_stream(device).wait_stream(stream)
        return found

    return both


def precision(name: str, value: str, switch: Callable[[bool], AbstractContextManager[Any]], run: Run) -> Advice:
    """A precision: it is named because results with and without it differ, and is never a freedom of order."""
    with switch(False):
        off = gather(run, 1)
    with switch(True):
        on = gather(run, 1, off)
    seen = "the same bits" if on.verdict == "same" else _far(on)
    said = f"{seen} with it on and off; a precision, not an order: keep it the same everywhere"
    return Advice(name, value, False, said, "", None)


def tf32_precision(device: str, op: str, run: Run | None = None) -> Advice:
    """op: "matmul" or "conv"."""
    run = run or (product(device) if op == "matmul" else convolution(device))
    now = read(lambda: torch._C._get_fp32_precision_getter("cuda", op))
    return precision(f"TF32, {op}", now, functools.partial(_gemm_cuda.tf32, op), run)


def reduced_precision(device: str, kind: str, run: Run | None = None) -> Advice:
    """kind: "fp16" or "bf16"."""
    run = run or product(device, torch.float16 if kind == "fp16" else torch.bfloat16)
    now = read(lambda: getattr(torch.backends.cuda.matmul, f"allow_{kind}_reduced_precision_reduction"))
    return precision(f"{kind} reductions", now, functools.partial(_gemm_cuda.reduced_precision, kind), run)
