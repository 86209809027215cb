"""`atomic_add`: the same numbers added up again and again by additions that happen in the order of arrival."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from detprobe import ops
from detprobe.checks import check_number
from detprobe.errors import ArgumentValueError, NotAvailableError
from detprobe.probe_report import Cell, Column, Histogram, ProbeReport, Table
from detprobe.probes._arrival import alternations, arrival_order, kendall_tau
from detprobe.probes._common import (
    Progress,
    Writer,
    check_device,
    check_dtype,
    check_runs,
    ticking,
    untouched,
)
from detprobe.probes._memory import out_of_memory
from detprobe.probes._native import TYPES, emulated, emulator, native
from detprobe.probes._spread import Spread, spread, ulps
from detprobe.result import bound

__all__ = ["atomic_add", "quick"]

_Op = Callable[[torch.Tensor, int], torch.Tensor]
_QUESTION = "Does a sum by atomic additions give the same bits twice?"
_BLOCK = 256  # of the kernel
_MOST_BLOCKS = 4096  # whose order is compared; of more, as many evenly spaced ones
_LADDER_RUNS = 10
_LADDER_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def atomic_add(
    *,
    n: int | None = None,
    bins: int = 1,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    runs: int = 50,
    seed: int = 0,
    ladders: bool = True,
    progress: bool | Progress | None = None,
) -> ProbeReport:
    """Add up the same numbers `runs` times, each by an atomic addition, and compare the results bit by bit.

    On a GPU by a CUDA kernel, as scatter_add works; on the CPU by threads with compare-exchange; on the emulator by the
    CUDA kernel under the schedules seed, seed + 1, ..., which repeat. Beside it the sum in a fixed order
    (`detprobe.ops.sum`) and the sum rounded once (`detprobe.ops.exact_sum`), as often.

    Example:
        >>> report = detprobe.probes.atomic_add(n=1 << 16, device="cpu")
        >>> report.free
        True

    Args:
        n: how many numbers, normally distributed; 2**20, on the emulator 2**12.
        bins: how many sums they go to: number i is added to sum i % bins. One bin is the most contention.
        dtype: float16, bfloat16, float32 or float64, of numbers and sums alike.
        device: "cpu", "cuda", "cuda:1" or "emulator"; the GPU where there is one, and else the CPU.
        runs: sums to compare, at least 2.
        seed: of the numbers, and the first schedule of the emulator.
        ladders: also vary size, bins and dtype, one at a time.
        progress: True for a bar on stderr, or a callable (done, total, text).

    Returns:
        A `ProbeReport`; `free` says whether two sums differed.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument that cannot be used.
        NotAvailableError: no such device, a build without CUDA, or not enough memory for n.
    """
    where = check_device(device)
    if n is None:
        n = 1 << 12 if where == "emulator" else 1 << 20
    check_number("n", n, int, 1, "there is nothing to add up in no numbers")
    check_number("bins", bins, int, 1, "every number goes to a sum")
    check_number("seed", seed, int, 0, "a seed is not negative")
    check_runs(runs)
    check_dtype(dtype, tuple(TYPES))
    if bins > n:
        raise ArgumentValueError(f"bins: expected at most n = {n}, got {bins}: the rest would stay empty")
    native()  # says so at once when it is not there
    writer = Writer(
        "atomic_add", _QUESTION, where, n=n, bins=bins, dtype=_name(dtype), runs=runs, seed=seed, ladders=ladders
    )
    rungs = _rungs(n, bins, dtype) if ladders else []
    with untouched(), ticking(progress, "atomic_add") as tick:
        try:
            tick(0, len(rungs) + 2, f"{runs} sums of {n} numbers")
            raced = _race(where, n, bins, dtype, runs, seed)
            tick(1, len(rungs) + 2, "the same in a fixed order")
            fixed = _repeated(where, raced.x, bins, runs, seed, ops.sum)
            exact = _repeated(where, raced.x, bins, runs, seed, ops.exact_sum)
            ladder = []
            for at, rung in enumerate(rungs):
                tick(at + 2, len(rungs) + 2, f"by {rung[0]}")
                ladder.append(_climbed(where, rung, min(runs, _LADDER_RUNS), seed))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise NotAvailableError(f"n: {n} numbers do not fit into the memory of {where}: take fewer") from None
    return _report(writer, raced, fixed, exact, ladder)


def quick(device: str, progress: Progress) -> ProbeReport:
    """A form of a few seconds, for `run_all`."""
    n = 1 << 11 if device == "emulator" else 1 << 18
    return atomic_add(n=n, device=device, runs=20, progress=progress)


_Rung = tuple[str, int, int, torch.dtype]


def _rungs(n: int, bins: int, dtype: torch.dtype) -> list[_Rung]:
    """(what is varied, n, bins, dtype), each value once."""
    sizes = [size for size in (n // 256, n // 16, n) if size >= max(2, bins)]
    places = sorted({count for count in (1, 16, 256, 4096, bins) if count <= n})
    return [
        *(("size", size, bins, dtype) for size in sizes),
        *(("bins", n, count, dtype) for count in places),
        *(("dtype", n, bins, kind) for kind in _LADDER_TYPES),
    ]


def _climbed(where: str, rung: _Rung, runs: int, seed: int) -> tuple[Cell, ...]:
    """A row of the ladders' table."""
    what, n, bins, dtype = rung
    raced = _race(where, n, bins, dtype, runs, seed)
    s = spread(raced.sums)
    return (what, n, bins, _name(dtype), s.runs, s.distinct, s.ulp, s.gap, 1e3 * raced.seconds)


@dataclass(frozen=True)
class _Raced:
    x: torch.Tensor
    """[n] of the dtype, on the device."""
    sums: torch.Tensor
    """[runs, bins] of the dtype, on the CPU."""
    tickets: torch.Tensor
    """[runs, blocks] int32, on the CPU: the number that each block drew when it began to add."""
    seconds: float
    """Of one sum, s: the median."""
    threads: int
    """That added on the CPU; 0 elsewhere."""


def _race(where: str, n: int, bins: int, dtype: torch.dtype, runs: int, seed: int) -> _Raced:
    # In float64 first: float32 numbers in a float64 sum would leave nothing to round.
    x = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    if where == "cpu":
        return _race_on_cpu(x, bins, runs)
    if where == "emulator":
        return _race_on_emulator(x, bins, runs, seed)
    return _race_on_cuda(x.to(where), bins, runs)


def _race_on_cpu(x: torch.Tensor, bins: int, runs: int) -> _Raced:
    threads = max(2, torch.get_num_threads())
    # Small enough for the threads to take turns, and not so many that the tickets are what takes the time. Odd, so that
    # a bin is not always of the same thread's chunks.
    chunk = max(16, -(-x.numel() // _MOST_BLOCKS)) | 1
    sums = torch.empty((runs, bins), dtype=x.dtype)
    tickets = torch.empty((runs, -(-x.numel() // chunk)), dtype=torch.int32)
    seconds = torch.empty(runs, dtype=torch.float64)
    native().atomic_add_threads(
        type=TYPES[x.dtype],
        x=x.data_ptr(),
        n=x.numel(),
        bins=bins,
        threads=threads,
        chunk=chunk,
        runs=runs,
        sums=sums.data_ptr(),
        tickets=tickets.data_ptr(),
        seconds=seconds.data_ptr(),
    )
    return _Raced(x, sums, tickets, median(seconds.tolist()), threads)


def _race_on_emulator(x: torch.Tensor, bins: int, runs: int, seed: int) -> _Raced:
    sums = torch.empty((runs, bins), dtype=x.dtype)
    tickets = torch.empty((runs, -(-x.numel() // _BLOCK)), dtype=torch.int32)
    seconds = []
    for run in range(runs):
        start = time.perf_counter()
        emulator().atomic_add(
            x=x.data_ptr(),
            n=x.numel(),
            bins=bins,
            type=TYPES[x.dtype],
            sums=sums[run].data_ptr(),
            tickets=tickets[run].data_ptr(),
            seed=seed + run,
        )
        seconds.append(time.perf_counter() - start)
    return _Raced(x, sums, tickets, median(seconds), 0)


def _race_on_cuda(x: torch.Tensor, bins: int, runs: int) -> _Raced:
    if not native().cuda:
        raise NotAvailableError(
            "device cuda: detprobe was built without CUDA: build it with DETPROBE_CUDA=1 against a CUDA torch"
        )
    # One number more: a 16-bit sum may be exchanged with the half word behind it.
    memory = torch.empty(runs * bins + 1, dtype=x.dtype, device=x.device)
    tickets = torch.empty((runs, -(-x.numel() // _BLOCK)), dtype=torch.int32, device=x.device)
    following = torch.empty(1, dtype=torch.int32, device=x.device)
    seconds = []
    with torch.cuda.device(x.device):
        for run in range(runs):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            native().atomic_add_cuda(
                type=TYPES[x.dtype],
                x=x.data_ptr(),
                n=x.numel(),
                bins=bins,
                sums=memory[run * bins :].data_ptr(),
                tickets=tickets[run].data_ptr(),
                next=following.data_ptr(),
                stream=torch.cuda.current_stream().cuda_stream,
            )
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
    return _Raced(x, memory[: runs * bins].view(runs, bins).cpu(), tickets.cpu(), median(seconds), 0)


def _repeated(where: str, x: torch.Tensor, bins: int, runs: int, seed: int, op: _Op) -> tuple[torch.Tensor, float]:
    """The same sums by one of detprobe's ops: [runs, bins] on the CPU, and the seconds of one."""
    # -0.0 changes no sum, not even one of -0.0 alone.
    full = torch.nn.functional.pad(x, (0, -x.numel() % bins), value=-0.0).view(-1, bins)
    results, seconds = [], []
    threads = torch.get_num_threads()
    for run in range(runs):
        start = time.perf_counter()
        if where == "emulator":
            with emulated(seed + run):
                found = op(full, 0)
        else:
            if where == "cpu":
                torch.set_num_threads(1 + run % max(2, threads))  # the order is the same for every number of threads
            found = op(full, 0)
        results.append(found.cpu())
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return torch.stack(results), median(seconds)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _report(
    writer: Writer,
    raced: _Raced,
    fixed: tuple[torch.Tensor, float],
    exact: tuple[torch.Tensor, float],
    ladder: Sequence[tuple[Cell, ...]],
) -> ProbeReport:
    seen = spread(raced.sums)
    true = exact[0][0]
    by = [("atomic", raced.sums, raced.seconds), ("fixed order", *fixed), ("exact", *exact)]
    rows = [(name, spread(sums), _farthest(sums, true), seconds) for name, sums, seconds in by]
    results = Table(
        "results",
        (
            *(Column("sum"), Column("runs"), Column("distinct"), Column("commonest", "%"), Column("apart", "ULP")),
            *(Column("apart"), Column("off exact", "ULP"), Column("time", "ms")),
        ),
        tuple((name, s.runs, s.distinct, 100 * s.common, s.ulp, s.gap, far, 1e3 * t) for name, s, far, t in rows),
    )
    tables = [results]
    free = seen.distinct > 1
    findings = [_main_finding(raced, seen)]
    findings += [
        f"{what}: {s.distinct} result{'s' if s.distinct > 1 else ''} in {s.runs} runs."
        for what, (_, s, _, _) in zip(("In a fixed order", "Exact, rounded once"), rows[1:], strict=True)
    ]
    notes = []
    if raced.tickets.shape[1] > 1:
        arrival, sentence = _arrival(raced)
        tables.append(arrival)
        findings.append(sentence)
    if raced.threads and len(os.sched_getaffinity(0)) < 2:
        notes.append(
            f"One core for {raced.threads} threads: they do not add at the same time, and mostly come one after the "
            "other. A machine with more cores shows more results."
        )
    if ladder:
        tables.append(_ladder_table(ladder))
    place = int(ulps(raced.sums, true).abs().amax(0).argmax())
    of_place = f" in bin {place}" if raced.sums.shape[1] > 1 else ""
    picture = []
    if bool(raced.sums.isfinite().all()):
        picture.append(
            Histogram.of(
                f"results of atomic additions{of_place}",
                ulps(raced.sums[:, place], true[place]).tolist(),
                unit="ULP from the exact sum",
                marks=[("fixed order", float(ulps(fixed[0][0, place], true[place])))],
            )
        )
    return writer.report(free=free, findings=findings, tables=tables, figures=picture, notes=notes)


def _main_finding(raced: _Raced, seen: Spread) -> str:
    x, many = raced.x, raced.sums.shape[1]
    what = f"{seen.runs} sums of the same {x.numel()} {_name(x.dtype)} numbers" + (
        f" into {many} bins" if many > 1 else ""
    )
    if seen.distinct == 1:
        return (
            f"{what} gave one result: another one comes with p <= {bound(seen.runs):.2g} per run, at 95 % confidence."
        )
    apart = "with NaN among them" if seen.ulp is None else f"up to {seen.ulp} ULP ({seen.gap:.3g}) apart"
    return f"{what} gave {seen.distinct} results, {apart}."


def _farthest(sums: torch.Tensor, true: torch.Tensor) -> int | None:
    return int(ulps(sums, true).abs().max()) if bool(sums.isfinite().all() and true.isfinite().all()) else None


def _arrival(raced: _Raced) -> tuple[Table, str]:
    """How alike the orders of successive runs are."""
    blocks = raced.tickets.shape[1]
    step = -(-blocks // _MOST_BLOCKS)
    tickets = [row[::step].tolist() for row in raced.tickets]
    orders = [arrival_order(row) for row in tickets]
    taus = [kendall_tau(a, b) for a, b in itertools.pairwise(tickets)]
    different = len(Counter(map(tuple, orders)))
    columns = [
        *(Column("blocks"), Column("orders"), Column("runs"), Column("tau, least", digits=4)),
        *(Column("tau, median", digits=4), Column("tau, most", digits=4)),
    ]
    cells = [blocks, different, len(orders), min(taus), median(taus), max(taus)]
    said = f"{different} orders of arrival in {len(orders)} runs; Kendall's tau between successive ones is "
    said += f"{min(taus):.3g} to {max(taus):.3g} (1 is the same order)."
    if raced.threads:
        columns.append(Column("turns, median"))
        cells.append(int(median(alternations(order, raced.threads) for order in orders)))
    return Table("order of arrival, successive runs compared", tuple(columns), (tuple(cells),)), said


def _ladder_table(rows: Sequence[tuple[Cell, ...]]) -> Table:
    columns = ("varied", "n", "bins", "dtype", "runs", "distinct")
    return Table(
        "ladders: one thing varied at a time",
        (*map(Column, columns), Column("apart", "ULP"), Column("apart"), Column("time", "ms")),
        tuple(rows),
    )
