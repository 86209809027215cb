"""Speed and memory of the scatter family of detprobe.ops against torch's functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from detprobe.bench import _scatter_cases as table
from detprobe.bench._machine import free_bytes
from detprobe.bench._measure import Bandwidth, Timed, interleaved
from detprobe.bench._memory import peak_bytes
from detprobe.bench._pool import Pool
from detprobe.bench._run import FORBIDDEN, OF_COPY, Found, Row, Run, shown_number, shown_time, shown_verdict

__all__ = ["LEGEND", "fill", "rows_of", "summary"]

LEGEND = f"""\
Both are called as a user calls them, without gradients, interleaved round by round: torch as it is ("torch"), torch in
its deterministic mode ("determ."), detprobe, and detprobe with a plan that was built before. Results are new tensors,
in both. Up the ladder of contention: each row gets one record ("unique"), 20 at random ("uniform"), by Zipf's law, all
go to one ("one hot").
"speed" is a ratio of median times, torch / detprobe: above 1, detprobe is faster. On a CPU torch is the faster of its
two modes; on a GPU it is the default one, and "determ. x" the same of the deterministic mode. "best" is the speed by
the shortest times: where the two disagree, the machine was not quiet. Targets are the project's own.
{OF_COPY}"""


def rows_of(case: table.Case, times: Mapping[str, Timed], device: str, bandwidth: Bandwidth) -> Iterator[Row]:
    """A line of the table from what was timed, and one more where "plan" is among it.

    torch's deterministic mode is not among it where torch raises.
    """
    stock, forced = times["torch"], times.get("deterministic")
    faster = stock if device == "cuda" or forced is None else min(stock, forced, key=lambda timed: timed.median)
    for name, op in (("detprobe", case.op), ("plan", case.op + table.PLANNED)):
        if name not in times:
            continue
        mine, moved = times[name], case.bytes_moved(planned=name == "plan")
        row: Row = {
            "op": op,
            "layout": case.contention,
            "records": case.records,
            "columns": case.columns,
            "rows": case.rows,
            "dtype": str(case.dtype).removeprefix("torch."),
            "torch": stock.median,
            "torch_best": stock.least,
            "deterministic": None if forced is None else forced.median,
            "deterministic_best": None if forced is None else forced.least,
            "detprobe": mine.median,
            "detprobe_best": mine.least,
            "rounds": len(mine.rounds),
            "speed": faster.median / mine.median,
            "best": faster.least / mine.least,
            "target": table.target(case, op, device),
            "deterministic_speed": None if forced is None else forced.median / mine.median,
            "bytes_moved": moved,
            "share": bandwidth.share(moved, mine.median),
        }
        aimed = device == "cuda" and row["target"] is not None and forced is not None
        row["deterministic_target"] = table.GPU_DETERMINISTIC if aimed else None
        row["met"] = _met(row)
        yield row


def _met(row: Row) -> bool | None:
    """Whether all targets of a row are met; None without any."""
    pairs = ((row["speed"], row["target"]), (row["deterministic_speed"], row["deterministic_target"]))
    aimed = [bool(speed >= target) for speed, target in pairs if target is not None]
    return all(aimed) if aimed else None


def fill(found: Found, run: Run) -> None:
    """Measure, print, and put the tables "rows" and "memory" into `found`."""
    _speeds(found.setdefault("rows", []), run)
    _memory(found.setdefault("memory", []), run)


def summary(found: Found, run: Run) -> str:
    """What was missed, and last of all the counts."""
    rows, taken, text = found["rows"], found["memory"], []
    aimed = [row for row in rows if row["met"] is not None]
    missed = [row for row in aimed if not row["met"]]
    if missed:
        text += ["missed:", _heading(run.device), *(_line(row, run.device) for row in missed), ""]
    refused = sorted({row["op"] for row in rows if row["deterministic"] is None})
    if refused:
        text += [f"torch raises in its deterministic mode: {', '.join(refused)}", ""]
    text += [f"targets of speed: {len(aimed) - len(missed)} met, {len(missed)} missed, of {len(rows)} rows"]
    fine = sum(row["met"] for row in taken)
    return "\n".join([*text, f"bound of memory: {fine} met, {len(taken) - fine} missed"])


def _heading(device: str) -> str:
    last = f"{'determ. x':>11}{'target':>8}" if device == "cuda" else ""
    return (
        f"{'op':<32}{'index':<9}{'records':>8}{'D':>5} {'dtype':<9}{'torch':>9}{'determ.':>9}{'detprobe':>10}"
        f"{'speed':>8}{'best':>7}{'target':>8}{last}{'of copy':>9}"
    )


def _line(row: Row, device: str) -> str:
    forced = FORBIDDEN if row["deterministic"] is None else shown_time(row["deterministic"])
    last = f"{shown_number(row['deterministic_speed']):>11}{shown_number(row['deterministic_target']):>8}"
    return (
        f"{row['op']:<32}{row['layout']:<9}{row['records']:>8}{row['columns']:>5} {row['dtype']:<9}"
        f"{shown_time(row['torch']):>9}{forced:>9}{shown_time(row['detprobe']):>10}"
        f"{row['speed']:>8.2f}{row['best']:>7.2f}{shown_number(row['target']):>8}{last if device == 'cuda' else ''}"
        f"{row['share']:>9.0%}  {shown_verdict(row['met'])}"
    ).rstrip()


def _speeds(rows: list[Row], run: Run) -> None:
    chosen = [case for case in table.cases(run.quick, run.device) if case.op in run.only]
    fitting = [case for case in chosen if case.bytes_needed <= free_bytes(run.device) / 2]
    pool = Pool(run.device, max((case.elements for case in fitting), default=0))
    run.say(_heading(run.device))
    for case in fitting:
        functions = table.functions(case, pool)
        functions["deterministic"] = functions["torch"]
        times = interleaved(functions, run.device, 0.08 if run.quick else 0.6)
        for row in rows_of(case, times, run.device, run.bandwidth):
            rows.append(row)
            run.say(_line(row, run.device))
    if len(fitting) < len(chosen):
        run.say(f"{len(chosen) - len(fitting)} rows left out: they need more than half of the free memory")


def _memory(rows: list[Row], run: Run) -> None:
    """What a call takes beside its inputs and its result."""
    chosen = [case for case in table.memory_cases(run.quick) if case.op in run.only]
    pool = Pool(run.device, max((case.elements for case in chosen), default=0))
    columns = f"{'source':>12}{'torch':>12}{'detprobe':>12}{'bound':>12}{'of source':>11}"
    run.say(f"\n{'memory beside the result':<32}{'index':<9}{'records':>8}{'D':>5}{columns}")
    for case in chosen:
        functions = table.functions(case, pool)
        result = _bytes(functions["detprobe"]())
        peaks: dict[str, int] = {}
        for name, function in functions.items():
            peak = peak_bytes(function, run.device)
            if peak is None:
                run.say("not measured: this system does not tell the peak of a process")
                return
            peaks[name] = peak
        bound = table.MEMORY * case.source_bytes + case.sort_bytes
        for name, op in (("detprobe", case.op), ("plan", case.op + table.PLANNED)):
            if name not in peaks:
                continue
            extra, stock = max(0, peaks[name] - result), max(0, peaks["torch"] - result)
            row: Row = {"op": op, "layout": case.contention, "records": case.records, "columns": case.columns}
            row |= {"source_bytes": case.source_bytes, "result_bytes": result, "torch_bytes": stock}
            row |= {"detprobe_bytes": extra, "bound_bytes": bound, "met": extra <= bound}
            rows.append(row)
            sizes = "".join(f"{size / 1e6:>9.2f} MB" for size in (case.source_bytes, stock, extra, bound))
            run.say(
                f"{op:<32}{case.contention:<9}{case.records:>8}{case.columns:>5}{sizes}"
                f"{extra / case.source_bytes:>9.2f} x  {shown_verdict(row['met'])}"
            )


def _bytes(result: Any) -> int:
    if isinstance(result, torch.Tensor):
        return result.nbytes
    return sum(part.nbytes for part in vars(result).values() if isinstance(part, torch.Tensor))  # a plan
