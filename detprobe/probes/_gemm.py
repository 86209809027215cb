"""`gemm`: what a matrix product's bits depend on besides its numbers.

Each question is a function from products to rows; those that only CUDA has are in `_gemm_cuda`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from detprobe.checks import check_number
from detprobe.conditions import threads
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probe_report import Cell, ProbeReport, Table
from detprobe.probes import _gemm_cuda
from detprobe.probes._common import Progress, Writer, check_device, check_dtype, check_runs, ticking, untouched
from detprobe.probes._outcomes import columns, gather, row

__all__ = ["Size", "batch_rows", "gemm", "layout_rows", "repeat_rows", "thread_rows"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_QUESTION = "Do the batch size, threads, layout or library settings decide the bits of a matrix product?"
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Row = tuple[Cell, ...]


class Size(NamedTuple):
    """a [m, k] times b [k, n]."""

    m: int
    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.m} x {self.k} x {self.n}"


SIZES = (Size(8, 64, 64), Size(64, 256, 256), Size(256, 512, 512), Size(128, 1024, 64), Size(32, 4096, 128))


def gemm(
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    sizes: Sequence[tuple[int, int, int]] = SIZES,
    runs: int = 5,
    progress: bool | Progress | None = None,
) -> ProbeReport:
    """Ask what moves the bits of torch.mm on this device, where the numbers are the same.

    Example:
        >>> print(detprobe.probes.gemm(device="cpu"))

    Args:
        device: "cpu" or "cuda"; the GPU where there is one, and else the CPU.
        dtype: float32, float64, bfloat16 or float16.
        sizes: (m, k, n) each: a [m, k] times b [k, n].
        runs: results per setting, at least 2.
        progress: True for a bar on stderr, or a callable (done, total or None, text).

    Returns:
        A report with a table per question: repeats, the batch (a row alone against the same row in its batch), layout,
        threads (CPU); streams, TF32, reduced-precision reductions and cuBLAS workspaces (CUDA, the last in fresh
        processes). "varies": the runs differ among themselves; "moved": they agree, on other bits than the plain
        product; "same".

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument cannot be used.
        NotAvailableError: the device is not there. Flags and thread count are afterwards what they were.
    """
    where = check_device(device, ("cpu", "cuda"))
    check_dtype(dtype, DTYPES)
    check_runs(runs)
    chosen = _check_sizes(sizes)
    cuda = where != "cpu"
    name = str(dtype).removeprefix("torch.")
    settings = {"dtype": name, "sizes": [str(size) for size in chosen], "runs": runs}
    writer = Writer("gemm", _QUESTION, where, **settings, threads=torch.get_num_threads())
    questions: list[tuple[str, Callable[..., list[Row]]]] = [
        ("The same product again", repeat_rows),
        ("A part of the batch alone, against the same rows of the whole", batch_rows),
        ("Operands in another layout", layout_rows),
        *(_gemm_cuda.questions(where, dtype) if cuda else [("Other thread counts", thread_rows)]),
    ]
    tables, notes = [], []
    with untouched(), torch.no_grad(), ticking(progress, "probing") as tick:
        problems = [(size, *operands(size, dtype, where)) for size in chosen]
        for at, (title, ask) in enumerate(questions):
            rows: list[Row] = []
            asked = [max(problems, key=_work)] if title in _gemm_cuda.ONCE else problems
            for i, (size, a, b) in enumerate(asked):
                tick(at * len(problems) + i, len(questions) * len(problems), title)
                try:
                    rows += ask(size, a, b, runs)
                except NotAvailableError as error:
                    notes.append(f"{title}: {error}")
                    break
            if rows:
                tables.append(Table(title, columns("m x k x n"), tuple(rows)))
    return writer.report(free=any(map(_is_free, tables)), findings=_findings(tables), tables=tables, notes=notes)


def operands(size: Size, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal numbers, drawn on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(size.m + size.k + size.n)
    a = torch.randn((size.m, size.k), generator=generator, dtype=torch.float64)
    b = torch.randn((size.k, size.n), generator=generator, dtype=torch.float64)
    return a.to(device, dtype), b.to(device, dtype)


def repeat_rows(size: Size, a: torch.Tensor, b: torch.Tensor, runs: int, product: Product = torch.mm) -> list[Row]:
    return [row(str(size), "nothing changed", gather(lambda: product(a, b), runs))]


def batch_rows(size: Size, a: torch.Tensor, b: torch.Tensor, runs: int, product: Product = torch.mm) -> list[Row]:
    """The first rows as a product of their own, against the first rows of the whole product."""
    rows = []
    for part in sorted({1, 2, size.m // 2} - {0, size.m}):
        whole = gather(lambda part=part: product(a, b)[:part].contiguous(), 1)  # type: ignore[misc]
        alone = gather(lambda part=part: product(a[:part], b), runs, whole)  # type: ignore[misc]
        rows.append(row(str(size), f"{part} of {size.m} rows", alone))
    return rows


def layout_rows(size: Size, a: torch.Tensor, b: torch.Tensor, runs: int, product: Product = torch.mm) -> list[Row]:
    """The same values in column-major memory."""
    plain = gather(lambda: product(a, b), 1)
    a_t, b_t = a.t().contiguous().t(), b.t().contiguous().t()
    ways = {"a transposed": (a_t, b), "b transposed": (a, b_t), "both transposed": (a_t, b_t)}
    return [
        row(str(size), name, gather(functools.partial(product, left, right), runs, plain))
        for name, (left, right) in ways.items()
    ]


def thread_rows(size: Size, a: torch.Tensor, b: torch.Tensor, runs: int, product: Product = torch.mm) -> list[Row]:
    plain = gather(lambda: product(a, b), 1)
    now = torch.get_num_threads()
    rows = []
    for count in sorted({1, 2, 4} - {now}):
        with threads(count):
            found = gather(lambda: product(a, b), runs, plain)
        rows.append(row(str(size), f"{count} instead of {now} threads", found))
    return rows


def _work(problem: tuple[Size, torch.Tensor, torch.Tensor]) -> int:
    size = problem[0]
    return size.m * size.k * size.n


def _is_free(table: Table) -> bool:
    """Whether the order was seen to move; another precision gives other bits in one order."""
    verdicts = {row[4] for row in table.rows}
    return "varies" in verdicts or ("moved" in verdicts and table.title not in _gemm_cuda.PRECISION)


def _findings(tables: Sequence[Table]) -> list[str]:
    said, fine = [], []
    for table in tables:
        other = [row for row in table.rows if row[4] != "same"]
        if other:
            worst = max((row for row in other), key=lambda row: row[6] if isinstance(row[6], int) else 0)
            varies = sum(row[4] == "varies" for row in other)
            also = f", {varies} of them from run to run" if varies else ""
            said.append(
                f"{table.title}: other bits in {len(other)} of {len(table.rows)} cases{also}; at most {worst[6]} ULP, "
                f"at {worst[0]}, {worst[1]}."
            )
        else:
            fine.append(f"{table.title}: the same bits in all {len(table.rows)} cases.")
    return said + fine


def _check_sizes(sizes: Any) -> list[Size]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not sizes:
        raise ArgumentTypeError(f"sizes: expected a list of (m, k, n), got {sizes!r:.80}")
    found = []
    for size in sizes:
        if not isinstance(size, tuple | list) or len(size) != 3:
            raise ArgumentValueError(f"sizes: expected (m, k, n) each, got {size!r:.80}")
        for name, value in zip("mkn", size, strict=True):
            check_number(f"sizes: {name}", value, int, 1, "a [m, k] times b [k, n]")
        found.append(Size(*size))
    return found
