"""The scatter family against detprobe.reference, bit for bit: the CPU's kernels, and CUDA's on emulated threads."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from index_patterns import PATTERNS, indices, made
from scatter_forms import FLOATS, FORMS, INTEGER_FORMS, INTEGERS, Draw, mismatches

from detprobe import _emulator

LAYOUTS = ("contiguous", "transposed", "steps", "offset")
# Around a chunk of 256 and a level of 256 chunks; records to few destinations and to many.
SIZES = [(1, 1), (255, 1), (256, 1), (257, 1), (513, 2), (700, 3), (300, 40), (90, 1000)]


@contextlib.contextmanager
def emulated(seed):
    torch.ops.detprobe._emulate(_emulator.kernels(seed))
    try:
        yield
    finally:
        torch.ops.detprobe._emulate(0)


def drawn(pattern, n, size, columns, dtype, layout="contiguous", seed=0):
    rng = np.random.default_rng(seed)
    return Draw(made(pattern, n, size, rng), size, columns, dtype, rng, layout)


def bad(form, draws):
    """What does not agree, as lines that say how to see it again."""
    return [f"{form} of {d[:4]}, {d.layout}: {text}" for d in draws for text in mismatches(*FORMS[form](d))]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_every_pattern_gives_the_written_bits(form, dtype):
    draws = [
        drawn(pattern, n, size, columns, dtype, LAYOUTS[k % 4], seed=k)
        for k, ((n, size), pattern, columns) in enumerate(
            (sizes, pattern, (1, 3, 16, 33)[k % 4])
            for k, sizes in enumerate(SIZES)
            for pattern in (PATTERNS[k % len(PATTERNS)], "zipf", "uniform")
        )
    ]
    assert bad(form, draws) == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=10)
@given(indices(), st.sampled_from([1, 2, 5, 8, 70]), st.sampled_from(LAYOUTS))
def test_what_hypothesis_draws_gives_the_written_bits(form, dtype, case, columns, layout):
    index, size, rng = case
    assert bad(form, [Draw(index, size, columns, dtype, rng, layout)]) == []


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("form", list(INTEGER_FORMS))
def test_integers_give_the_written_bits(form, dtype):
    if "mean" in form and dtype is torch.bool:
        pytest.skip("there is no mean of bool")
    draws = [drawn(pattern, 300, 7, 3, dtype, seed=k) for k, pattern in enumerate(PATTERNS)]
    assert bad(form, draws) == []


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_emulated_kernels_give_the_written_bits_under_every_schedule(form, dtype):
    draws = [
        drawn("uniform", 300, 40, 3, dtype, "transposed", seed=1),
        drawn("one hot", 600, 2, 5, dtype, seed=2),
        drawn("zipf", 700, 9, 1, dtype, seed=3),
        drawn("empty", 1, 4, 2, dtype, seed=4),
    ]
    for seed in (0, 1, 17) if dtype is torch.float32 else (17,):
        with emulated(seed):
            assert bad(form, draws) == [], f"seed {seed}"


LONG = [("one hot", 1, 70000), ("uniform", 2, 140000), ("zipf", 40, 200000)]


@pytest.mark.parametrize("columns", [1, 4, 70, 100])
@pytest.mark.parametrize("form", ["index_add", "index_add, plan", "scatter_reduce prod, rows", "embedding backward"])
def test_three_levels_of_chunks_give_the_written_bits(form, columns):
    n_most = 70000 if columns > 4 else 200000
    draws = [drawn(p, min(n, n_most), size, columns, torch.float32, seed=columns) for p, size, n in LONG]
    assert bad(form, draws) == []


@pytest.mark.parametrize("columns", [1, 3, 16, 64, 100, 256])
@pytest.mark.parametrize("form", ["index_add", "index_add, plan", "index_add, middle", "scatter_reduce amax, rows"])
def test_the_number_of_threads_changes_no_bit(form, columns):
    n = 66000 if columns == 1 else 40000 // columns + 3000
    for pattern in ("uniform", "one hot", "zipf", "sorted"):
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            assert bad(form, [drawn(pattern, n, 50, columns, torch.float32, seed=5)]) == [], f"{threads} threads"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_segments_of_up_to_256_are_torchs_sequential_index_add(pattern, dtype):
    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    index = torch.from_numpy(made(pattern, 256, 19, rng))
    x, source = torch.randn(19, 6, dtype=dtype), torch.randn(len(index), 6, dtype=dtype)
    ours = torch.ops.detprobe.index_add(x, 0, index, source, 1, [])
    assert torch.equal(ours.view(torch.uint8), x.index_add(0, index, source).view(torch.uint8))


@pytest.mark.parametrize("capability", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_gives_the_written_bits(capability):
    program = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import torch, detprobe.ops
print(torch.ops.detprobe.cpu_capability())
if torch.ops.detprobe.cpu_capability() == {capability!r}:
    from test_scatter_bits import *
    for dtype in FLOATS:
        for form in FORMS:
            draws = [drawn("uniform", 2000, 30, 37, dtype, seed=1), drawn("zipf", 70000, 90, 1, dtype, seed=2)]
            draws = draws if form == "index_add" else [drawn("zipf", 700, 9, 37, dtype, seed=3)]
            assert bad(form, draws) == [], form
"""
    environment = {**os.environ, "DETPROBE_CPU": capability}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if done.stdout.split()[0] != capability:
        pytest.skip(f"this machine has {done.stdout.split()[0]}")
