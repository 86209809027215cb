"""The file that holds the runs of a comparison: one JSON object a line, written as the runs end, only added to.

The first line says what was run:  {"kind": "detprobe-runs", "schema": 1, "a": "python ...", "b": "python ..."}
A run:                             {"run": {"side": "A", "seed": 0, "metrics": {"acc": 0.9}, ...}}
A look, that is a verdict given:   {"look": 10}    with the number of pairs that it saw

Two writers are kept apart by a lock. A last line that was cut off is left out, named, and run again. Nothing in the
file is ever executed: commands come from the command line alone, and must be those of the file.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detprobe.errors import ArgumentValueError
from detprobe.verdict._rule import FEWEST
from detprobe.verdict._schedule import looks_after
from detprobe.verdict_report import Run, run_from_plain, run_to_plain

__all__ = ["Results", "open_results"]

SCHEMA_VERSION = 1
_KIND = "detprobe-runs"
_LARGEST = 256 * 2**20  # bytes


class Results:
    """The runs in the file, and the way to add to them. Made by `open_results`."""

    def __init__(self, path: Path, handle: int, lines: list[dict[str, Any]], notes: list[str]) -> None:
        self.a, self.b = "", ""
        self.runs: list[Run] = []
        self.notes = notes
        self._path, self._handle = path, handle
        self._looked, self._looks = 0, 1
        for at, line in enumerate(lines, 1):
            try:
                self._take(at, line)
            except ArgumentValueError as error:
                raise ArgumentValueError(f"{path}, line {at}: {error}") from None

    def _take(self, at: int, line: dict[str, Any]) -> None:
        if at == 1:
            if line.get("kind") != _KIND or not all(isinstance(line.get(side), str) for side in "ab"):
                raise ArgumentValueError("expected a file that `detprobe compare` wrote, got something else")
            if line.get("schema") != SCHEMA_VERSION:
                raise ArgumentValueError(f"expected schema {SCHEMA_VERSION}, got {line.get('schema')!r:.40}")
            self.a, self.b = line["a"], line["b"]
        elif "run" in line:
            self.runs.append(run_from_plain(line["run"]))
        elif isinstance(line.get("look"), int):
            self._count(line["look"])
        else:
            raise ArgumentValueError(f"expected a run or a look, got {line!r:.80}")

    def _count(self, pairs: int) -> None:
        self._looks = looks_after(self._looks, self._looked, pairs)
        self._looked = max(self._looked, pairs)

    @property
    def kept(self) -> list[Run]:
        """The runs that need not run again: those that did not fail."""
        return [run for run in self.runs if not run.failure]

    @property
    def latest(self) -> list[Run]:
        """Each run once: a failed one only where no other try ended well."""
        found: dict[tuple[str, int, bool], Run] = {}
        for run in self.runs:
            key = (run.side, run.seed, run.repeat)
            if key not in found or found[key].failure:
                found[key] = run
        return list(found.values())

    def start(self, a: str, b: str) -> None:
        """Say what is run, or check that it is what was run before.

        Raises:
            ArgumentValueError: the file holds runs of other commands.
        """
        if not self.a:
            self._write({"kind": _KIND, "schema": SCHEMA_VERSION, "a": a, "b": b})
            self.a, self.b = a, b
        for name, mine, other in (("a", self.a, a), ("b", self.b, b)):
            if mine != other:
                raise ArgumentValueError(
                    f"{self._path}: holds runs of other commands: --{name} was {mine!r:.200}: choose another --out"
                )

    def add(self, run: Run) -> None:
        self._write({"run": run_to_plain(run)})
        self.runs.append(run)

    def look(self, pairs: int) -> int:
        """Count a verdict on so many pairs, and say which look it is."""
        if pairs >= FEWEST and pairs > self._looked:
            self._write({"look": pairs})
            self._count(pairs)
        return self._looks

    def _write(self, line: dict[str, Any]) -> None:
        data = (json.dumps(line, allow_nan=False) + "\n").encode()
        while data:
            data = data[os.write(self._handle, data) :]
        os.fsync(self._handle)


@contextmanager
def open_results(path: str | Path, *, create: bool) -> Iterator[Results]:
    """The file, locked until the end of the context.

    Raises:
        ArgumentValueError: there is none, it cannot be opened, another process has it, or it is something else.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ArgumentValueError(f"{path}: expected a file that `detprobe compare` wrote, got no regular file")
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0), 0o666)
    except OSError as error:
        raise ArgumentValueError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentValueError(
                f"{path}: another detprobe is writing to it: wait, or choose another --out"
            ) from None
        lines, notes, whole = _read(path, handle)
        results = Results(path, handle, lines, notes)
        if not lines and not create:
            raise ArgumentValueError(f"{path}: expected a file that `detprobe compare` wrote, got an empty one")
        if notes:
            os.ftruncate(handle, whole)  # only once the file is known to be one of ours
        yield results
    finally:
        os.close(handle)


def _read(path: Path, handle: int) -> tuple[list[dict[str, Any]], list[str], int]:
    """Objects, notes, and the bytes up to the end of the last whole line."""
    if os.fstat(handle).st_size > _LARGEST:
        raise ArgumentValueError(f"{path}: expected a file that `detprobe compare` wrote, got one above 256 MiB")
    with open(handle, "rb", closefd=False) as stream:
        data = stream.read()
    whole = data.rfind(b"\n") + 1
    notes = []
    if whole < len(data):
        if not whole:
            raise ArgumentValueError(f"{path}: expected a file that `detprobe compare` wrote, got no whole line")
        notes.append(f"the last line of {path} was cut off and is left out: {len(data) - whole} bytes")
    lines = []
    for at, line in enumerate(data[:whole].splitlines(), 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArgumentValueError(f"{path}, line {at}: expected one JSON object a line, got {error}") from None
        if not isinstance(found, dict):
            raise ArgumentValueError(f"{path}, line {at}: expected a JSON object, got {type(found).__name__}")
        lines.append(found)
    return lines, notes, whole
