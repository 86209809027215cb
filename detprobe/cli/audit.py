"""`detprobe audit FILE.py:factory`: whether a DataLoader's data depends on the seed, and on nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from detprobe.cli import output, user_code
from detprobe.errors import ArgumentValueError

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("audit", help="build a DataLoader several times, and say what it gets wrong")
    parser.add_argument("target", help="FILE.py:factory or package.module:factory, called with seed=, num_workers=")
    parser.add_argument("--workers", type=int, default=2, help="compared with none and one (2)")
    parser.add_argument("--batches", type=int, default=8, help="how many of an epoch are looked at (8)")
    parser.add_argument("--json", metavar="FILE", help='write JSON; "-" prints it')
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from detprobe.seeding import audit_loader

    output.check_writable(arguments.json)
    factory = user_code.find(arguments.target, returns="a DataLoader")

    def make_loader(**options: Any) -> Any:
        try:
            return factory(**options)
        except (Exception, SystemExit) as error:
            raise ArgumentValueError(f"{arguments.target} raised {user_code.shown(error)}") from None

    audit = audit_loader(make_loader, workers=arguments.workers, batches=arguments.batches)
    sys.stdout.write(audit.to_json() if arguments.json == "-" else f"{audit}\n")
    if arguments.json not in (None, "-"):
        Path(arguments.json).write_text(audit.to_json(), encoding="utf-8")
    return 0 if audit.ok else 1
