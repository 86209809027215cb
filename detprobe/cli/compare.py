"""`detprobe compare`: run two commands on the same seeds, and say whether the change or the randomness made the
difference."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from detprobe.cli.output import check_writable, show
from detprobe.errors import ArgumentValueError
from detprobe.verdict_report import Run, pairs

__all__ = ["add_to"]

_EPILOG = """\
A command writes a JSON object of numbers to the file that stands for {json}; a text "digest" in it, made with
detprobe.verdict.state_digest(model), is what INERT is judged by. Runs go to the --out file as they end. Start the same
command again, after an interruption or with more --runs, and only what is missing runs; each verdict on more pairs is a
further look, and is paid for.

exit codes: 0 no difference shown (INERT, NOISE, UNDECIDED), 1 REAL, 2 usage

example: detprobe compare --runs 10 --metric acc --min-effect 0.2 \\
             --a "python train.py --seed {seed} --out {json}" --b "python train.py --lr 0.02 --seed {seed} --out {json}"
         detprobe compare detprobe-compare.jsonl --metric loss --lower-better"""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="say whether a change or the randomness made the difference",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("results", nargs="?", metavar="FILE", help="judge the runs of this file, and run nothing")
    add("--a", metavar="COMMAND", help="with {seed} and {json}")
    add("--b", metavar="COMMAND", help="the changed one")
    add("--runs", type=int, default=10, metavar="N", help="seeds 0 to N - 1 (default 10)")
    add("--metric", required=True, metavar="NAME", help="what to judge; all metrics are kept")
    add("--min-effect", type=float, metavar="X", help="the smallest difference that matters, in units of the metric")
    add("--lower-better", action="store_true", help="the metric is a loss")
    add("--timeout", type=float, metavar="S", help="seconds after which a run is ended and left out")
    add("--out", default="detprobe-compare.jsonl", metavar="F", help="where runs are kept (default %(default)s)")
    add("--json", metavar="F", help="write the verdict as JSON too; - for stdout instead of the text")
    add("--html", metavar="F", help="write the verdict as one HTML file too")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    from detprobe import environment
    from detprobe.report.progress import ticking
    from detprobe.verdict._commands import check_command, run_command
    from detprobe.verdict._conclude import conclude
    from detprobe.verdict._results import open_results
    from detprobe.verdict._schedule import run_missing

    commands = {"A": arguments.a, "B": arguments.b}
    if arguments.results is None:
        for side, command in commands.items():
            check_command(f"--{side.lower()}", command)
    with open_results(arguments.results or arguments.out, create=arguments.results is None) as results:
        for note in results.notes:
            print(f"detprobe: {note}", file=sys.stderr)
        if arguments.results is None:
            results.start(arguments.a, arguments.b)
            kept = results.kept
            if kept:
                said = f"{len(kept)} runs are kept from {arguments.out}; remove it if the code has changed since"
                print(f"detprobe: {said}", file=sys.stderr)

            def run(side: str, seed: int, repeat: bool) -> Run:
                first = all(one.failure for one in results.runs)
                made = run_command(commands[side], side, seed, repeat, arguments.timeout)
                results.add(made)
                if first and made.metrics and arguments.metric not in made.metrics:  # before hours of it
                    raise ArgumentValueError(
                        f"--metric: expected one that the commands write, got {arguments.metric!r}: {side} on seed "
                        f"{seed} wrote {', '.join(map(repr, made.metrics))}; its run is kept in {arguments.out}"
                    )
                return made

            before = signal.signal(signal.SIGTERM, _stop)  # commands have sessions of their own, and would live on
            try:
                with ticking(sys.stderr.isatty(), "comparing") as tick:
                    run_missing(range(arguments.runs), kept, run, tick)
            finally:
                signal.signal(signal.SIGTERM, before)
        runs = results.latest
        found = conclude(
            runs,
            a=results.a,
            b=results.b,
            metrics=[arguments.metric],
            min_effects={} if arguments.min_effect is None else {arguments.metric: arguments.min_effect},
            lower_better=[arguments.metric] if arguments.lower_better else [],
            looks=results.look(len(pairs(runs, arguments.metric))),
            environment=environment.read(),
        )
    show(found, json=arguments.json, html=arguments.html)
    return 1 if found.real else 0


def _check(arguments: argparse.Namespace) -> None:
    commands = arguments.a is not None, arguments.b is not None
    if arguments.results is None and not all(commands):
        raise ArgumentValueError("expected --a and --b, or a file of results: see `detprobe compare --help`")
    if arguments.results is not None and any(commands):
        raise ArgumentValueError("expected --a and --b, or a file of results, got both: to go on with a file use --out")
    if arguments.runs < 1:
        raise ArgumentValueError(f"--runs: expected at least 1, got {arguments.runs}")
    for name, value in (("--min-effect", arguments.min_effect), ("--timeout", arguments.timeout)):
        if value is not None and not 0 < value < math.inf:
            raise ArgumentValueError(f"{name}: expected a finite number above 0, got {value}")
    for path in (arguments.json, arguments.html):
        check_writable(path)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
