"""One run of a shell command: its own process group, a time limit, and the numbers that it wrote as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from detprobe.errors import ArgumentValueError
from detprobe.report.wording import clean
from detprobe.verdict_report import Run

__all__ = ["check_command", "run_command"]

_GRACE = 2.0  # s between asking a process group to end and ending it
_LARGEST = 2**20  # bytes of metrics
_TAIL = 4096  # bytes of output in which the reason of a failure is looked for


def check_command(name: str, command: str) -> None:
    for place, meaning in (("{seed}", "the seed of the run"), ("{json}", "the file to write the metrics to")):
        if place not in command:
            raise ArgumentValueError(f"{name}: expected {place} in the command, {meaning}; got {command!r:.200}")


def run_command(command: str, side: str, seed: int, repeat: bool, timeout: float | None) -> Run:
    """Run the command in the shell. Whatever goes wrong with it is in the run's `failure`.

    An exception (control-C) ends the command with all its children, and goes on.
    """
    with tempfile.TemporaryDirectory(prefix="detprobe-") as folder:
        metrics, output = Path(folder, "metrics.json"), Path(folder, "output")
        line = command.replace("{seed}", str(seed)).replace("{json}", shlex.quote(str(metrics)))
        start = time.perf_counter()
        with output.open("wb") as stream:
            process = subprocess.Popen(
                line,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(timeout)
            except subprocess.TimeoutExpired:
                code = None
                _end(process)
            except BaseException:
                _end(process)
                raise
        seconds = time.perf_counter() - start
        failure = _why(code, timeout, output)
        failure, values, digest = (failure, {}, "") if failure else _gave(metrics)
        return Run(side, seed, values, digest, failure, repeat, seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group. Its leader is not waited for before the last signal, so that its number stays its own."""
    try:
        _signal(process, signal.SIGTERM)
        until = time.monotonic() + _GRACE
        while time.monotonic() < until and not _ended(process):
            time.sleep(0.02)
    finally:  # a second control-C does not wait
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _why(code: int | None, timeout: float | None, output: Path) -> str:
    if code == 0:
        return ""
    with output.open("rb") as stream:
        stream.seek(max(0, output.stat().st_size - _TAIL))
        lines = stream.read().decode(errors="replace").strip().splitlines()
    last = f": {clean(lines[-1])[:300]}" if lines else ""
    if code is None:
        return f"no end after {timeout:g} s{last}"
    return f"killed by signal {-code}{last}" if code < 0 else f"exit status {code}{last}"


def _gave(path: Path) -> tuple[str, dict[str, float], str]:
    """Failure, metrics and digest. What is no number is no metric."""
    try:
        if path.stat().st_size > _LARGEST:
            return "wrote more than 1 MiB to {json}", {}, ""
        raw = json.loads(path.read_bytes())
    except OSError:
        return "wrote nothing to {json}", {}, ""
    except (ValueError, RecursionError) as error:
        return f"wrote no JSON to {{json}}: {clean(str(error))[:200]}", {}, ""
    if not isinstance(raw, dict):
        return f"wrote no JSON object to {{json}}, but {type(raw).__name__}", {}, ""
    values = {}
    for name, value in raw.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                values[name] = float(value)
            except OverflowError:
                return f"wrote a number to {{json}} that is too large: {clean(name)[:80]}", {}, ""
    digest = raw.get("digest")
    return "", values, digest if isinstance(digest, str) else ""
