"""One convolution on every engine of cuDNN: each run repeatedly on the same data.

Tensors are torch's, on the device or, for a stand-in of cuDNN, on the CPU; so are the workspaces, which therefore go
back to torch's allocator whatever happens.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detprobe import bits
from detprobe.errors import NotAvailableError
from detprobe.probes._conv_problems import OPERATIONS, ConvProblem
from detprobe.probes._memory import out_of_memory
from detprobe.probes._native import native
from detprobe.probes._spread import Spread, spread

__all__ = ["CUDNN_TYPES", "Choice", "Row", "library", "open_session", "survey"]

CUDNN_TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 9}
_NAME = "libcudnn.so.9"


def library() -> str:
    """The cuDNN that torch has: that of the wheel beside it, its own, or the system's."""
    found: list[Path] = []
    try:
        spec = importlib.util.find_spec("nvidia.cudnn")
    except ModuleNotFoundError:  # no package `nvidia` at all
        spec = None
    if spec is not None and spec.submodule_search_locations is not None:
        found += [Path(folder) / "lib" / _NAME for folder in spec.submodule_search_locations]
    found.append(Path(torch.__file__).parent / "lib" / _NAME)
    return next((str(path) for path in found if path.is_file()), _NAME)


def open_session(file: str | None = None, stream: int = 0) -> Any:
    """A cuDNN handle (`detprobe._probes.Session`).

    Raises:
        NotAvailableError: no library, no GPU, or a library that is not cuDNN 9.
    """
    module = native()
    try:
        return module.Session(library() if file is None else file, stream)
    except module.CudnnError as error:
        raise NotAvailableError(f"conv needs cuDNN 9 and a GPU: {error}") from None


@dataclass(frozen=True)
class Row:
    """One way to compute one operation, and what came of it."""

    problem: str
    dtype: str
    layout: str
    operation: str
    engine: int
    source: str
    """"engine" with default knobs, or the heuristic that recommends it."""
    notes: str
    declared: bool
    """cuDNN declares it nondeterministic."""
    reduced: bool
    """For float32 data: it computes in TF32."""
    workspace: int | None
    """Bytes; None where it was refused before it could say."""
    seen: Spread | None
    seconds: float | None
    """Of the fastest run, s, with its launch."""
    says: str = ""
    """Why there is no result, in cuDNN's or torch's words."""

    @property
    def moved(self) -> bool:
        return self.seen is not None and self.seen.distinct > 1


@dataclass(frozen=True)
class Choice:
    """What a search like cudnn.benchmark can pick from: all ways that give a result, with or without TF32."""

    problem: str
    dtype: str
    """"float32", "float32 (TF32 on)", ..."""
    layout: str
    operation: str
    ways: int
    declared: int
    moved: int
    """Ways that gave more than one result."""
    distinct: int
    """First results that differ from each other."""
    ulp: int | None
    """Largest difference between two ways in one element, ULP."""
    relative: float | None
    """The same as |a - b|, divided by the largest |a|."""
    fastest: float
    fixed: float | None
    """Fastest of those that are not declared nondeterministic and did not move, s."""


def survey(
    session: Any,
    problem: ConvProblem,
    *,
    dtype: torch.dtype,
    layout: str,
    device: torch.device,
    runs: int,
    seed: int,
    limit: int,
) -> Iterator[tuple[list[Row], list[Choice]]]:
    """The rows of one operation after the other.

    Args:
        layout: "NCHW" or "NHWC".
        limit: the largest workspace that is tried, bytes.
    """
    try:
        x, w, g = (_laid_out(tensor, dtype, layout, device) for tensor in problem.tensors(seed))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        for operation in OPERATIONS:
            about = (problem.name, str(dtype).removeprefix("torch."), layout, operation)
            yield [_without(about, "out of memory")], []
        return
    # A transposed convolution is the data gradient of one whose input it gives.
    sides = (g, w, x) if problem.transposed else (x, w, g)
    kinds = (1, 0, 2) if problem.transposed else (0, 1, 2)
    for operation, kind in zip(OPERATIONS, kinds, strict=True):
        yield _operation(session, problem, operation, kind, sides, (dtype, layout), runs, limit)


def _without(about: tuple[str, str, str, str], says: str) -> Row:
    """The row of an operation that has no engine to tell of."""
    return Row(*about, -1, "", "", False, False, None, None, None, says)


def _operation(
    session: Any,
    problem: ConvProblem,
    operation: str,
    kind: int,
    sides: tuple[torch.Tensor, ...],
    form: tuple[torch.dtype, str],
    runs: int,
    limit: int,
) -> tuple[list[Row], list[Choice]]:
    dtype, layout = form
    about = (problem.name, str(dtype).removeprefix("torch."), layout, operation)
    dims = len(problem.size)
    try:
        plans = session.plans(
            operation=kind,
            sizes=[list(side.shape) for side in sides],
            strides=[list(side.stride()) for side in sides],
            stride=[problem.stride] * dims,
            padding=[problem.padding] * dims,
            dilation=[problem.dilation] * dims,
            type=CUDNN_TYPES[dtype],
            compute=CUDNN_TYPES[torch.float64 if dtype == torch.float64 else torch.float32],
        )
    except native().CudnnError as error:
        return [_without(about, f"not supported: {error}")], []
    gathered = [_Gathered(about, reduced) for reduced in (False, True)]
    rows = []
    for plan in plans:
        row, first = _try(plan, about, kind, sides, runs, limit)
        rows.append(row)
        if first is not None:
            for group in gathered:
                group.take(row, first)
    choices = [group.choice() for group in gathered if group.ways and (group.reduced is False or group.any_reduced)]
    return rows, choices


def _try(
    plan: Any, about: tuple[str, str, str, str], kind: int, sides: tuple[torch.Tensor, ...], runs: int, limit: int
) -> tuple[Row, torch.Tensor | None]:
    def row(workspace: int | None, seen: Spread | None, seconds: float | None, says: str) -> Row:
        notes = ", ".join([*plan.notes, *([f"knobs {plan.knobs}"] if plan.knobs else [])])
        declared, reduced = plan.nondeterministic, plan.reduced
        return Row(*about, plan.engine, plan.source, notes, declared, reduced, workspace, seen, seconds, says)

    if plan.refused:
        return row(None, None, None, f"not supported: {plan.refused}"), None
    if plan.workspace > limit:
        return row(plan.workspace, None, None, "workspace above the limit"), None
    computed = (2, 0, 1)[kind]  # y, x or w
    device = sides[computed].device
    try:
        scratch = torch.empty(max(1, plan.workspace), dtype=torch.uint8, device=device)
        results, seconds = [], []
        for _ in range(runs):
            # What a kernel leaves unwritten, or reads where it should write, shows.
            out = torch.full_like(sides[computed], torch.nan)
            places = [*sides[:computed], out, *sides[computed + 1 :]]
            _finish(device)
            start = time.perf_counter()
            plan.run(*(side.data_ptr() for side in places), scratch.data_ptr())
            _finish(device)
            seconds.append(time.perf_counter() - start)
            results.append(out)
        return row(plan.workspace, spread(results), min(seconds), ""), results[0]
    except (RuntimeError, MemoryError) as error:  # CudnnError is one, and so is what CUDA says
        says = "out of memory" if out_of_memory(error) else f"failed: {str(error).splitlines()[0]}"
        return row(plan.workspace, None, None, says), None


class _Gathered:
    """What the ways of one operation have in common, one result after the other: no result is kept."""

    def __init__(self, about: tuple[str, str, str, str], reduced: bool) -> None:
        self.about, self.reduced = about, reduced
        self.ways = self.declared = self.moved = 0
        self.any_reduced = False
        self.digests: set[str] = set()
        self.fastest: float | None = None
        self.fixed: float | None = None
        self.low: torch.Tensor | None = None
        self.high: torch.Tensor | None = None

    def take(self, row: Row, result: torch.Tensor) -> None:
        tf32 = row.reduced and row.dtype == "float32"
        if (tf32 and not self.reduced) or row.seen is None or row.seconds is None:
            return
        self.any_reduced = self.any_reduced or tf32
        self.ways += 1
        self.declared += row.declared
        self.moved += row.moved
        self.digests.add(bits.digest(result))
        self.low = result if self.low is None else torch.minimum(self.low, result)
        self.high = result if self.high is None else torch.maximum(self.high, result)
        self.fastest = min(row.seconds, self.fastest or row.seconds)
        if not row.declared and row.seen.distinct == 1:
            self.fixed = min(row.seconds, self.fixed or row.seconds)

    def choice(self) -> Choice:
        if self.low is None or self.high is None or self.fastest is None:
            raise RuntimeError("a choice of no ways")
        apart = bits.difference(self.low, self.high)
        largest = float(torch.maximum(self.low.abs(), self.high.abs()).max())
        problem, dtype, layout, operation = self.about
        return Choice(
            problem=problem,
            dtype="float32 (TF32 on)" if self.reduced else dtype,
            layout=layout,
            operation=operation,
            ways=self.ways,
            declared=self.declared,
            moved=self.moved,
            distinct=len(self.digests),
            ulp=apart.max_ulp if apart.count else 0,
            relative=(apart.max_abs or 0.0) / largest if largest > 0 else None,
            fastest=self.fastest,
            fixed=self.fixed,
        )


def _laid_out(tensor: torch.Tensor, dtype: torch.dtype, layout: str, device: torch.device) -> torch.Tensor:
    moved = tensor.to(device=device, dtype=dtype)
    if layout == "NCHW" or tensor.dim() == 3:
        return moved.contiguous()
    # By hand: torch calls a tensor with one channel contiguous in both layouts, and leaves its strides.
    order = (0, *range(2, tensor.dim()), 1)
    back = (0, tensor.dim() - 1, *range(1, tensor.dim() - 1))
    return moved.permute(order).contiguous().permute(back)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
