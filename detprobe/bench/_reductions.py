"""Speed and error of detprobe.ops against torch's functions, in the same run.

    python -m benchmarks.reductions                            # a CPU, about four minutes
    python -m benchmarks.reductions --quick --only sum,softmax
    python -m benchmarks.reductions --capability avx2          # both without AVX-512: detprobe and torch
    python -m benchmarks.reductions --device cuda --json F --plot F

Both are called as a user calls them, without gradients unless the row says backward, interleaved round by round. The
speed is the ratio of median times, torch / detprobe: above 1, detprobe is faster. "best" is the same of the shortest
times: where the two disagree, the machine was not quiet. Targets are the project's own (_cases.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from detprobe.bench import _errors, _measure, _plot
from detprobe.bench import _reduction_cases as _cases
from detprobe import environment

CAPABILITIES = {
    "baseline": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
FORBIDDEN = "raises"


def again(capability: str, arguments: list[str]) -> int:
    """This run in a new process that may use no instructions above `capability`, neither in detprobe nor in torch."""
    env = {**os.environ, **CAPABILITIES[capability], "DETPROBE_CPU": capability}
    code = subprocess.run([sys.executable, "-m", "detprobe.bench._reductions", *arguments], env=env, check=False).returncode
    if code < 0:
        print(f"with --capability {capability} the run was ended by signal {-code}", file=sys.stderr)
    return abs(code)


def read_environment() -> dict[str, Any]:
    """detprobe.environment and the instructions that both use."""
    return {
        **environment.read(),
        "detprobe_cpu_capability": torch.ops.detprobe.cpu_capability(),
        **{name: os.environ[name] for name in ("DETPROBE_CPU", "MKL_ENABLE_INSTRUCTIONS") if name in os.environ},
    }


def title(values: dict[str, Any], device: str) -> str:
    where = values["cpu"] if device == "cpu" else ", ".join(values["gpus"])
    threads = f"{values['threads']} of {values['cores']} cores, " if device == "cpu" else ""
    instructions = f"detprobe {values['detprobe_cpu_capability']}, torch {values['cpu_capability']}, "
    return f"{where}, {threads}{instructions if device == 'cpu' else ''}torch {values['torch']}"


def measure(case: _cases.Case, pool: _cases.Pool, budget: float) -> dict[str, Any]:
    """One row. Times in seconds."""
    device = pool.device
    ours, stock = _cases.calls(case, pool)
    functions = {"detprobe": ours, "torch": stock}
    if device == "cuda":
        functions["deterministic"] = stock
    times = _measure.interleaved(functions, device, budget)
    mine, theirs = times["detprobe"], times["torch"]
    row: dict[str, Any] = {
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
        "target": _cases.target(case, device),
        "bytes_per_second": case.bytes_moved / mine.median,
    }
    row["met"] = None if row["target"] is None else row["speed"] >= row["target"]
    if device == "cuda":
        forced = times.get("deterministic")
        row["deterministic"] = None if forced is None else forced.median
    return row


def shown_time(seconds: float) -> str:
    for factor, unit in ((1e6, "us"), (1e3, "ms"), (1, "s")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.{2 if seconds * factor < 10 else 1 if seconds * factor < 100 else 0}f} {unit}"
    return f"{seconds:.0f} s"


def heading(device: str) -> str:
    middle = f"{'determ.':>9}" if device == "cuda" else ""
    return (
        f"{'op':<23}{'layout':<17}{'shape':<17}{'dtype':<9}{'torch':>9}{middle}{'detprobe':>10}{'speed':>8}{'best':>7}"
        f"{'target':>8}  {'':<8}{'of copy':>7}"
    )


def line(row: dict[str, Any], device: str, bandwidth: float) -> str:
    shape = "x".join(str(size) for size in row["shape"])
    verdict = {None: "", True: "met", False: "MISSED"}[row["met"]]
    target = "-" if row["target"] is None else f"{row['target']:.2f}"
    middle = ""
    if device == "cuda":
        middle = f"{FORBIDDEN if row['deterministic'] is None else shown_time(row['deterministic']):>9}"
    return (
        f"{row['op']:<23}{row['layout']:<17}{shape:<17}{row['dtype']:<9}{shown_time(row['torch']):>9}{middle}"
        f"{shown_time(row['detprobe']):>10}{row['speed']:>8.2f}{row['best']:>7.2f}{target:>8}  {verdict:<8}"
        f"{row['bytes_per_second'] / bandwidth:>7.0%}"
    )


def free_bytes(device: str) -> float:
    """Memory that may be used; infinite where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        text = Path("/proc/meminfo").read_text()
        return 1024 * int(text.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return float("inf")


def speeds(device: str, only: list[str], quick: bool, bandwidth: float) -> list[dict[str, Any]]:
    chosen = [case for case in _cases.cases(quick) if case.op in only]
    room = free_bytes(device) / 10  # two inputs, results of both, gradients, and what torch keeps meanwhile
    fitting = [case for case in chosen if case.bytes_in <= room]
    largest = max((case.elements for case in fitting), default=0)
    pool = _cases.Pool(device, largest)
    rows = []
    print(heading(device))
    for case in fitting:
        rows.append(measure(case, pool, 0.06 if quick else 0.4))
        print(line(rows[-1], device, bandwidth), flush=True)
    if len(fitting) < len(chosen):
        print(
            f"{len(chosen) - len(fitting)} rows left out: inputs of more than {room / 1e9:.1f} GB, 1/10 of free memory"
        )
    return rows


def errors(device: str, only: list[str], quick: bool) -> list[dict[str, Any]]:
    found = []
    if set(_cases.SUMS) & set(only):
        found += [error for error in _errors.of_sums(device, 10 if quick else 100) if error.op in only]
    if set(only) - set(_cases.SUMS):
        found += [error for error in _errors.of_others(device, 5 if quick else 20) if error.op in only]
    if found:
        print(f"\n{'error of':<15}{'input':<19}{'':<16}{'detprobe':>9}{'torch':>9}{'bound':>8}  {'in units of':<23}")
    for error in found:
        print(
            f"{error.op:<15}{error.input:<19}{error.statistic:<16}{error.detprobe:>9.3g}{error.torch:>9.3g}"
            f"{error.bound:>8.0f}  {error.unit:<23}{error.verdict}"
        )
    return [asdict(error) for error in found]


def summary(rows: list[dict[str, Any]], device: str, bandwidth: float) -> str:
    """What was missed, and last of all the count."""
    text = []
    aimed = [row for row in rows if row["target"] is not None]
    missed = [row for row in aimed if not row["met"]]
    if missed:
        text += ["", "missed:", heading(device), *(line(row, device, bandwidth) for row in missed)]
    if device == "cuda":
        sums = [
            row for row in rows if row["op"] in _cases.SUMS and row["layout"] == "full" and row["elements"] >= 10**8
        ]
        shares = ", ".join(f"{row['op']} {row['bytes_per_second'] / bandwidth:.0%}" for row in sums)
        text += ["", f"of the bandwidth of a copy, to reach {_cases.COPY_SHARE:.0%}: {shares or 'not measured'}"]
    return "\n".join([*text, "", f"targets: {len(aimed) - len(missed)} met, {len(missed)} missed, of {len(rows)} rows"])


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reductions", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="up to 1e6 elements, short")
    parser.add_argument("--only", metavar="NAME,...", help="these ops: " + ", ".join((*_cases.NAMES, *_cases.BACKWARD)))
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU; default: torch's")
    parser.add_argument("--capability", choices=tuple(CAPABILITIES), help="instructions of the CPU that both may use")
    parser.add_argument("--json", type=Path, metavar="F")
    parser.add_argument("--plot", type=Path, metavar="F", help="a picture; needs matplotlib")
    options = parser.parse_args(arguments)
    every = [*_cases.NAMES, *_cases.BACKWARD]
    options.only = options.only.split(",") if options.only else every
    if unknown := sorted(set(options.only) - set(every)):
        parser.error(f"--only: expected names of {', '.join(every)}, got {', '.join(unknown)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(3, "--device cuda: torch finds no GPU here\n")
    return options


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    if options.capability and os.environ.get("DETPROBE_CPU") != options.capability:
        return again(options.capability, arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    values, device = read_environment(), options.device
    print(title(values, device))
    bandwidth = _measure.copy_bandwidth(device, 10**7 if options.quick else 5 * 10**7)
    print(f"a copy in memory: {bandwidth / 1e9:.1f} GB/s, read and written\n")
    rows = speeds(device, options.only, options.quick, bandwidth)
    found = errors(device, options.only, options.quick)
    if options.json:
        result = {"environment": values, "device": device, "copy_bytes_per_second": bandwidth}
        options.json.write_text(json.dumps({**result, "rows": rows, "errors": found}, indent=1) + "\n")
    if options.plot and rows:
        print("\n" + _plot.write(rows, title(values, device), options.plot))
    print(summary(rows, device, bandwidth))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
