"""What must not decide a bit of a result: threads, the rest of the batch, and the caller's floating-point modes.

That there are several threads at work at all is shown in test_threads.py.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from reduction_forms import ELEMENTWISE, FORMS, by_kernels, difference
from reduction_inputs import FLOATS, Problem
from torch import Tensor

OPS = torch.ops.detprobe
THREADS = (1, 2, 3, 8)


def unequal(a: list[tuple[str, Tensor]], b: list[tuple[str, Tensor]]) -> list[str]:
    assert [name for name, _ in a] == [name for name, _ in b]
    pairs = ((name, difference(x, y)) for (name, x), (_, y) in zip(a, b, strict=True))
    return [f"{name}: {text}" for name, text in pairs if text is not None]


@pytest.mark.parametrize("form", FORMS)
def test_the_number_of_threads_changes_no_bit(form):
    problems = [
        Problem(torch.float32, 1, 70000, "wide"),
        Problem(torch.float32, 1, 66001, "wide", "every second"),
        Problem(torch.float16, 1, 70001, "normal"),
        Problem(torch.float32, 300, 257, "wide", "transposed"),
        Problem(torch.bfloat16, 3000, 40, "normal"),
        Problem(torch.float64, 3, 9000, "cancelling", "transposed"),
    ]
    for problem in problems:
        op, args = FORMS[form](problem)
        first = None
        for threads in THREADS:
            torch.set_num_threads(threads)
            found = by_kernels(op, args)
            first = first or found
            assert unequal(found, first) == [], f"{problem}, {threads} threads"


WHOLE = (*ELEMENTWISE, *(form for form in FORMS if form.startswith(("cross_entropy", "batch_norm"))))
ROWWISE = [*(form for form in FORMS if form not in WHOLE), "cross_entropy, none"]


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "steps inside"])
@pytest.mark.parametrize("form", ROWWISE)
def test_a_row_gives_the_same_bits_alone_and_at_any_place_of_any_batch(form, layout):
    for dtype in FLOATS:
        n = {torch.float16: 33, torch.bfloat16: 70, torch.float32: 50, torch.float64: 40}[dtype]
        whole = Problem(dtype, 2048, n, "wide", layout)
        op, args = FORMS[form](whole)
        everything = getattr(OPS, op)(*args)
        everything = everything[0] if isinstance(everything, tuple) else everything
        for first, size in ((0, 1), (2047, 1), (1000, 1), (0, 7), (3, 7), (1021, 8), (5, 9)):
            part = [cut(value, first, size) for value in args]
            found = getattr(OPS, op)(*part)
            found = found[0] if isinstance(found, tuple) else found
            assert difference(found, everything[first : first + size]) is None, f"{dtype}, {size} rows from {first}"


def cut(value: Any, first: int, size: int) -> Any:
    """Some rows of what has 2048 of them."""
    return value[first : first + size] if isinstance(value, Tensor) and value.shape[:1] == (2048,) else value


def test_a_channel_gives_the_same_bits_whatever_channels_stand_beside_it():
    problem = Problem(torch.float32, 70, 45, "wide")
    x = problem.x.t()
    y = OPS.batch_norm_training(x, None, None, 1e-5)[0]
    for first, size in ((0, 1), (69, 1), (3, 7), (30, 33)):
        alone = OPS.batch_norm_training(x[:, first : first + size].contiguous(), None, None, 1e-5)[0]
        assert difference(alone, y[:, first : first + size]) is None


# The machine's own word of floating-point modes, read and written by a few bytes of machine code: Python has no way.
LOAD = b"\x0f\xae\x17\xc3"  # ldmxcsr [rdi]; ret
STORE = b"\x0f\xae\x1f\xc3"  # stmxcsr [rdi]; ret
FLUSH, ZEROS, DOWN, UP, CHOP = 0x8000, 0x0040, 0x2000, 0x4000, 0x6000
MODES = {"subnormals": (FLUSH, ZEROS, FLUSH | ZEROS), "rounding": (DOWN, UP, CHOP, FLUSH | ZEROS | UP)}
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the modes are set by x86 machine code")


class Modes:
    def __init__(self) -> None:
        self.page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.page.write(LOAD + STORE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        kind = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))
        self.load, self.store = kind(address), kind(address + len(LOAD))

    def read(self) -> int:
        word = ctypes.c_uint32()
        self.store(ctypes.byref(word))
        return word.value & ~0x3F  # the low bits only tell what has happened

    @contextmanager
    def set(self, bits: int) -> Iterator[None]:
        before = self.read()
        self.load(ctypes.byref(ctypes.c_uint32((before & ~(FLUSH | ZEROS | CHOP)) | bits)))
        try:
            yield
        finally:
            self.load(ctypes.byref(ctypes.c_uint32(before)))


@pytest.fixture(scope="module")
def modes() -> Modes:
    return Modes()


@x86
def test_the_modes_that_these_tests_set_would_change_bits(modes):
    def sum_of(x: Tensor) -> int:
        return int((x[0] + x[1]).view(torch.int32))

    tiny = torch.tensor([1e-40, 1e-40])
    odd = torch.tensor([1.0, 2.0**-30])
    plain = sum_of(tiny), sum_of(odd)
    with modes.set(FLUSH | ZEROS):
        flushed = sum_of(tiny)
    with modes.set(UP):
        up = sum_of(odd)
    assert flushed == 0 != plain[0]
    assert up == plain[1] + 1


@x86
@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_the_modes_of_the_caller_change_no_bit_and_stay_as_they_are(form, kind, modes):
    for problem in (
        Problem(torch.float32, 24, 40, "mixed"),
        Problem(torch.float32, 300, 120, "tiny"),
        Problem(torch.float64, 5, 70, "tiny", "transposed"),
        Problem(torch.float16, 3, 70, "wide"),
        Problem(torch.bfloat16, 3, 70, "tiny", "transposed"),
    ):
        op, args = FORMS[form](problem)
        plain = by_kernels(op, args)
        for mode in MODES[kind]:
            with modes.set(mode):
                before = modes.read()
                found = by_kernels(op, args)
                after = modes.read()
            assert after == before
            assert unequal(found, plain) == [], f"{problem}, mode {mode:#x}"


def test_flushing_that_torch_sets_changes_no_bit():
    calls = [FORMS[form](Problem(torch.float32, 9, 70, "tiny")) for form in FORMS]
    plain = [by_kernels(op, args) for op, args in calls]
    if not torch.set_flush_denormal(True):
        pytest.skip("torch cannot flush here")
    try:
        found = [by_kernels(op, args) for op, args in calls]
    finally:
        torch.set_flush_denormal(False)
    assert [unequal(a, b) for a, b in zip(found, plain, strict=True)] == [[]] * len(calls)


def test_no_call_writes_into_its_arguments():
    for form, call in FORMS.items():
        op, args = call(Problem(torch.float32, 9, 70, "mixed"))
        before = [value.clone() if isinstance(value, Tensor) else None for value in args]
        by_kernels(op, args)
        for value, copy in zip(args, before, strict=True):
            assert copy is None or difference(value, copy) is None, form
