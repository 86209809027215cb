"""`detprobe env`: what a bug report needs."""

from __future__ import annotations

import argparse
import json
from typing import Any

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("env", help="print machine, versions, threads and flags, for a bug report")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from detprobe import environment

    print(json.dumps(environment.read(), indent=1) if arguments.json else environment.describe())
    return 0
