"""`detprobe bench`: what detprobe's ops cost on this machine, beside torch's, in the same run."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

from detprobe.cli.output import check_writable
from detprobe.errors import ArgumentValueError, NotAvailableError

__all__ = ["add_to"]

_CAPABILITIES = {
    "baseline": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}

_EPILOG = """\
exit codes: 0 measured, 2 usage, 3 not available on this machine. A target that is missed is printed, and is no error.

example: detprobe bench reductions --quick --only sum,softmax --json bench.json --plot bench.png"""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure speed, error and memory of detprobe's ops beside torch's",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("suites", nargs="*", metavar="SUITE", help="reductions, scatter; both without a name")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    add("--quick", action="store_true", help="small sizes and short timings, for a first look")
    add("--only", default="", metavar="NAME,...", help="these ops (--list shows them)")
    add("--threads", type=int, metavar="N", help="of the CPU; default: torch's")
    add("--capability", choices=tuple(_CAPABILITIES), help="instructions of the CPU that detprobe and torch may use")
    add("--json", metavar="F", help="write the numbers as JSON too; - for stdout, and the tables to stderr")
    add("--plot", metavar="F", help="draw speed and share of the bandwidth too (.png, .svg, .pdf); needs matplotlib")
    add("--list", action="store_true", help="list the suites and their ops")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    for path in (arguments.json, arguments.plot):
        check_writable(path)
    if arguments.threads is not None and arguments.threads < 1:
        raise ArgumentValueError(f"--threads: expected at least 1, got {arguments.threads}")
    import torch

    from detprobe.bench import _plot, _suites
    from detprobe.conditions import threads

    if arguments.list:
        for suite in _suites.SUITES:
            print(f"{suite.name}: {suite.about}")
            print(textwrap.fill(", ".join(suite.ops), 100, initial_indent="  ", subsequent_indent="  "))
        return 0
    only = [name.strip() for name in arguments.only.split(",") if name.strip()]
    wanted = _suites.chosen(arguments.suites, only)
    if arguments.plot:
        _plot.check(arguments.plot)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise NotAvailableError("--device cuda: torch finds no GPU here")
    if arguments.capability:
        _restrict(arguments.capability)
    say = partial(print, file=sys.stderr if arguments.json == "-" else sys.stdout, flush=True)
    with threads(arguments.threads or torch.get_num_threads()):
        keep = partial(_keep, arguments)
        _suites.measure(wanted, device=arguments.device, quick=arguments.quick, say=say, keep=keep)
    return 0


def _restrict(capability: str) -> None:
    """Start this process anew, by its own command line, unless its environment says `capability` already.

    Libraries look once, when they are loaded. A new process image, and not a child: control-C has one to go to.
    """
    limits = {**_CAPABILITIES[capability], "DETPROBE_CPU": capability}
    if any(os.environ.get(name) != value for name, value in limits.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **limits})


def _keep(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write the files; of a run that was broken off the JSON alone, where there are rows to keep."""
    tables = {name: found.get("rows", []) for name, found in result["suites"].items()}
    rows, complete = sum(map(len, tables.values())), result["complete"]
    if arguments.json and (rows or complete):
        text = json.dumps(result, indent=1, allow_nan=False) + "\n"
        if arguments.json == "-":
            sys.stdout.write(text)
        else:
            Path(arguments.json).write_text(text, encoding="utf-8", newline="\n")
            if not complete:
                print(f"detprobe: {arguments.json} holds the {rows} rows that were measured", file=sys.stderr)
    if arguments.plot and rows and complete:
        from detprobe.bench import _machine, _plot

        _plot.write(tables, _machine.title(result["environment"], result["device"]), arguments.plot)
