"""What only CUDA has: streams, TF32, reduced-precision reductions, and cuBLAS workspaces.

Each question takes how to switch a setting, or how to ask a fresh process, as an argument: the tests put a fake there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from detprobe.errors import NotAvailableError
from detprobe.probe_report import Cell
from detprobe.probes import _fresh
from detprobe.probes._outcomes import gather, row

__all__ = [
    "ONCE",
    "PRECISION",
    "fresh_digests",
    "questions",
    "reduced_precision",
    "stream_rows",
    "switch_rows",
    "tf32",
    "workspace_rows",
]

Row = tuple[Cell, ...]
Ask = Callable[..., list[Row]]

_TF32, _REDUCED = "TF32", "Reductions in reduced precision"
_WORKSPACE = "cuBLAS workspaces, in fresh processes"
PRECISION = (_TF32, _REDUCED)
"""Titles of questions about precision: other bits are meant to come of it."""
ONCE = (_WORKSPACE,)
"""Titles of questions that are asked of the largest product alone: a process takes seconds to start."""
_WORKSPACES = (None, ":4096:8", ":16:8", ":0:0")
"""Of CUBLAS_WORKSPACE_CONFIG; None: not set. ":4096:8" and ":16:8" are those that torch calls deterministic."""
_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


def questions(device: str, dtype: torch.dtype) -> list[tuple[str, Ask]]:
    """The questions for products of this dtype."""
    found: list[tuple[str, Ask]] = [("On two streams at once", functools.partial(stream_rows, device=device))]
    if dtype == torch.float32:
        found.append((_TF32, functools.partial(switch_rows, name="TF32", switch=functools.partial(tf32, "matmul"))))
    if dtype in (torch.float16, torch.bfloat16):
        kind = "fp16" if dtype == torch.float16 else "bf16"
        switch = functools.partial(reduced_precision, kind)
        found.append((_REDUCED, functools.partial(switch_rows, name=kind, switch=switch)))
    found.append((_WORKSPACE, functools.partial(workspace_rows, device=device)))
    return found


@contextmanager
def tf32(op: str, on: bool) -> Iterator[None]:
    """op: "matmul" or "conv". Written by the newer of torch's two ways, so that reading by it goes on to work.

    Raises:
        NotAvailableError: this torch has no such setting.
    """
    try:
        before = torch._C._get_fp32_precision_getter("cuda", op)
        torch._C._set_fp32_precision_setter("cuda", op, "tf32" if on else "ieee")
    except (AttributeError, RuntimeError) as error:
        raise NotAvailableError(f"this torch does not switch it ({error})") from None
    try:
        yield
    finally:
        torch._C._set_fp32_precision_setter("cuda", op, before)


@contextmanager
def reduced_precision(kind: str, on: bool) -> Iterator[None]:
    """kind: "fp16" or "bf16"."""
    matmul, name = torch.backends.cuda.matmul, f"allow_{kind}_reduced_precision_reduction"
    before = getattr(matmul, name)
    setattr(matmul, name, on)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def switch_rows(
    size: Any, a: torch.Tensor, b: torch.Tensor, runs: int, *, name: str, switch: Any, product: Any = torch.mm
) -> list[Row]:
    """The product with a setting on, against the product with it off."""
    with switch(False):
        off = gather(lambda: product(a, b), runs)
    with switch(True):
        on = gather(lambda: product(a, b), runs, off)
    return [row(str(size), f"{name} off", off), row(str(size), f"{name} on", on)]


@contextmanager
def _stream(device: str) -> Iterator[None]:
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


def stream_rows(
    size: Any, a: torch.Tensor, b: torch.Tensor, runs: int, *, device: str, side: Any = None, product: Any = torch.mm
) -> list[Row]:
    """The product on a stream of its own, while another stream multiplies too: each stream has its own workspace."""
    side = side or _stream
    plain = gather(lambda: product(a, b), 1)

    def run() -> torch.Tensor:
        with side(device):
            product(a, b)  # nobody waits for this one: it is there to run at the same time
        with side(device):
            found: torch.Tensor = product(a, b)
        return found

    return [row(str(size), "a second stream beside it", gather(run, runs, plain))]


def workspace_rows(
    size: Any, a: torch.Tensor, b: torch.Tensor, runs: int, *, device: str, ask: Any = _fresh.ask
) -> list[Row]:
    """Digests from a process per setting: cuBLAS reads the variable when its handle is made.

    Other processes give digests only: how far two results are apart is not known.
    """
    request = {
        "size": [size.m, size.k, size.n],
        "dtype": str(a.dtype).removeprefix("torch."),
        "device": device,
        "runs": runs,
    }
    answers = [
        (value, ask("detprobe.probes._gemm_cuda:fresh_digests", request, {_VARIABLE: value})) for value in _WORKSPACES
    ]
    reference = answers[0][1][0]
    rows: list[Row] = []
    for value, digests in answers:
        distinct = len(set(digests))
        verdict = "varies" if distinct > 1 else ("same" if digests[0] == reference else "moved")
        setting = "not set" if value is None else value
        rows.append((str(size), setting, len(digests), distinct, verdict, None, None))
    return rows


def fresh_digests(size: list[int], dtype: str, device: str, runs: int) -> list[str]:
    """In the fresh process: digests of the same product, run after run."""
    from detprobe import bits
    from detprobe.probes._gemm import Size, operands

    a, b = operands(Size(*size), getattr(torch, dtype), device)
    return [bits.digest(torch.mm(a, b)) for _ in range(runs)]
