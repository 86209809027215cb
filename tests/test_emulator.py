"""The CUDA kernels, run without a GPU, are detprobe.reference under every schedule; and the emulator catches faults.

A check that cannot fail says nothing, so tests/emulated plants faults, and each has to be caught.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from bit_patterns import FORMATS, corners, logical_bytes, place, words_of
from emulated_module import build

from detprobe import _emulator, reference
from detprobe.reference import Format, Kind, Record

SEEDS = (0, 1, 2, 3, 17)
SIZES = (0, 1, 31, 32, 33, 255, 256, 257)
ROOT = Path(__file__).parent.parent


def draw(dtype, n, seed=11):
    """The words of two tensors of n elements: some are corners; about half of the elements differ, the last too."""
    format, rng = FORMATS[dtype], np.random.default_rng(seed)
    top = 1 if dtype is torch.bool else 2 ** (8 * format.bytes) - 1
    words = rng.integers(0, top, size=(2, n, format.parts), dtype=np.uint64, endpoint=True)
    rare = rng.choice(np.array(corners(dtype), dtype=np.uint64), size=words.shape)
    left, right = np.where(rng.random(words.shape) < 0.3, rare, words)
    same = rng.random(n) < 0.5
    right[same] = left[same]
    right[-1:] = left[-1:] ^ 1
    return left, right


def emulated_compare(a, b, seed):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    where = (a.data_ptr(), b.data_ptr(), list(a.shape), list(a.stride()), list(b.stride()))
    return Record(*_emulator.compare(*where, list(FORMATS[a.dtype]), seed))


def emulated_digest(tensor, seed):
    lanes = _emulator.digest(tensor.data_ptr(), tensor.element_size(), list(tensor.shape), seed)
    return "".join(f"{lane:016x}" for lane in lanes)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.uint8, torch.bfloat16], ids=str)
def test_sizes_around_warps_and_blocks_follow_the_definition_under_every_schedule(dtype, n):
    a, b = (place(words, dtype, (n,)) for words in draw(dtype, n))
    record = reference.compare(words_of(a), words_of(b), FORMATS[dtype])
    digest = reference.digest(logical_bytes(a), (n,))
    assert (record.count > 0) == (n > 0)
    for seed in SEEDS:
        assert emulated_compare(a, b, seed) == record
        assert emulated_digest(a, seed) == digest


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_every_format_with_strides_follows_the_definition_under_every_schedule(dtype):
    shape = (7, 3, 13)
    left, right = draw(dtype, 273)
    a = place(left, dtype, shape, order=(2, 0, 1), steps=(1, 2, 1), offset=3)
    b = place(right, dtype, shape, order=(1, 2, 0), steps=(2, 1, 3), offset=1)
    record = reference.compare(words_of(a), words_of(b), FORMATS[dtype])
    assert record.count > 50
    dense = place(left, dtype, shape)
    digest = reference.digest(logical_bytes(a), shape)
    for seed in SEEDS:
        assert emulated_compare(a, b, seed) == record
        assert emulated_compare(a, dense, seed) == Record(0, 0, -1, -1, -1)
        assert emulated_digest(dense, seed) == digest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fnuz], ids=str)
def test_many_blocks_follow_the_definition_under_every_schedule(dtype):
    n = 5000
    left, right = draw(dtype, n)
    right[:4999] = left[:4999]  # one difference, in the last and partial block
    right[4999] = left[4999] ^ 1
    a, b = place(left, dtype, (n,), steps=(2,)), place(right, dtype, (n,))
    record = reference.compare(words_of(a), words_of(b), FORMATS[dtype])
    assert (record.count, record.first) == (1, 4999)
    digest = reference.digest(logical_bytes(b), (n,))
    for seed in SEEDS:
        assert emulated_compare(a, b, seed) == record
        assert emulated_digest(b, seed) == digest


@pytest.mark.parametrize("shape", [(), (1, 1), (0, 5), (5, 0), (2, 1, 3), (1,) * 20])
def test_the_shape_counts_as_the_definition_says(shape):
    n = int(np.prod(shape))
    a, b = (place(words, torch.float16, shape) for words in draw(torch.float16, n, seed=2))
    record = reference.compare(words_of(a), words_of(b), FORMATS[torch.float16])
    for seed in SEEDS:
        assert emulated_compare(a, b, seed) == record
        assert emulated_digest(a, seed) == reference.digest(logical_bytes(a), shape)


def test_expanded_dimensions_follow_the_definition_under_every_schedule():
    left, right = draw(torch.float32, 40)
    a = place(left, torch.float32, (40, 1)).expand(40, 9)
    b = place(right, torch.float32, (1, 40)).t().expand(40, 9)
    record = reference.compare(words_of(a), words_of(b), FORMATS[torch.float32])
    assert record.count > 9
    assert {emulated_compare(a, b, seed) for seed in SEEDS} == {record}


def test_dimensions_that_cannot_be_joined_are_refused_beyond_sixteen():
    strides = [2**d for d in range(17)]
    with pytest.raises(ValueError, match=r"^compare: more than 16 dimensions are left after joining$"):
        _emulator.compare(0, 0, [2] * 17, strides, strides, list(FORMATS[torch.float32]), 0)


def test_the_kinds_have_the_numbers_of_the_header():
    text = (ROOT / "csrc" / "arith" / "ulp.h").read_text(encoding="utf-8")
    listed = text.split("enum class Kind", 1)[1].split("{", 1)[1].split("}", 1)[0]
    names = [line.split("//")[0].strip(" ,") for line in listed.splitlines() if line.strip()]
    assert [name.removeprefix("k").upper() for name in names] == [kind.name.replace("_", "") for kind in Kind]
    assert Format._fields == ("kind", "bytes", "parts", "exponent_bits", "mantissa_bits", "bias")


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """tests/emulated/faults.cpp, compiled with the host's compiler."""
    return build("faults", tmp_path_factory.mktemp("emulated"))


NUMBERS = [(i * 0x9E3779B97F4A7C15) % 2**40 for i in range(512)]
BLOCK = NUMBERS[:256]


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_any_grid_gives_the_same_bits(emulated, blocks, seed):
    n, dtype = 1300, torch.float32
    a, b = (place(words, dtype, (n,)) for words in draw(dtype, n))
    row = emulated.compare(a.data_ptr(), b.data_ptr(), n, list(FORMATS[dtype]), blocks, seed)
    assert Record(*row) == reference.compare(words_of(a), words_of(b), FORMATS[dtype])
    data = logical_bytes(a)
    for size in (1, 2, 4, 8):  # the width of a load does not show
        lanes = emulated.digest(a.data_ptr(), len(data), size, blocks, seed)
        assert "".join(f"{lane:016x}" for lane in lanes) == reference.digest(data, (len(data),))


def test_right_kernels_give_right_results_under_every_schedule(emulated):
    for seed in SEEDS:
        assert emulated.tree(NUMBERS, 2, seed) == [sum(BLOCK), sum(NUMBERS[256:])]
        assert emulated.neighbour(BLOCK, 256, seed) == BLOCK[1:] + BLOCK[:1]
        halves = [BLOCK[t ^ 1] if t % 32 < 16 else 0 for t in range(256)]
        assert emulated.shuffle_of_half_a_warp(BLOCK, 256, seed) == halves
        assert emulated.write_inside(BLOCK, 256, seed) == list(range(256))


def test_a_dropped_barrier_in_a_tree_reduction_is_caught(emulated):
    results = {seed: emulated.tree_without_the_barrier_in_the_loop(BLOCK, 1, seed)[0] for seed in SEEDS}
    assert len(set(results.values())) > 2, results
    assert results[0] != sum(BLOCK)


# Descending first: that order happens to be right, and leaves right values behind in shared memory.
@pytest.mark.parametrize(
    "kernel", ["tree_without_the_barrier_after_the_store", "neighbour_without_a_barrier"], ids=["tree", "neighbour"]
)
def test_a_dropped_barrier_is_caught_also_when_the_launch_before_left_the_same_values(emulated, kernel):
    size = 1 if kernel.startswith("tree") else 256
    results = [tuple(getattr(emulated, kernel)(BLOCK, size, seed)) for seed in (1, 0, 2, 3, 17)]
    assert len(set(results)) > 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kernel", "text"),
    [
        ("barrier_for_some", r"^barrier divergence: 128 of 256 threads wait at __syncthreads, 128 have exited$"),
        ("barrier_in_a_loop_of_uneven_length", r"^barrier divergence: 170 of 256 threads wait"),
        ("shuffle_without_a_lane", r"^warp divergence: lane \d+ waits for lane 5, which is gone$"),
        ("shuffle_while_a_lane_is_at_a_barrier", r"^warp divergence: lane \d+ waits for lane 5, which is at another"),
        ("shuffle_with_unlike_masks", r"^warp divergence: lane \d+ waits for lane \d+, which is at another"),
        ("shuffle_beside_a_vote", r"^warp divergence: lane \d+ waits for lane \d+, which is at another"),
        ("shuffle_outside_of_its_own_mask", r"^warp operation: the calling lane is not in its own mask$"),
        ("write_behind", r"^overrun: a kernel wrote behind its buffer$"),
        ("write_before", r"^overrun: a kernel wrote before its buffer$"),
    ],
)
def test_a_planted_fault_ends_the_launch_with_its_name(emulated, kernel, text, seed):
    with pytest.raises(RuntimeError, match=text):
        getattr(emulated, kernel)(BLOCK, 256, seed)
    assert emulated.tree(BLOCK, 1, seed) == [sum(BLOCK)]  # the next launch is none the worse


# emulator.h promises it: "threads of a block at different barriers".
def test_two_barriers_in_two_branches_are_caught(emulated):
    with pytest.raises(RuntimeError, match=r"^barrier divergence"):
        emulated.barrier_in_both_branches(BLOCK, 256, 0)


def test_a_float_sum_by_atomics_shows_the_order_of_arrival(emulated):
    values = [float(np.float32(1.1**i)) for i in range(-256, 256)]
    results = {seed: emulated.sum_floats(values, seed) for seed in SEEDS}
    assert len(set(results.values())) >= 3, results
    assert results[0] == float(np.cumsum(np.array(values, dtype=np.float32))[-1])  # ascending, one after the other
    assert results[1] == float(np.cumsum(np.array(values[::-1], dtype=np.float32))[-1])
    assert results == {seed: emulated.sum_floats(values, seed) for seed in SEEDS}  # a seed repeats


def test_places_claimed_by_an_atomic_counter_show_the_order_of_arrival(emulated):
    orders = [emulated.claim_places(BLOCK, 257, seed) for seed in SEEDS]
    assert orders[0] == [256, *range(256)]
    assert orders[1] == [256, *reversed(range(256))]
    assert all(order[0] == 256 and sorted(order[1:]) == list(range(256)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(SEEDS)
