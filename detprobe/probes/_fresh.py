"""A question to a fresh process: some settings are read once, when a library starts.

`python -m detprobe.probes._fresh module:function '{"json": ...}'` calls the function with the object and prints what it
returns as JSON, as its last line. `ask` does that from here.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detprobe.errors import NotAvailableError

__all__ = ["ask"]

_HOME = str(Path(__file__).resolve().parents[2])


def ask(function: str, request: Mapping[str, Any], environment: Mapping[str, str | None], *, limit: float = 120) -> Any:
    """What `module:function` answers to the request in a process with these variables (None: unset).

    Raises:
        NotAvailableError: it raised, or took longer than `limit` seconds; the text has its last line.
    """
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([_HOME, *filter(None, [os.environ.get("PYTHONPATH")])])}
    for name, value in environment.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value
    command = [sys.executable, "-m", "detprobe.probes._fresh", function, json.dumps(dict(request))]
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise NotAvailableError(f"a fresh process did not answer within {limit:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        raise NotAvailableError(f"a fresh process failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _answer(function: str, request: str) -> None:
    home, _, name = function.partition(":")
    answer = getattr(importlib.import_module(home), name)(**json.loads(request))
    print(json.dumps(answer))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
