"""Speed and memory of the scatter family of detprobe.ops against torch's functions, in the same run.

    python -m benchmarks.scatter                               # a CPU, about ten minutes
    python -m benchmarks.scatter --quick --only index_add,index_put
    python -m benchmarks.scatter --device cuda --json F --plot F

Both are called as a user calls them, without gradients, interleaved round by round: torch as it is ("torch"), torch in
its deterministic mode ("determ."), detprobe, and detprobe with a plan that was built before. Results are new tensors,
in both. Up the ladder of contention: each row gets one record ("unique"), 20 at random ("uniform"), by Zipf's law, all
go to one ("one hot").

"speed" is a ratio of median times, torch / detprobe: above 1, detprobe is faster. On a CPU torch is the faster of its
two modes; on a GPU it is the default one, and "determ. x" the same of the deterministic mode. "best" is the speed by
the shortest times: where the two disagree, the machine was not quiet. Targets are the project's own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from detprobe.bench import _measure, _memory, _plot
from detprobe.bench import _scatter_cases as table
from detprobe.bench._reduction_cases import Pool
from detprobe.bench._reductions import FORBIDDEN, free_bytes, read_environment, shown_time, title

Row = dict[str, Any]


def measure(case: table.Case, pool: Pool, budget: float) -> Iterator[Row]:
    """One row, and one more with the plan where the op takes one. Times in seconds."""
    device = pool.device
    functions = table.functions(case, pool)
    functions["deterministic"] = functions["torch"]
    times = _measure.interleaved(functions, device, budget)
    stock, forced = times["torch"], times.get("deterministic")
    faster = stock if device == "cuda" or forced is None else min(stock, forced, key=lambda timed: timed.median)
    for name, op in (("detprobe", case.op), ("plan", case.op + table.PLANNED)):
        if name not in times:
            continue
        mine = times[name]
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
        }
        aimed = device == "cuda" and row["target"] is not None and forced is not None
        row["deterministic_target"] = table.GPU_DETERMINISTIC if aimed else None
        row["met"] = met(row)
        yield row


def met(row: Row) -> bool | None:
    """Whether all targets of a row are met; None without any."""
    pairs = ((row["speed"], row["target"]), (row["deterministic_speed"], row["deterministic_target"]))
    aimed = [speed >= target for speed, target in pairs if target is not None]
    return all(aimed) if aimed else None


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def verdict(value: bool | None) -> str:
    return {None: "", True: "met", False: "MISSED"}[value]


def heading(device: str) -> str:
    last = f"{'determ. x':>11}{'target':>8}" if device == "cuda" else ""
    return (
        f"{'op':<32}{'index':<9}{'records':>8}{'D':>5} {'dtype':<9}{'torch':>9}{'determ.':>9}{'detprobe':>10}"
        f"{'speed':>8}{'best':>7}{'target':>8}{last}"
    )


def line(row: Row, device: str) -> str:
    forced = FORBIDDEN if row["deterministic"] is None else shown_time(row["deterministic"])
    last = f"{number(row['deterministic_speed']):>11}{number(row['deterministic_target']):>8}"
    return (
        f"{row['op']:<32}{row['layout']:<9}{row['records']:>8}{row['columns']:>5} {row['dtype']:<9}"
        f"{shown_time(row['torch']):>9}{forced:>9}{shown_time(row['detprobe']):>10}"
        f"{row['speed']:>8.2f}{row['best']:>7.2f}{number(row['target']):>8}{last if device == 'cuda' else ''}"
        f"  {verdict(row['met'])}"
    ).rstrip()


def speeds(device: str, only: list[str], quick: bool) -> list[Row]:
    chosen = [case for case in table.cases(quick, device) if case.op in only]
    fitting = [case for case in chosen if case.bytes_needed <= free_bytes(device) / 2]
    pool = Pool(device, max((case.elements for case in fitting), default=0))
    rows: list[Row] = []
    print(heading(device))
    for case in fitting:
        for row in measure(case, pool, 0.08 if quick else 0.6):
            rows.append(row)
            print(line(row, device), flush=True)
    if len(fitting) < len(chosen):
        print(f"{len(chosen) - len(fitting)} rows left out: they need more than half of the free memory")
    return rows


def memory(device: str, only: list[str], quick: bool) -> list[Row]:
    """What a call takes beside its inputs and its result. Bytes."""
    chosen = [case for case in table.memory_cases(quick) if case.op in only]
    pool = Pool(device, max((case.elements for case in chosen), default=0))
    rows = []
    print(f"\n{'memory beside the result':<32}{'index':<9}{'records':>8}{'D':>5}{'source':>12}", end="")
    print(f"{'torch':>12}{'detprobe':>12}{'bound':>12}{'of source':>11}")
    for case in chosen:
        functions = table.functions(case, pool)
        result = _bytes(functions["detprobe"]())
        peaks = {name: _memory.peak_bytes(function, device) for name, function in functions.items()}
        if None in peaks.values():
            print("not measured: this system does not tell the peak of a process")
            break
        bound = table.MEMORY * case.source_bytes + case.sort_bytes
        for name, op in (("detprobe", case.op), ("plan", case.op + table.PLANNED)):
            if name not in peaks:
                continue
            extra, stock = max(0, peaks[name] - result), max(0, peaks["torch"] - result)
            rows.append({"op": op, "layout": case.contention, "records": case.records, "columns": case.columns})
            rows[-1] |= {"source_bytes": case.source_bytes, "result_bytes": result, "torch_bytes": stock}
            rows[-1] |= {"detprobe_bytes": extra, "bound_bytes": bound, "met": extra <= bound}
            sizes = "".join(f"{size / 1e6:>9.2f} MB" for size in (case.source_bytes, stock, extra, bound))
            of_source = f"{extra / case.source_bytes:>9.2f} x"
            print(f"{op:<32}{case.contention:<9}{case.records:>8}{case.columns:>5}{sizes}{of_source}", end="")
            print(f"  {verdict(rows[-1]['met'])}", flush=True)
    return rows


def _bytes(result: Any) -> int:
    if isinstance(result, torch.Tensor):
        return result.nbytes
    return sum(part.nbytes for part in vars(result).values() if isinstance(part, torch.Tensor))  # a plan


def summary(rows: list[Row], taken: list[Row], device: str) -> str:
    """What was missed, and last of all the counts."""
    text = []
    aimed = [row for row in rows if row["met"] is not None]
    missed = [row for row in aimed if not row["met"]]
    if missed:
        text += ["", "missed:", heading(device), *(line(row, device) for row in missed)]
    refused = sorted({row["op"] for row in rows if row["deterministic"] is None})
    if refused:
        text += ["", f"torch raises in its deterministic mode: {', '.join(refused)}"]
    text += ["", f"targets of speed: {len(aimed) - len(missed)} met, {len(missed)} missed, of {len(rows)} rows"]
    fine = sum(row["met"] for row in taken)
    return "\n".join([*text, f"bound of memory: {fine} met, {len(taken) - fine} missed"])


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scatter", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="up to 1e5 records and 2e6 elements, short")
    parser.add_argument("--only", metavar="NAME,...", help="these ops: " + ", ".join(table.NAMES))
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU; default: torch's")
    parser.add_argument("--json", type=Path, metavar="F")
    parser.add_argument("--plot", type=Path, metavar="F", help="a picture; needs matplotlib")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else list(table.NAMES)
    if unknown := sorted(set(options.only) - set(table.NAMES)):
        parser.error(f"--only: expected names of {', '.join(table.NAMES)}, got {', '.join(unknown)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(3, "--device cuda: torch finds no GPU here\n")
    return options


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    values, device = read_environment(), options.device
    print(title(values, device) + "\n")
    rows = speeds(device, options.only, options.quick)
    taken = memory(device, options.only, options.quick)
    if options.json:
        result = {"environment": values, "device": device, "rows": rows, "memory": taken}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot and rows:
        print("\n" + _plot.write(rows, title(values, device), options.plot, over="columns"))
    print(summary(rows, taken, device))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
