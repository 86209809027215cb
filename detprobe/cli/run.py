"""`detprobe run --seed N -- script.py ...`: what must be set before the interpreter starts, then the script, seeded."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from detprobe.cli import output
from detprobe.errors import ArgumentValueError

__all__ = ["add_to"]

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PROFILES: dict[str, dict[str, str]] = {
    # The same bits on every x86 CPU, as far as its libraries promise it: all three of them, and one thread.
    "portable-cpu": {
        **_ONE_THREAD,
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    },
    # NCCL chooses algorithm and protocol by size and topology, and with them the order of additions.
    "distributed": {"NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple", "NCCL_NVLS_ENABLE": "0"},
}


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("run", help="run a script, seeded, with what must be set before Python starts")
    parser.add_argument("--seed", type=int, required=True, help="0 to 2**64 - 1, for detprobe.seed_everything")
    parser.add_argument(
        "--mode", choices=("warn", "error"), help="deterministic algorithms; without it no flag changes"
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), help="variables for more than one machine")
    parser.add_argument("--manifest", metavar="FILE", default="detprobe-run.json", help="default: detprobe-run.json")
    parser.add_argument("script", help="a Python file; what follows are its arguments")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=_run)


def _variables(seed: int, profile: str | None) -> dict[str, str]:
    """What the run wants in the environment."""
    fixed = {"PYTHONHASHSEED": str(seed % 2**32), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    return {**fixed, **(PROFILES[profile] if profile else {})}


def _run(arguments: argparse.Namespace) -> int:
    from detprobe.seeding import _keys

    seed = _keys.as_seed(arguments.seed)
    if not Path(arguments.script).is_file():
        raise ArgumentValueError(f"{arguments.script}: there is no such file; expected a Python script")
    output.check_writable(arguments.manifest)
    wanted = _variables(seed, arguments.profile)
    # The user's own value stays, and the manifest tells it.
    ours = {name: value for name, value in wanted.items() if not os.environ.get(name)}
    with tempfile.TemporaryDirectory() as folder:
        left = Path(folder) / "left.json"
        command = [sys.executable, "-m", "detprobe.cli.launched", str(left), str(seed), arguments.mode or ""]
        started = time.time()
        code = _wait([*command, arguments.script, *arguments.arguments], {**os.environ, **ours})
        seconds = time.time() - started
        inside = json.loads(left.read_text(encoding="utf-8")) if left.exists() else {}
    manifest = {
        "schema": 1,
        "script": arguments.script,
        "arguments": arguments.arguments,
        "seed": seed,
        "mode": arguments.mode,
        "profile": arguments.profile,
        "variables": {
            name: {"value": {**os.environ, **ours}[name], "set_by": "detprobe" if name in ours else "user"}
            for name in wanted
        },
        "exit_code": code,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(seconds, 3),
        "settings": inside.get("settings"),
        "environment": inside.get("environment"),
    }
    Path(arguments.manifest).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return code


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """The script's exit code; a signal's as a shell has it."""
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:  # the script has it too, and answers it
            continue
        return code if code >= 0 else 128 - code
