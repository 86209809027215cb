"""The command line: `detprobe scan`, `probe`, `audit`, `run`, `compare`, `bench`, `env`; also `python -m detprobe`.

Exit codes: 0 fine, 1 a finding, 2 usage (also: the user's own code raised), 3 not available on this machine;
`run` passes on the exit code of its script.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from detprobe.errors import DetprobeError, NotAvailableError

__all__ = ["main"]

FINE, FOUND, USAGE, NOT_AVAILABLE = range(4)
_BROKEN = 70  # sysexits.h: a bug of ours must not look like a finding
_INTERRUPTED = 130  # what a shell expects after control-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name must not break the report in a C locale
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except NotAvailableError as error:
        print(f"detprobe: {error}", file=sys.stderr)
        return NOT_AVAILABLE
    except DetprobeError as error:
        print(f"detprobe: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("detprobe: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `detprobe scan ... | head`: nobody reads on, and that is fine
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except Exception:
        traceback.print_exc()
        print("detprobe: this is a bug of detprobe; please report it with `detprobe env`", file=sys.stderr)
        return _BROKEN


def _parser() -> argparse.ArgumentParser:
    from detprobe import __version__
    from detprobe.cli import audit, bench, compare, env, probe, run, scan

    parser = argparse.ArgumentParser(
        prog="detprobe", description="Find, explain, fix and prove nondeterminism in PyTorch."
    )
    parser.add_argument("--version", action="version", version=f"detprobe {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    scan.add_to(commands)
    probe.add_to(commands)
    audit.add_to(commands)
    run.add_to(commands)
    compare.add_to(commands)
    bench.add_to(commands)
    env.add_to(commands)
    return parser
