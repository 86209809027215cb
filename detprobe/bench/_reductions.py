"""Speed and error of the reductions of detprobe.ops against torch's functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from detprobe.bench import _errors
from detprobe.bench import _reduction_cases as table
from detprobe.bench._machine import free_bytes
from detprobe.bench._measure import Bandwidth, Timed, interleaved
from detprobe.bench._pool import Pool
from detprobe.bench._run import FORBIDDEN, OF_COPY, Found, Row, Run, shown_number, shown_time, shown_verdict

__all__ = ["LEGEND", "fill", "row", "summary"]

LEGEND = f"""\
Both are called as a user calls them, without gradients unless the row says backward, interleaved round by round.
"speed" is the ratio of median times, torch / detprobe: above 1, detprobe is faster. "best" is the same of the shortest
times: where the two disagree, the machine was not quiet. Targets are the project's own.
{OF_COPY}"""


def row(case: table.Case, times: Mapping[str, Timed], device: str, bandwidth: Bandwidth) -> Row:
    """A line of the table from what was timed: "detprobe", "torch" and, on CUDA where it runs, "deterministic"."""
    mine, theirs = times["detprobe"], times["torch"]
    found: Row = {
        "op": case.op,
        "layout": case.layout,
        "shape": list(case.shape),
        "elements": case.elements,
        "dtype": str(case.dtype).removeprefix("torch."),
        "torch": theirs.median,
        "torch_best": theirs.least,
        "detprobe": mine.median,
        "detprobe_best": mine.least,
        "rounds": len(mine.rounds),
        "speed": theirs.median / mine.median,
        "best": theirs.least / mine.least,
        "target": table.target(case, device),
        "bytes_moved": case.bytes_moved,
        "share": bandwidth.share(case.bytes_moved, mine.median),
    }
    found["met"] = None if found["target"] is None else found["speed"] >= found["target"]
    if device == "cuda":
        forced = times.get("deterministic")
        found["deterministic"] = None if forced is None else forced.median
    return found


def fill(found: Found, run: Run) -> None:
    """Measure, print, and put the tables "rows" and "errors" into `found`."""
    _speeds(found.setdefault("rows", []), run)
    _accuracy(found.setdefault("errors", []), run)


def summary(found: Found, run: Run) -> str:
    """What was missed, and last of all the count."""
    rows, text = found["rows"], []
    aimed = [row for row in rows if row["target"] is not None]
    missed = [row for row in aimed if not row["met"]]
    if missed:
        text += ["missed:", _heading(run.device), *(_line(row, run.device) for row in missed), ""]
    if run.device == "cuda":
        sums = [row for row in rows if row["op"] in table.SUMS and row["layout"] == "full" and row["elements"] >= 10**8]
        shares = ", ".join(f"{row['op']} {row['share']:.0%}" for row in sums)
        text += [f"of the bandwidth of a copy, to reach {table.COPY_SHARE:.0%}: {shares or 'not measured'}", ""]
    return "\n".join([*text, f"targets: {len(aimed) - len(missed)} met, {len(missed)} missed, of {len(rows)} rows"])


def _heading(device: str) -> str:
    middle = f"{'determ.':>9}" if device == "cuda" else ""
    return (
        f"{'op':<23}{'layout':<17}{'shape':<17}{'dtype':<9}{'torch':>9}{middle}{'detprobe':>10}{'speed':>8}{'best':>7}"
        f"{'target':>8}{'of copy':>9}"
    )


def _line(row: Row, device: str) -> str:
    shape = "x".join(str(size) for size in row["shape"])
    middle = ""
    if device == "cuda":
        middle = f"{FORBIDDEN if row['deterministic'] is None else shown_time(row['deterministic']):>9}"
    return (
        f"{row['op']:<23}{row['layout']:<17}{shape:<17}{row['dtype']:<9}{shown_time(row['torch']):>9}{middle}"
        f"{shown_time(row['detprobe']):>10}{row['speed']:>8.2f}{row['best']:>7.2f}{shown_number(row['target']):>8}"
        f"{row['share']:>9.0%}  {shown_verdict(row['met'])}"
    ).rstrip()


def _speeds(rows: list[Row], run: Run) -> None:
    chosen = [case for case in table.cases(run.quick) if case.op in run.only]
    room = free_bytes(run.device) / 10  # two inputs, results of both, gradients, and what torch keeps meanwhile
    fitting = [case for case in chosen if case.bytes_in <= room]
    pool = Pool(run.device, max((case.elements for case in fitting), default=0))
    run.say(_heading(run.device))
    for case in fitting:
        ours, stock = table.calls(case, pool)
        functions = {"detprobe": ours, "torch": stock}
        if run.device == "cuda":
            functions["deterministic"] = stock
        times = interleaved(functions, run.device, 0.06 if run.quick else 0.4)
        rows.append(row(case, times, run.device, run.bandwidth))
        run.say(_line(rows[-1], run.device))
    if len(fitting) < len(chosen):
        left_out = len(chosen) - len(fitting)
        run.say(f"{left_out} rows left out: inputs of more than {room / 1e9:.1f} GB, 1/10 of free memory")


def _accuracy(rows: list[Row], run: Run) -> None:
    found: list[_errors.Error] = []
    if run.only & set(table.SUMS):
        found += _errors.of_sums(run.device, 10 if run.quick else 100)
    if run.only & {*table.NAMES} - {*table.SUMS, *table.BACKWARD, "exact_sum"}:
        found += _errors.of_others(run.device, 5 if run.quick else 20)
    found = [error for error in found if error.op in run.only]
    if found:
        run.say(f"\n{'error of':<15}{'input':<19}{'':<16}{'detprobe':>9}{'torch':>9}{'bound':>8}  {'in units of':<23}")
    for error in found:
        rows.append(asdict(error))
        run.say(
            f"{error.op:<15}{error.input:<19}{error.statistic:<16}{error.detprobe:>9.3g}{error.torch:>9.3g}"
            f"{error.bound:>8.0f}  {error.unit:<23}{error.verdict}"
        )
