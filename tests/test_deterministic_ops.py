"""In the context, aten's ops of the scatter family and their gradients have the bits of detprobe's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rerouted_cases import CASES, COLUMNS, FLOATS, OURS, ROWS, Data, N, assert_same

import detprobe
import detprobe.reference as reference
from detprobe.bits import digest

pytestmark = pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter with Tensor src is deprecated")
ONLY_WIDE = ("histc", "bincount", "segment_reduce sum", "segment_reduce max")  # in torch, without a half of it


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_an_op_has_the_bits_of_ours_and_is_counted(name: str, dtype: torch.dtype) -> None:
    case, data = CASES[name], Data(dtype)
    if name in ONLY_WIDE and dtype in (torch.float16, torch.bfloat16):
        pytest.skip("torch has no such kernel")
    expected = case.ours(data)
    with detprobe.deterministic() as report:
        got = case.torch(data)
    assert_same(got, expected)
    assert report.replaced[f"aten::{case.op}"] == 1
    assert set(report.replaced) <= {f"aten::{case.op}", "aten::_embedding_bag"}
    assert report.uncovered == {}


@pytest.mark.parametrize("name", CASES)
def test_a_result_lies_in_memory_as_torchs_does_and_has_its_values(name: str) -> None:
    data = Data(torch.float32)
    torch.set_num_threads(1)  # on more of them, torch leaves open which record of a copy is the last
    stock = CASES[name].torch(data)
    with detprobe.deterministic():
        got = CASES[name].torch(data)
    assert (got.stride(), got.storage_offset()) == (stock.stride(), stock.storage_offset())
    if not (
        name.startswith("embedding_bag backward") and name.endswith("True")
    ):  # there torch divides by others' counts
        torch.testing.assert_close(got, stock, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_outside_of_the_context_torchs_kernel_runs(name: str) -> None:
    data = Data(torch.float32)
    torch.set_num_threads(1)
    stock = CASES[name].torch(data)
    with detprobe.deterministic() as report:
        CASES[name].torch(data)
    counted = report.replaced
    assert_same(CASES[name].torch(data), stock)
    assert report.replaced == counted


def test_the_bits_are_those_of_the_reference() -> None:
    d = Data(torch.float32)
    x, source, index = d.x.numpy(), d.source.numpy(), d.index.numpy()
    with detprobe.deterministic():
        added = d.x.index_add(0, d.index, d.source)
        scattered = d.x.scatter_add(0, d.element, d.source)
        of_index = d.gradient(lambda t: t[d.index], d.source)
    stored = {
        "index_add": reference.store(reference.index_add(x, 0, index, source), x, "float32"),
        "scatter_add": reference.store(reference.scatter_add(x, 0, d.element.numpy(), source), x, "float32"),
        "index": reference.index_backward(source, x.shape, [index]),
    }
    for got, expected in zip((added, scattered, of_index), stored.values(), strict=True):
        assert got.numpy().tobytes() == expected.tobytes()


def histograms(x: torch.Tensor, weight: torch.Tensor, out: bool) -> list[torch.Tensor]:
    edges = torch.linspace(-2, 2, 30, dtype=x.dtype)
    made = []
    for arguments in ({"bins": edges}, {"bins": 50}, {"bins": 50, "range": (-1.0, 2.0)}):
        into = {"out": (torch.empty(0, dtype=x.dtype), torch.empty(0, dtype=x.dtype))} if out else {}
        made += torch.histogram(x, **arguments, weight=weight, density=True, **into)
    return made


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("dtype", FLOATS[:2], ids=str)
def test_histograms_have_the_bits_of_ours(dtype: torch.dtype, out: bool) -> None:
    d = Data(dtype)
    weight = d.source.abs()
    with detprobe.deterministic() as report:
        got = histograms(d.source, weight, out)
    edges = [
        torch.linspace(-2, 2, 30, dtype=dtype),
        OURS.histogram_edges(d.source, 50, None),
        OURS.histogram_edges(d.source, 50, (-1.0, 2.0)),
    ]
    expected = [t for e in edges for t in (OURS.histogram(d.source, e, weight, True), e)]
    for a, b in zip(got, expected, strict=True):
        assert_same(a, b)
    assert report.replaced == {"aten::histogram": 3}


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("last", [False, True])
def test_what_a_bag_hands_to_its_backward_is_torchs(mode: str, last: bool) -> None:
    d, number = Data(torch.float32), ("sum", "mean").index(mode)
    arguments = (d.x, d.index, d.offsets, False, number, False, None, last, -1)
    stock = torch.ops.aten._embedding_bag(*arguments)
    with detprobe.deterministic():
        got = torch.ops.aten._embedding_bag(*arguments)
    for a, b in zip(got[1:3], stock[1:3], strict=True):
        assert_same(a, b)
    assert got[3].shape == stock[3].shape


# ----------------------------------------------------------------------------------------------------------- left alone


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool], ids=str)
def test_sums_of_integers_stay_torchs(dtype: torch.dtype) -> None:
    x, source = torch.ones(8, 3).to(dtype), torch.ones(50, 3).to(dtype)
    index = torch.arange(50) % 8
    stock = [
        x.index_add(0, index, source),
        x.scatter_add(0, index[:, None].expand(50, 3), source),
        x.index_put((index,), source, accumulate=True),
    ]
    with detprobe.deterministic() as report:
        got = [
            x.index_add(0, index, source),
            x.scatter_add(0, index[:, None].expand(50, 3), source),
            x.index_put((index,), source, accumulate=True),
        ]
    for a, b in zip(got, stock, strict=True):
        assert_same(a, b)
    assert (report.replaced, report.uncovered) == ({}, {})


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.int64, torch.int16, torch.uint8, torch.bool, torch.uint16, torch.uint64),
        *(torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2),
    ],
    ids=str,
)
def test_copies_of_any_type_keep_the_last_record(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    bytes_of_one = torch.empty(0, dtype=dtype).element_size()

    def drawn(*shape: int) -> torch.Tensor:
        raw = torch.randint(0, 2 if dtype is torch.bool else 100, (*shape, bytes_of_one), generator=g).to(torch.uint8)
        return raw.view(dtype).squeeze(-1)

    x, source = drawn(9, 4), drawn(500, 4)
    index, element = torch.randint(0, 9, (500,), generator=g), torch.randint(0, 9, (500, 4), generator=g)
    rows, elements, places = x.clone(), x.clone(), x.clone()
    for i in range(500):
        rows.view(torch.uint8)[index[i]] = source.view(torch.uint8)[i]
        for j in range(4):
            of_one = slice(j * bytes_of_one, (j + 1) * bytes_of_one)
            elements.view(torch.uint8)[element[i, j], of_one] = source.view(torch.uint8)[i, of_one]
            places.view(torch.uint8)[index[i], :bytes_of_one] = source.view(torch.uint8)[i, :bytes_of_one]
    with detprobe.deterministic() as report:
        put = x.clone().index_put_((index,), source)
        copied = x.clone().index_copy_(0, index, source)
        scattered = x.clone().scatter_(0, element, source)
        placed = x.clone().put_(index * 4, source[:, 0].contiguous())
    for got, expected in ((put, rows), (copied, rows), (scattered, elements), (placed, places)):
        assert_same(got, expected)
    assert report.replaced == dict.fromkeys(("aten::index_copy", "aten::index_put", "aten::put", "aten::scatter"), 1)


def test_copies_in_which_nothing_can_repeat_stay_torchs() -> None:
    x = torch.zeros(8, 3)
    with detprobe.deterministic() as report:
        x[x > 1] = 2.0
        x[torch.tensor([1, 1, 2])] = 5.0
        x.scatter_(0, torch.zeros(4, 3, dtype=torch.int64), 1.0)
        x.index_fill_(0, torch.tensor([1, 1]), 1.0)
    assert (report.replaced, report.uncovered) == ({}, {})


def test_complex_sums_run_as_ever_and_are_named_where_they_race() -> None:
    x, index = torch.zeros(4, dtype=torch.complex64), torch.tensor([1, 1, 2])
    source = torch.tensor([1 + 2j, 3, 4j])
    with detprobe.deterministic() as report:
        got = x.index_add(0, index, source)
    assert got.tolist() == [0, 4 + 2j, 4j, 0]
    assert (report.replaced, report.uncovered) == ({}, {})  # on a CPU it is one loop


WRONG: dict[str, Callable[[Data], Any]] = {
    "dtype": lambda d: d.x.index_add(0, d.index, d.source.double()),
    "shape": lambda d: d.x.index_add(0, d.index, d.source[:, :3]),
    "dim": lambda d: d.x.index_add(2, d.index, d.source),
    "length": lambda d: d.x.index_add(0, d.index[:5], d.source),
    "index": lambda d: d.x.index_add(0, d.index.float(), d.source),
    "2-d index": lambda d: d.x.index_add(0, d.element, d.source),
    "scatter shape": lambda d: d.x.scatter_add(0, d.element, d.source[:5]),
    "scatter dims": lambda d: d.x.scatter_add(0, d.index, d.source),
    "reduce": lambda d: d.x.scatter_reduce(0, d.element, d.source, "median"),
    "index_put dtype": lambda d: d.x.index_put((d.index,), d.source.double(), accumulate=True),
    "index_put shape": lambda d: d.x.index_put((d.index,), d.source[:7], accumulate=True),
    "too many": lambda d: d.x.index_put((d.index, d.index, d.index), d.weight),
    "index_copy": lambda d: d.x.index_copy(0, d.index, d.source[:5]),
    "put": lambda d: d.x.put(d.index, d.weight[:5]),
    "expanded": lambda d: torch.zeros(1, COLUMNS).expand(ROWS, COLUMNS).index_add_(0, d.index, d.source),
    "overlap": lambda d: d.source.index_add_(0, torch.arange(N), d.source),
    "bag": lambda d: F.embedding_bag(d.index, d.x, torch.tensor([1, 2])),
    "lengths": lambda d: torch.segment_reduce(d.source, "sum", lengths=torch.tensor([3, 4])),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_torch_refuses_is_refused(name: str) -> None:
    with pytest.raises((RuntimeError, IndexError)) as stock:
        WRONG[name](Data(torch.float32))
    with detprobe.deterministic(), pytest.raises(type(stock.value)):
        WRONG[name](Data(torch.float32))


def test_an_index_out_of_range_is_named_and_nothing_is_written() -> None:
    x = torch.zeros(4, 2)
    message = "expected 0 to 3 for size 4, got 9 at position 1"
    with detprobe.deterministic(), pytest.raises(IndexError, match=message):
        x.index_add_(0, torch.tensor([0, 9]), torch.ones(2, 2))
    assert torch.equal(x, torch.zeros(4, 2))


def test_0_dimensional_and_empty_arguments_run_as_in_torch() -> None:
    def run() -> list[torch.Tensor]:
        one, zero = torch.tensor(2.0), torch.tensor(0)
        return [
            one.index_add(0, zero, torch.tensor(3.0)),
            one.scatter_add(0, zero, torch.tensor(3.0)),
            one.index_copy(0, zero, torch.tensor(3.0)),
            torch.ones(3).index_copy(0, torch.tensor([1]), torch.tensor(3.0)),
            one.put(zero, torch.tensor(3.0), accumulate=True),
            torch.ones(3, 0).index_add(0, torch.tensor([1, 1]), torch.ones(2, 0)),
            torch.ones(3, 2).index_add(0, torch.empty(0, dtype=torch.int64), torch.ones(0, 2)),
            torch.ones(3, 2).scatter_add(0, torch.empty(0, 2, dtype=torch.int64), torch.ones(4, 2)),
            torch.ones(3, 2).index_put((torch.empty(0, dtype=torch.int64),), torch.ones(2), accumulate=True),
            torch.ones(3, 2).index_put((torch.tensor(1),), torch.ones(2), accumulate=True),
            torch.ops.aten.index_put(torch.ones(3, 2), [None, torch.tensor([1, -1])], torch.ones(3, 2), True),
            torch.ones(0, dtype=torch.int64).bincount(torch.ones(0)),
            F.embedding_bag(torch.empty(0, dtype=torch.int64), torch.ones(3, 2), torch.tensor([0, 0])),
        ]

    stock = run()
    with detprobe.deterministic():
        got = run()
    for a, b in zip(got, stock, strict=True):
        assert_same(a, b)


def test_views_and_strides_of_every_kind_are_written_in_place() -> None:
    g = torch.Generator().manual_seed(0)
    index, source = torch.randint(0, 10, (300,), generator=g), torch.randn(300, 5, generator=g)
    expected = OURS.index_add(torch.zeros(10, 5), 0, index, source, 1, [])
    memory = {
        "transposed": torch.zeros(5, 10).t(),
        "every second": torch.zeros(10, 10)[:, ::2],
        "inside": torch.zeros(12, 7)[1:11, 1:6],
        "reversed rows": torch.zeros(20, 5)[::2],
    }
    with detprobe.deterministic():
        for x in memory.values():
            x.index_add_(0, index, source.t().contiguous().t())
            assert_same(x.contiguous(), expected)
        shared = torch.zeros(2, 10, 5)
        shared[0].index_put_((index,), source, accumulate=True)
    assert_same(shared[0], expected)
    assert not shared[1].any()


def test_the_race_of_index_put_on_two_threads_has_one_digest() -> None:
    """The planted fault: three columns, permuted, which torch adds from two threads as they arrive."""
    g = torch.Generator().manual_seed(0)
    index, values = torch.randint(0, 500, (38000,), generator=g), torch.randn(3, 38000, generator=g).t()

    def run() -> str:
        return digest(torch.zeros(500, 3).index_put_((index,), values, accumulate=True))

    with detprobe.deterministic() as report:
        digests = {run() for _ in range(40)}
        torch.set_num_threads(1)
        digests.add(run())
    assert len(digests) == 1
    assert report.replaced == {"aten::index_put": 41}
