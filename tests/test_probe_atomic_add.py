"""`detprobe.probes.atomic_add`: it shows what atomic additions do, and that the ops in a fixed order do not."""

import os
import re

import numpy as np
import pytest
import torch
from emulated_module import ROOT

import detprobe
from detprobe import _emulator, _probes, probes
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probes import _atomic_add
from detprobe.probes._common import Writer
from detprobe.probes._native import TYPES

DTYPES = tuple(TYPES)
two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two threads on one core seldom meet")


def table(report, title):
    found = next(table for table in report.tables if table.title.startswith(title))
    return [dict(zip([column.name for column in found.columns], row, strict=True)) for row in found.rows]


def draw(n, dtype, seed=0):
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def emulated(x, bins, seed):
    sums, tickets = torch.zeros(bins, dtype=x.dtype), torch.zeros(-(-len(x) // 256), dtype=torch.int32)
    _emulator.atomic_add(x.data_ptr(), len(x), bins, TYPES[x.dtype], sums.data_ptr(), tickets.data_ptr(), seed)
    return sums, tickets


def in_order(x, bins, order=None):
    """The sums of ascending or other indices, each addition rounded to the dtype."""
    sums = torch.zeros(bins, dtype=x.dtype)
    for i in range(len(x)) if order is None else order:
        sums[i % bins] += x[i]
    return sums


@two_cores
def test_two_threads_give_more_than_one_result_and_the_fixed_order_one():
    report = probes.atomic_add(device="cpu", ladders=False)
    atomic, fixed, exact = table(report, "results")
    assert report.free
    assert (atomic["runs"], fixed["runs"], exact["runs"]) == (50, 50, 50)
    assert atomic["distinct"] > 1
    assert atomic["apart"] > 0
    assert (fixed["distinct"], exact["distinct"]) == (1, 1)
    assert exact["off exact"] == 0
    (arrival,) = table(report, "order of arrival")
    assert arrival["orders"] > 1
    assert -1 <= arrival["tau, least"] <= arrival["tau, median"] <= arrival["tau, most"] <= 1
    assert sum(report.figures[0].counts) == 50


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bins", [1, 3, 64])
def test_one_thread_adds_in_order(dtype, bins):
    x = draw(1000, dtype)
    sums, seconds = torch.empty((2, bins), dtype=dtype), torch.empty(2, dtype=torch.float64)
    tickets = torch.empty((2, 11), dtype=torch.int32)
    where = {"x": x.data_ptr(), "sums": sums.data_ptr(), "tickets": tickets.data_ptr(), "seconds": seconds.data_ptr()}
    _probes.atomic_add_threads(type=TYPES[dtype], n=1000, bins=bins, threads=1, chunk=95, runs=2, **where)
    assert torch.equal(sums[0], in_order(x, bins))
    assert torch.equal(sums[1], sums[0])
    assert tickets.tolist() == [list(range(11))] * 2
    assert (seconds > 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_lose_no_number(dtype):
    """Sums that no order can round: a lost update would show."""
    n, bins = (1000, 1) if dtype in (torch.float16, torch.bfloat16) else (1 << 18, 5)
    ones = torch.ones(min(n, 200) if dtype is torch.bfloat16 else n, dtype=dtype)
    raced = _atomic_add._race_on_cpu(ones, bins, 20)
    assert raced.sums.sum(1).tolist() == [float(len(ones))] * 20
    for row in raced.tickets.tolist():
        assert sorted(row) == list(range(len(row)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bins", [1, 3])
def test_the_emulated_kernel_follows_its_schedule_and_repeats_with_it(dtype, bins):
    x = draw(300, dtype)
    first = {seed: emulated(x, bins, seed) for seed in range(8)}
    if dtype in (torch.float32, torch.float64):
        # 0 is ascending, and the first thread of a block, which draws the ticket, is one step behind the others.
        assert torch.equal(first[0][0], in_order(x, bins, [*range(1, 256), 0, *range(257, 300), 256]))
    assert first[0][1].tolist() == [0, 1]
    assert first[1][1].tolist() == [1, 0]  # 1 is descending
    assert len({tuple(sums.tolist()) for sums, _ in first.values()}) > 2
    for seed, (sums, tickets) in first.items():
        again = emulated(x, bins, seed)
        assert torch.equal(again[0], sums)
        assert torch.equal(again[1], tickets)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_emulated_kernel_loses_no_number(dtype):
    ones = torch.ones(200, dtype=dtype)
    for seed in (0, 1, 5):
        assert emulated(ones, 3, seed)[0].tolist() == [67.0, 67.0, 66.0]


def test_reports_of_the_emulator_are_of_the_seed():
    def rows(seed):
        report = probes.atomic_add(n=600, runs=4, device="emulator", seed=seed, ladders=False)
        assert report.free
        return [list(row.values())[:-1] for row in table(report, "results")] + table(report, "order of arrival")

    assert rows(3) == rows(3)
    assert rows(3) != rows(4)


def test_ladders_vary_one_thing_at_a_time_and_reports_go_to_json_and_back():
    report = probes.atomic_add(n=4096, bins=2, runs=3, device="cpu", dtype=torch.bfloat16)
    rows = table(report, "ladders")
    assert [row["n"] for row in rows if row["varied"] == "size"] == [16, 256, 4096]
    assert [row["bins"] for row in rows if row["varied"] == "bins"] == [1, 2, 16, 256, 4096]
    assert [row["dtype"] for row in rows if row["varied"] == "dtype"] == ["float64", "float32", "bfloat16", "float16"]
    assert {row["bins"] for row in rows if row["varied"] != "bins"} == {2}
    assert rows[-5]["distinct"] == 1  # as many bins as numbers: nothing is added up
    assert probes.ProbeReport.from_json(report.to_json()) == report
    assert "atomic_add on cpu" in str(report)
    assert "atomic_add" in report._repr_html_()


def test_a_probe_leaves_threads_and_generators_as_they_were():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    probes.atomic_add(n=100, runs=2, device="cpu", ladders=False)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.get_num_threads() == 2


def test_one_number_is_one_result():
    report = probes.atomic_add(n=1, runs=3, device="cpu")
    assert not report.free
    assert re.match(r"3 sums of the same 1 float32 numbers gave one result: another one comes", report.findings[0])


def test_sums_that_overflow_are_reported_without_a_picture():
    raced = _atomic_add._race_on_cpu(torch.full((64,), 60000.0, dtype=torch.float16), 1, 2)
    assert raced.sums.tolist() == [[np.inf], [np.inf]]
    same = (raced.sums, 1e-3)
    report = _atomic_add._report(Writer("atomic_add", "?", "cpu"), raced, same, same, [])
    assert report.ok
    assert [row["off exact"] for row in table(report, "results")] == [None] * 3
    assert report.figures == ()
    assert "atomic" in str(report)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"n": 0}, ArgumentValueError, "n: expected at least 1, got 0: there is nothing to add up in no numbers"),
        ({"n": 2.0}, ArgumentTypeError, "n: expected int, got float"),
        ({"bins": 0}, ArgumentValueError, "bins: expected at least 1, got 0: every number goes to a sum"),
        ({"n": 4, "bins": 5}, ArgumentValueError, "bins: expected at most n = 4, got 5: the rest would stay empty"),
        ({"runs": 1}, ArgumentValueError, "runs: expected at least 2, got 1: one result alone has nothing"),
        ({"dtype": torch.int32}, ArgumentValueError, "dtype: expected one of float16, bfloat16, float32, float64, got"),
        ({"dtype": "float32"}, ArgumentTypeError, "dtype: expected a torch.dtype"),
        ({"seed": -1}, ArgumentValueError, "seed: expected at least 0, got -1: a seed is not negative"),
        ({"device": "tpu"}, ArgumentValueError, "device: expected one of cpu, cuda, emulator, got 'tpu'"),
        ({"n": 2**50}, NotAvailableError, "n: 1125899906842624 numbers do not fit into the memory of cpu: take fewer"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(arguments, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        probes.atomic_add(**{"device": "cpu", **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(NotAvailableError, match=r"^device cuda: this machine has no GPU that torch can use"):
        probes.atomic_add(device="cuda")


@pytest.mark.skipif(_probes.cuda, reason="built with CUDA")
def test_a_build_without_cuda_says_so():
    with pytest.raises(NotAvailableError, match=r"^device cuda: detprobe was built without CUDA: build it with"):
        _atomic_add._race_on_cuda(torch.ones(3), 1, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_on_a_gpu_no_number_is_lost_and_the_fixed_order_is_one_result(dtype):
    raced = _atomic_add._race_on_cuda(torch.ones(200, dtype=dtype, device="cuda"), 3, 3)
    assert raced.sums.tolist() == [[67.0, 67.0, 66.0]] * 3
    report = probes.atomic_add(device="cuda", dtype=dtype, ladders=False)
    assert [row["distinct"] for row in table(report, "results")][1:] == [1, 1]


def test_the_types_have_the_numbers_of_the_header():
    text = (ROOT / "csrc" / "probes" / "atomic_add.h").read_text(encoding="utf-8")
    listed = re.search(r"enum class Type : int32_t \{ (.*) \};", text)[1].split(", ")
    names = {"kHalf": torch.float16, "kBFloat": torch.bfloat16, "kFloat": torch.float32, "kDouble": torch.float64}
    assert {names[name]: i for i, name in enumerate(listed)} == TYPES
    assert detprobe.probes.atomic_add is probes.atomic_add
