"""Digests of every op over a fixed table: golden/reductions.json, made by detprobe.reference and by nothing else.

    python tests/reduction_goldens.py             rewrites the file, and says what changed
    python tests/reduction_goldens.py --kernels   prints what the kernels of this process give, as JSON

The second is how other instruction sets are asked, since a process chooses one when it loads the extension.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from reduction_forms import FORMS, as_written, by_kernels, digest, written_name
from reduction_inputs import FLOATS, Problem

from detprobe import bits

PATH = Path(__file__).parent / "golden" / "reductions.json"
Digests = dict[str, dict[str, str]]


def table() -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """A name, an op and its arguments: rows of every kind of number, and rows of more than one block."""
    for form, call in FORMS.items():
        for dtype in FLOATS:
            for problem in (Problem(dtype, 24, 70, "mixed", seed=3), Problem(dtype, 2, 2100, "wide", "transposed")):
                yield f"{form} {str(dtype).removeprefix('torch.')} {problem.rows}x{problem.n}", *call(problem)


def written_digests() -> Digests:
    return {name: {what: digest(one) for what, one in as_written(op, args).items()} for name, op, args in table()}


def kernel_digests() -> Digests:
    """Digests of the kernels by the kernel of digest; under the names of the reference, one for each way."""
    found: Digests = {}
    for name, op, args in table():
        found[name] = {}
        for what, one in by_kernels(op, args):
            key = written_name(what)
            value = bits.digest(one)
            if found[name].setdefault(key, value) != value:
                found[name][key] = f"two ways, two results: {what}"
    return found


def read() -> Digests:
    return json.loads(PATH.read_text(encoding="utf-8"))


def differing(found: Digests, expected: Digests) -> list[str]:
    """The names under which two tables differ."""
    return [
        f"{name}: {what}: {found.get(name, {}).get(what)}, expected {expected.get(name, {}).get(what)}"
        for name in sorted({*found, *expected})
        for what in sorted({*found.get(name, {}), *expected.get(name, {})})
        if found.get(name, {}).get(what) != expected.get(name, {}).get(what)
    ]


def main(arguments: list[str]) -> None:
    if arguments == ["--kernels"]:
        print(json.dumps({"capability": torch.ops.detprobe.cpu_capability(), "digests": kernel_digests()}))
        return
    before = read() if PATH.exists() else {}
    after = written_digests()
    PATH.write_text(json.dumps(after, indent=0) + "\n", encoding="utf-8")
    print("\n".join(differing(after, before)) or "nothing changed")


if __name__ == "__main__":
    main(sys.argv[1:])
