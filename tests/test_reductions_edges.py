"""No kernel of the CPU touches memory beside its tensors: they lie against pages that may not be touched.

Vectors load and store more than one element, so the last ones of a row have ways of their own. Each form of call runs
on tensors that end where their page ends, and on such that begin where it begins, in a process of its own, since a
fault of this kind ends the process.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reduction_forms import FORMS, difference
from reduction_inputs import FLOATS, Problem
from torch import Tensor

OPS = torch.ops.detprobe
SHAPES = ((1, 1), (3, 7), (5, 31), (17, 100), (3, 257), (1, 1030), (40, 5))
LAYOUTS = ("contiguous", "transposed", "every second")


class Fence:
    """Memory between two pages that may not be touched."""

    def __init__(self, pages: int = 256) -> None:
        self.room = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.room))
        for page in (0, pages + 1):
            forbid = ctypes.CDLL(None, use_errno=True).mprotect
            status = forbid(ctypes.c_void_p(start + page * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), 0)
            assert status == 0, os.strerror(ctypes.get_errno())
        self.first, self.last = mmap.PAGESIZE, (pages + 1) * mmap.PAGESIZE

    def hold(self, t: Tensor, at_end: bool) -> Tensor:
        """A copy of `t` with its strides, against one of the pages."""
        extent = 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
        bytes_ = extent * t.element_size()
        assert bytes_ <= self.last - self.first
        offset = self.last - bytes_ if at_end else self.first
        flat = torch.frombuffer(self.room, dtype=t.dtype, count=extent, offset=offset)
        return flat.as_strided(t.shape, t.stride()).copy_(t)


def results(op: str, args: tuple) -> list[Tensor]:
    found = getattr(OPS, op)(*args)
    return [*found] if isinstance(found, (tuple, list)) else [found]


def walk(form: str) -> None:
    """Every shape, layout and dtype of one form; prints what it is at before it calls."""
    fences = [Fence() for _ in range(6)]
    for dtype in FLOATS:
        for rows, n in SHAPES:
            for layout in LAYOUTS:
                op, args = FORMS[form](Problem(dtype, rows, n, "wide", layout))
                expected = results(op, args)
                for at_end in (True, False):
                    print(dtype, (rows, n), layout, "end" if at_end else "start", flush=True)
                    free = iter(fences)
                    held = tuple(next(free).hold(a, at_end) if isinstance(a, Tensor) and a.numel() else a for a in args)
                    for found, wanted in zip(results(op, held), expected, strict=True):
                        assert difference(found, wanted) is None


def run(code: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )


linux = pytest.mark.skipif(sys.platform != "linux", reason="forbids pages by mprotect")


@linux
def test_a_page_of_the_fence_ends_the_process():
    for at_end, inside, outside in ((True, 28, 32), (False, 0, -4)):
        for offset, status in ((inside, 0), (outside, -11)):
            held = f"t = Fence().hold(torch.zeros(8), {at_end})"
            done = run(f"from test_reductions_edges import *; {held}; ctypes.string_at(t.data_ptr() + {offset}, 4)")
            assert done.returncode == status, done.stderr


@linux
def test_no_kernel_touches_memory_beside_its_tensors():
    code = "from test_reductions_edges import *; [(print(form), walk(form)) for form in FORMS]"
    done = run(code)
    assert done.returncode == 0, (done.stdout.splitlines()[-3:], done.stderr[-2000:])
