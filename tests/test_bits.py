"""The comparator and the digest on the CPU are detprobe.reference, bit for bit, on every dtype and layout.

Its golden vectors are the tables of csrc/README.md.
"""

import itertools
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from bit_patterns import FLOAT8, FORMATS, array, corners, logical_bytes, place, words_of
from hypothesis import given, settings
from hypothesis import strategies as st

from detprobe import bits, reference
from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.reference import Record

README = Path(__file__).parent.parent / "csrc" / "README.md"


def native(a, b):
    """The row that the op writes; what was in it before does not matter."""
    records = torch.full((3, bits.RECORD_WIDTH), 77)
    bits.compare_into(a, b, records, 1)
    assert records[0].tolist() == records[2].tolist() == [77] * bits.RECORD_WIDTH
    return Record(*records[1].tolist())


def agree(a, b):
    """The op and the definition say the same of two tensors; returns it."""
    record = reference.compare(words_of(a), words_of(b), FORMATS[a.dtype])
    assert native(a, b) == record
    for tensor in (a, b):
        assert bits.digest(tensor) == reference.digest(logical_bytes(tensor), tuple(tensor.shape))
    return record


@st.composite
def layouts(draw, shape, expanded):
    dims = range(len(shape))
    return {
        "order": draw(st.permutations(dims)),
        "steps": draw(st.lists(st.integers(1, 3), min_size=len(shape), max_size=len(shape))),
        "offset": draw(st.integers(0, 3)),
        "expanded": {d for d in dims if d in expanded and draw(st.booleans())},
        "hole": draw(st.sampled_from([0, 0xA5])),
    }


@st.composite
def pairs(draw):
    """Two tensors of one dtype and shape, each with a layout of its own; many of their elements are the same."""
    dtype = draw(st.sampled_from(list(FORMATS)))
    parts, top = FORMATS[dtype].parts, 1 if dtype is torch.bool else (1 << FORMATS[dtype].bytes * 8) - 1
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    expanded = {d for d in range(len(shape)) if draw(st.integers(0, 4)) == 0}
    kept = tuple(1 if d in expanded else size for d, size in enumerate(shape))
    word = st.sampled_from(corners(dtype)) | st.integers(0, top)
    n = math.prod(kept) * parts
    left = draw(st.lists(word, min_size=n, max_size=n))
    changes = draw(st.lists(st.none() | word, min_size=n, max_size=n))
    right = [old if new is None else new for old, new in zip(left, changes, strict=True)]
    tensors = []
    for words in (left, right):
        whole = np.broadcast_to(array(words, FORMATS[dtype]).reshape(*kept, parts), (*shape, parts))
        tensors.append(place(whole.reshape(-1), dtype, shape, **draw(layouts(shape, expanded))))
    return tensors


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(pairs())
def test_the_cpu_kernels_follow_the_definition_on_every_dtype_and_layout(pair):
    agree(*pair)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_every_pair_of_corner_patterns_follows_the_definition(dtype):
    words = corners(dtype)
    left, right = np.array(list(itertools.product(words, repeat=2)), dtype=np.uint64).T
    parts = FORMATS[dtype].parts
    for shift in range(parts):  # a complex number meets its corners in both parts
        a, b = (np.stack([np.roll(side, shift * p) for p in range(parts)], axis=1) for side in (left, right))
        agree(place(a, dtype, (len(left),)), place(b, dtype, (len(left),)))
        for i in range(0, len(left), 7):
            agree(place(a[i], dtype, ()), place(b[i], dtype, ()))


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
def test_all_pairs_of_eight_bit_floats_have_the_distance_that_torch_reads(dtype):
    """The oracle: torch's own conversion to f64, and the place of each value in the sorted row of all values."""
    values = torch.arange(256, dtype=torch.uint8).view(dtype).to(torch.float64).numpy()
    row = {value: i for i, value in enumerate(sorted(set(values[~np.isnan(values)].tolist())))}
    place_of = np.array([row.get(value, 0) for value in values.tolist()])
    nan = np.isnan(values)
    with np.errstate(invalid="ignore"):
        gap = np.abs(values[:, None] - values[None, :])
    differs = ~np.eye(256, dtype=bool)
    numbers = differs & ~nan[:, None] & ~nan[None, :]
    expected = np.full((256, 256, 5), -1)
    expected[..., 0] = differs
    expected[..., 1] = nan[:, None] ^ nan[None, :]
    expected[..., 2][numbers] = np.abs(place_of[:, None] - place_of[None, :])[numbers]
    expected[..., 3][numbers] = gap[numbers].view(np.int64)
    expected[..., 4][differs] = 0
    ones = torch.arange(256, dtype=torch.uint8).view(dtype).split(1)
    records = torch.zeros((256 * 256, bits.RECORD_WIDTH), dtype=torch.int64)
    for i, (a, b) in enumerate(itertools.product(ones, ones)):
        bits.compare_into(a, b, records, i)
    assert np.array_equal(records.numpy().reshape(256, 256, 5), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_all_neighbours_among_sixteen_bit_floats_are_one_ulp_apart(dtype):
    numbers = np.arange(65536, dtype=np.uint16)
    values = torch.from_numpy(numbers).view(dtype).to(torch.float64).numpy()
    keep = ~np.isnan(values) & (numbers != 0x8000)  # -0 is +0's twin
    order = torch.from_numpy(numbers[keep][np.argsort(values[keep])]).view(dtype)
    ones = order.split(1)
    records = torch.zeros((len(ones) - 1, bits.RECORD_WIDTH), dtype=torch.int64)
    for i, (a, b) in enumerate(itertools.pairwise(ones)):
        bits.compare_into(a, b, records, i)
    assert set(records[:, 2].tolist()) == {1}
    gaps = np.diff(order.to(torch.float64).numpy())
    assert np.array_equal(records[:, 3].numpy().view(np.float64), gaps)
    ends = bits.difference(ones[0], ones[-1])
    assert (ends.max_ulp, ends.max_abs) == (len(ones) - 1, math.inf)


VIEWS = {
    "0-dim": lambda t: t.view(-1)[5],
    "empty": lambda t: t[:, :, 2:2],
    "permuted": lambda t: t.permute(3, 1, 0, 2),
    "expanded": lambda t: t[:, :1].expand(2, 6, 4, 5),
    "all one element": lambda t: t.view(-1)[7].expand(3, 4),
    "sliced with an offset": lambda t: t[1, 1:, ::2, 1::3],
    "overlapping": lambda t: t.view(-1).as_strided((7, 9), (2, 3), 4),
    "diagonal": lambda t: t.diagonal(1, 2, 3),
    "channels_last": lambda t: t.reshape(30, 4).t().as_strided((2, 3, 4, 5), (60, 1, 15, 3)),
    "seventeen dims": lambda t: t.view(-1)[:16].view(*(2, 1) * 4, *(1,) * 9),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_views_of_torch_follow_the_definition(dtype, view):
    words = np.array(corners(dtype), dtype=np.uint64)
    left, right = np.random.default_rng(3).choice(words, size=(2, 120, FORMATS[dtype].parts))
    right[0::2] = left[0::2]
    right[1::2] ^= (right == left)[1::2]  # what drew the same word differs in its last bit
    a, b = (VIEWS[view](place(side, dtype, (2, 3, 4, 5))) for side in (left, right))
    record = agree(a, b)
    assert (record.count > 0) == (a.numel() > 0)
    dense = place(words_of(b), dtype, tuple(b.shape))
    assert agree(a, dense) == record
    assert agree(b, dense).count == 0


def test_more_than_sixteen_dimensions_that_cannot_be_joined_follow_the_definition():
    dims, words = 17, np.random.default_rng(5).integers(0, 2**32, 2**17)
    a = place(words, torch.float32, (2,) * dims)
    b = place(words, torch.float32, (2,) * dims, order=range(dims)[::-1])
    assert agree(a, b) == Record(0, 0, -1, -1, -1)
    b[(1,) * dims] = math.inf
    b[(0,) * (dims - 1)][1] = math.nan
    record = agree(a, b)
    assert (record.count, record.first) == (2, 1)
    assert bits.difference(a, b).first == (0,) * (dims - 1) + (1,)


@pytest.fixture
def _own_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_own_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.uint8, torch.bfloat16], ids=str)
def test_any_number_of_threads_gives_the_same_bits(dtype):
    format, n = FORMATS[dtype], 2**21 // FORMATS[dtype].bytes + 5  # well above where the kernels share the work
    words = np.random.default_rng(7).integers(0, 256, n * format.bytes * format.parts, dtype=np.uint8)
    words = words.view(f"u{format.bytes}")
    for changed in ([], [0], [n - 1], [1, n // 2, n - 2], [n // 2 + k for k in range(50)]):
        other = words.copy()
        for i in changed:
            other[i * format.parts] ^= 1 + i % 3
        for layout in ({}, {"steps": [2]}):
            a, b = place(words, dtype, (n,)), place(other, dtype, (n,), **layout)
            record = reference.compare(words, other, format)
            digests = [reference.digest(side.tobytes(), (n,)) for side in (words, other)]
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                assert native(a, b) == record
                assert [bits.digest(a), bits.digest(b)] == digests
            assert record.first == (min(changed) if changed else -1)


def table(heading):
    """The rows of the first table under a heading of csrc/README.md, as lists of texts."""
    section = README.read_text(encoding="utf-8").split(f"{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", table("### Golden vectors of DIGEST-1"), ids=lambda row: f"{row[0]} {row[1]}")
def test_the_digests_in_the_readme_hold(row):
    name, sizes, text, digest = row
    dtype, shape = getattr(torch, name), tuple(int(size) for size in re.findall(r"\d+", sizes))
    data = bytes.fromhex(text)
    tensor = torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.uint8)).view(dtype).view(shape)
    assert reference.digest(data, shape) == digest
    assert bits.digest(tensor) == digest


@pytest.mark.parametrize("row", table("### Golden vectors of the comparison"), ids=lambda row: " ".join(row[:3]))
def test_the_comparisons_in_the_readme_hold(row):
    name, left, right, *counters = row
    dtype = getattr(torch, name)
    sides = [[int(word, 16) for word in text.split()] for text in (left, right)]
    shape = (len(sides[0]) // FORMATS[dtype].parts,)
    a, b = (place(side, dtype, shape) for side in sides)
    assert agree(a, b) == Record(*(int(counter, 0) for counter in counters))


def test_a_digest_tells_apart_what_is_not_the_same_tensor():
    base = torch.arange(24, dtype=torch.float32).view(2, 3, 4)
    flipped = base.clone()
    flipped[0, 0, 0] = -0.0
    others = {
        "permutation": base.transpose(0, 1).reshape(2, 3, 4),
        "two elements swapped": base.flatten()[[1, 0, *range(2, 24)]].view(2, 3, 4),
        "two words swapped": base.flatten()[[2, 3, 0, 1, *range(4, 24)]].view(2, 3, 4),
        "sign of a zero": flipped,
        "negated": -base,
        "reshaped": base.view(3, 2, 4),
        "flattened": base.view(24),
        "a leading 1": base.view(1, 2, 3, 4),
        "a trailing 1": base.view(2, 3, 4, 1),
        "trailing zeros": torch.cat([base.flatten(), torch.zeros(1)]),
        "leading zeros": torch.cat([torch.zeros(1), base.flatten()]),
        "nothing": base[:0],
        "nothing, of another shape": base[:, :0],
        "same values, wider": base.double(),
    }
    digests = {name: bits.digest(tensor) for name, tensor in others.items()} | {"base": bits.digest(base)}
    assert len(set(digests.values())) == len(digests), digests
    assert bits.digest(base.permute(2, 0, 1).contiguous().permute(1, 2, 0)) == digests["base"]
    assert bits.digest(base.view(torch.int32)) == digests["base"]


def test_any_single_flipped_bit_changes_both_halves_of_the_digest():
    data = np.arange(40, dtype=np.uint8)
    whole = bits.digest(torch.from_numpy(data))
    for bit in range(8 * len(data)):
        other = data.copy()
        other[bit // 8] ^= 1 << bit % 8
        digest = bits.digest(torch.from_numpy(other))
        assert digest[:16] != whole[:16]
        assert digest[16:] != whole[16:]


def single(value, dtype=torch.float32):
    return torch.tensor([value], dtype=dtype)


@pytest.mark.parametrize(
    ("a", "b", "ulp", "gap"),
    [
        (single(1.0), single(1.0 + 2**-23), 1, 2**-23),
        (single(1.0), single(1.0 - 2**-24), 1, 2**-24),
        (single(0.0), single(-0.0), 0, 0.0),
        (single(2**-149), single(-(2**-149)), 2, 2**-148),
        (single(0.0), single(2**-149), 1, 2**-149),
        (single(-0.0), single(2**-149), 1, 2**-149),
        (single(3.4028234663852886e38), single(math.inf), 1, math.inf),
        (single(math.inf), single(-math.inf), 2 * 0x7F800000, math.inf),
        (single(1.7e308, torch.float64), single(-1.7e308, torch.float64), 2**63 - 1, math.inf),
        (single(5e-324, torch.float64), single(0.0, torch.float64), 1, 5e-324),
        (single(2**63 - 1, torch.int64), single(-(2**63), torch.int64), 2**63 - 1, 2.0**64),
        (single(-1, torch.int64), single(0, torch.int64), 1, 1.0),
        (single(2**53 + 1, torch.int64), single(2**53, torch.int64), 1, 0.0),
        (single(-128, torch.int8), single(127, torch.int8), 255, 255.0),
        (single(True, torch.bool), single(False, torch.bool), 1, 1.0),
        (single(2**64 - 1, torch.uint64), single(0, torch.uint64), 2**63 - 1, 2.0**64),
        (single(1 + 1j, torch.complex64), single(1 + 3j, torch.complex64), 0x00C00000, 2.0),
    ],
    ids=str,
)
def test_the_distance_of_two_numbers_means_what_it_says(a, b, ulp, gap):
    for left, right in ((a, b), (b, a)):
        found = bits.difference(left, right)
        assert (found.count, found.nan_count, found.max_ulp, found.first, found.share) == (1, 0, ulp, (0,), 1.0)
        assert struct.pack("<d", found.max_abs) == struct.pack("<d", gap)
        assert not found.equal


def test_a_nan_against_a_number_is_counted_and_has_no_distance():
    found = bits.difference(torch.tensor([1.0, math.nan, 2.0, 3.0]), torch.tensor([1.0, 5.0, math.nan, 3.0]))
    assert found == bits.Difference(2, 2, None, None, (1,), 0.5)
    one_part = bits.difference(torch.tensor([complex(math.nan, 1)]), torch.tensor([complex(0, 2)]))
    assert one_part == bits.Difference(1, 1, 0x00800000, 1.0, (0,), 1.0)


def test_two_nans_are_equal_only_if_their_bits_are():
    quiet, other = (place([word], torch.float32, (1,)) for word in (0x7FC00000, 0xFFC00001))
    assert bits.difference(quiet, quiet.clone()).equal
    assert bits.difference(quiet, other) == bits.Difference(1, 0, None, None, (0,), 1.0)


def test_an_empty_tensor_differs_in_nothing():
    assert bits.difference(torch.empty(3, 0), torch.empty(3, 0)) == bits.Difference(0, 0, None, None, None, 0.0)


def test_lazy_conjugates_and_negatives_are_read_as_the_values_they_stand_for():
    z = torch.tensor([1 + 2j, 3 - 4j])
    assert z.conj().is_conj()
    assert z.conj().imag.is_neg()
    assert bits.difference(z.conj(), z.conj().resolve_conj()).equal
    assert bits.digest(z.conj()) == bits.digest(torch.tensor([1 - 2j, 3 + 4j]))
    assert bits.digest(z.conj().imag) == bits.digest(torch.tensor([-2.0, 4.0]))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # deprecated, and in use all the same
def test_types_that_torch_cannot_copy_are_read_in_any_layout():
    packed = torch.arange(64, dtype=torch.uint8)
    assert bits.digest(packed.view(torch.uint4)[::2]) == bits.digest(packed[::2])
    table = torch.quantize_per_tensor(torch.arange(12.0).reshape(3, 4), 1.0, 0, torch.qint8)
    assert bits.digest(table.t()) == bits.digest(table.int_repr().t())
    assert bits.difference(table, torch.quantize_per_tensor(table.dequantize() + 1, 1.0, 0, torch.qint8)).count == 12


def test_a_tensor_that_requires_grad_is_read_without_a_trace():
    leaf = torch.ones(3, requires_grad=True)
    assert bits.digest(leaf * 2) == bits.digest(torch.full((3,), 2.0))
    assert bits.difference(leaf, leaf + 0).equal
    assert leaf.grad is None


PLAIN, META, SPARSE = torch.ones(2), torch.ones(2, device="meta"), torch.ones(2).to_sparse()
NO_BITS = "expected a tensor with data, got a meta tensor: it holds no bits"
NOT_STRIDED = "expected a strided tensor, got layout torch.sparse_coo: pass .to_dense()"


@pytest.mark.parametrize(
    ("a", "b", "error", "text"),
    [
        ([1.0], PLAIN, ArgumentTypeError, "a: expected a tensor, got list"),
        (PLAIN, None, ArgumentTypeError, "b: expected a tensor, got NoneType"),
        (META, PLAIN, ArgumentValueError, f"a: {NO_BITS}"),
        (PLAIN, META, ArgumentValueError, f"b: {NO_BITS}"),
        (SPARSE, PLAIN, ArgumentValueError, f"a: {NOT_STRIDED}"),
        (PLAIN, SPARSE, ArgumentValueError, f"b: {NOT_STRIDED}"),
        (
            PLAIN,
            PLAIN.double(),
            ArgumentValueError,
            "a and b: expected the same dtype, got torch.float32 and torch.float64: convert one of them",
        ),
        (
            PLAIN,
            torch.ones(2, 1),
            ArgumentValueError,
            "a and b: expected the same shape, got torch.Size([2]) and torch.Size([2, 1]): convert one of them",
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else type(value).__name__,
)
def test_difference_refuses_what_it_cannot_compare(a, b, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        bits.difference(a, b)


@pytest.mark.parametrize(
    ("tensor", "error", "text"),
    [
        (np.ones(2), ArgumentTypeError, "tensor: expected a tensor, got ndarray"),
        (META, ArgumentValueError, f"tensor: {NO_BITS}"),
        (SPARSE, ArgumentValueError, f"tensor: {NOT_STRIDED}"),
    ],
    ids=["no tensor", "meta", "sparse"],
)
def test_digest_refuses_what_has_no_bytes(tensor, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        bits.digest(tensor)
