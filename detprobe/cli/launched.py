"""The process that `detprobe run` starts: seeds, runs the script as `python script.py` would, and writes down how the
settings stood at its end."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Arguments: the file to leave, the seed, the mode or nothing, the script, its arguments."""
    left, seed, mode, script, *arguments = sys.argv[1:]
    import detprobe
    from detprobe import environment

    run = detprobe.seed_everything(int(seed), mode=mode or None)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        found = {"settings": json.loads(run.report.to_json()), "environment": environment.read()}
        Path(left).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
