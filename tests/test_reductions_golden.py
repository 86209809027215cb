"""The golden digests: of the reference, of the kernels, and of the kernels of every instruction set.

Rewrite the file with `python tests/reduction_goldens.py` when the contract changes, and say so in the changelog.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from reduction_goldens import differing, kernel_digests, read, written_digests

HERE = Path(__file__).parent
SETS = ("baseline", "avx2", "avx512")  # ascending: a machine that has one has those before it


@cache
def started() -> dict[str, subprocess.Popen[str]]:
    """A process for each instruction set, all at once, with DETPROBE_CPU as told."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "reduction_goldens.py"), "--kernels"]
    return {
        instructions: subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, "DETPROBE_CPU": instructions},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for instructions in SETS
    }


@cache
def asked(instructions: str) -> dict[str, Any]:
    """What the process of an instruction set gives."""
    with started()[instructions] as process:
        out, errors = process.communicate()
    assert process.returncode == 0, f"{instructions}: exit code {process.returncode}\n{errors[-2000:]}"
    return json.loads(out)


@pytest.fixture(scope="module")
def processes() -> Iterator[None]:
    yield
    for process in started().values():  # where a test failed before it asked
        with process:
            process.kill()
    started.cache_clear()


def test_the_goldens_are_those_of_the_reference() -> None:
    assert differing(written_digests(), read()) == []


def test_the_kernels_of_this_process_give_the_goldens() -> None:
    assert differing(kernel_digests(), read()) == []


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("instructions", SETS)
def test_the_kernels_of_every_instruction_set_give_the_goldens(instructions: str) -> None:
    best = asked(SETS[-1])["capability"]
    found = asked(instructions)
    lacking = best not in SETS or SETS.index(instructions) > SETS.index(best)
    assert found["capability"] == (best if lacking else instructions)
    assert differing(found["digests"], read()) == []
    if lacking:
        pytest.skip(f"this machine has no {instructions}: {best}, which it ran instead, gives the goldens")
