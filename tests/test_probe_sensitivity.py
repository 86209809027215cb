"""`environment_sensitivity` and `gemm`: planted dependence on a condition is told, and what repeats is not accused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import snapshot
import torch

import detprobe
from detprobe import conditions
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probe_report import ProbeReport
from detprobe.probes import _fresh, _gemm_cuda, environment_sensitivity, gemm
from detprobe.probes import _gemm as G

STEP = torch.finfo(torch.float32).eps


def verdicts(report: ProbeReport) -> dict[str, set[str]]:
    """Per axis."""
    found: dict[str, set[str]] = {}
    for axis, _, _, _, verdict, *_ in report.tables[0].rows:
        found.setdefault(str(axis), set()).add(str(verdict))
    return found


def by_threads(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + STEP * torch.get_num_threads())


def by_address(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + STEP * (x.data_ptr() % 64 != 0))


def test_an_op_that_depends_on_nothing_is_not_accused() -> None:
    report = environment_sensitivity(torch.sin, inputs=torch.randn(1000), runs=2)
    assert report.ok
    assert report.findings == ("Nothing that was changed here moved a bit.",)
    assert verdicts(report) == {axis: {"same"} for axis in ("rerun", "threads", "alignment", "load")}


@pytest.mark.parametrize(("fn", "axis"), [(by_threads, "threads"), (by_address, "alignment")])
def test_the_axis_that_moves_it_is_named_and_no_other(fn: Callable[..., Any], axis: str) -> None:
    report = environment_sensitivity(fn, inputs=torch.ones(100), runs=2)
    assert report.free
    found = verdicts(report)
    assert {name for name, seen in found.items() if seen != {"same"}} == {axis}
    assert found[axis] == {"moved"}
    assert len(report.findings) == 1
    assert f"The {'thread count' if axis == 'threads' else 'address of the data'} moves it" in report.findings[0]


def test_how_far_it_moved_is_told() -> None:
    report = environment_sensitivity(by_threads, inputs=torch.ones(100), runs=2, axes=["threads"])
    assert [row[1:] for row in report.tables[0].rows] == [
        ("nothing changed", 2, 1, "same", 0.0, 0),
        ("1 instead of 2", 2, 1, "moved", 100.0, 1),
        ("4 instead of 2", 2, 1, "moved", 100.0, 2),
        ("nothing changed, again", 2, 1, "same", 0.0, 0),
    ]


def test_an_op_that_alternates_between_two_results_is_counted() -> None:
    counter = itertools.count()

    def alternating(x: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        out[0] += next(counter) % 2 * STEP * 3
        return out

    report = environment_sensitivity(alternating, inputs=torch.ones(4), runs=6, axes=["threads"])
    assert report.tables[0].rows[0][2:] == (6, 2, "varies", 25.0, 3)
    assert "2 distinct results of 6 runs" in report.findings[0]


def test_what_is_rare_without_any_change_is_not_laid_at_the_door_of_one() -> None:
    calls = itertools.count()
    # Another result in both runs on the first other thread count, and in one of those with nothing changed at the end.
    planted = {2, 3, 7}
    report = environment_sensitivity(
        lambda x: x + STEP * (next(calls) in planted), inputs=torch.ones(4), runs=2, axes=["threads"]
    )
    assert [row[4] for row in report.tables[0].rows] == ["same", "moved", "same", "varies"]
    assert report.free
    assert "It does not repeat" in report.findings[0]
    assert "thread count moves it" not in str(report)


def test_a_load_that_moves_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = []

    @contextmanager
    def planted(device: torch.device) -> Iterator[None]:
        busy.append(device)
        yield
        busy.pop()

    monkeypatch.setattr("detprobe.probes._sensitivity.load", planted)
    report = environment_sensitivity(lambda x: x + STEP * len(busy), inputs=torch.ones(4), runs=2)
    assert verdicts(report)["load"] == {"moved"}
    assert "Other work on the machine moves it" in report.findings[0]


def test_draws_are_not_a_difference_and_inputs_are_not_touched() -> None:
    x = torch.ones(100, requires_grad=True)

    def draws(x: torch.Tensor) -> torch.Tensor:
        out = torch.nn.functional.dropout(x, 0.5)
        x.detach().zero_()
        return out

    assert environment_sensitivity(draws, inputs=x, runs=3).ok
    assert torch.equal(x, torch.ones(100))


def test_a_closure_is_run_where_its_data_are() -> None:
    x = torch.randn(100)
    report = environment_sensitivity(lambda: x.sum(), runs=2)
    assert set(verdicts(report)) == {"rerun", "threads", "load"}
    assert report.notes == ("alignment: not tried, there is no contiguous tensor among the inputs.",)


def test_shifted_copies_lie_where_they_are_asked_to() -> None:
    x = torch.randn(3, 5)
    for elements in (0, 1, 4, 12):
        moved = conditions.shifted(x, elements)
        assert torch.equal(moved, x)
        assert moved.data_ptr() % 64 == 4 * elements % 64


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fn": 3}, "fn: expected a callable, got int"),
        ({"runs": 1}, "runs: expected at least 2, got 1"),
        ({"axes": "threads"}, "axes: expected a tuple of names out of threads, alignment, load; got 'threads'"),
        ({"axes": ["moon"]}, "axes: expected names out of threads, alignment, load; got 'moon'"),
        ({"inputs": 3}, "inputs: expected a tensor, a tuple"),
        ({"device": "emulator"}, "device: expected one of cpu, cuda, got 'emulator'"),
        ({"fn": lambda x: "text"}, "fn: expected it to return tensors or a number, got str"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ArgumentTypeError, ArgumentValueError)) as caught:
        environment_sensitivity(**{"fn": torch.sin, "inputs": torch.ones(4), **options})
    assert said in str(caught.value)


def breaks(x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    torch.set_default_dtype(torch.float64)
    raise RuntimeError("the callable's own words")


@pytest.mark.parametrize(
    "probe",
    [
        lambda: environment_sensitivity(breaks, inputs=torch.ones(4)),
        lambda: detprobe.probes.reduction_order(breaks, n=4),
    ],
)
def test_what_the_user_had_is_there_again_whatever_is_raised(probe: Callable[[], Any]) -> None:
    before = snapshot.snapshot()
    with pytest.raises(RuntimeError, match="the callable's own words"):
        probe()
    assert snapshot.moved(before, snapshot.snapshot()) == []


def test_what_the_user_had_is_there_again_after_a_run() -> None:
    before = snapshot.snapshot()
    environment_sensitivity(by_threads, inputs=torch.ones(4), runs=2)
    gemm(device="cpu", sizes=[(4, 8, 4)], runs=2)
    detprobe.probes.reduction_order(torch.sum, n=8)
    assert snapshot.moved(before, snapshot.snapshot()) == []


# Matrix products.

SIZE = G.Size(8, 16, 4)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return G.operands(SIZE, torch.float32, "cpu")


def test_gemm_asks_every_question_of_every_size() -> None:
    report = gemm(device="cpu", sizes=[(4, 8, 4), (8, 16, 2)], runs=2)
    assert [table.title for table in report.tables] == [
        "The same product again",
        "A part of the batch alone, against the same rows of the whole",
        "Operands in another layout",
        "Other thread counts",
    ]
    for table in report.tables:
        assert {row[0] for row in table.rows} == {"4 x 8 x 4", "8 x 16 x 2"}
    assert len(report.findings) == 4


def test_an_exact_product_moves_nowhere() -> None:
    def exact(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a[:, :, None] * b[None]).double().sum(1).float()

    for ask in (G.repeat_rows, G.batch_rows, G.layout_rows, G.thread_rows):
        assert {row[4] for row in ask(SIZE, *pair(), 2, exact)} == {"same"}


def test_a_product_that_knows_its_batch_is_seen_in_the_batch_alone() -> None:
    def planted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(a), b.shape[1]) * (1 + STEP * len(a))

    assert [(row[1], row[4], row[6]) for row in G.batch_rows(SIZE, *pair(), 2, planted)] == [
        ("1 of 8 rows", "moved", 7),
        ("2 of 8 rows", "moved", 6),
        ("4 of 8 rows", "moved", 4),
    ]
    assert {row[4] for row in G.layout_rows(SIZE, *pair(), 2, planted)} == {"same"}


def test_a_product_that_knows_its_layout_and_one_that_knows_its_threads_are_seen() -> None:
    def strides(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.ones(2) * (1 + STEP * (a.stride(0) == 1))

    found = [row[4] for row in G.layout_rows(SIZE, *pair(), 2, strides)]
    assert found == ["moved", "same", "moved"]
    found = [row[4] for row in G.thread_rows(SIZE, *pair(), 2, lambda a, b: by_threads(a))]
    assert found == ["moved", "moved"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": []}, "sizes: expected a list of (m, k, n)"),
        ({"sizes": [(1, 2)]}, "sizes: expected (m, k, n) each, got (1, 2)"),
        ({"sizes": [(1, 0, 2)]}, "sizes: k: expected at least 1, got 0"),
        ({"runs": 0}, "runs: expected at least 2, got 0"),
        ({"dtype": torch.int64}, "dtype: expected one of float32, float64, bfloat16, float16, got int64"),
        ({"device": 3}, "device: expected one of cpu, cuda, got int"),
        ({"device": "cpu:x"}, "device: expected one of cpu, cuda, got 'cpu:x'"),
    ],
)
def test_gemm_refuses_bad_arguments_with_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ArgumentTypeError, ArgumentValueError)) as caught:
        gemm(**{"device": "cpu", **options})
    assert said in str(caught.value)


# What only CUDA has, with fakes in its place.


@contextmanager
def fake_switch(on: bool) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3 if on else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_a_switch_is_judged_against_itself_off() -> None:
    rows = _gemm_cuda.switch_rows(SIZE, *pair(), 2, name="TF32", switch=fake_switch, product=lambda a, b: by_threads(a))
    assert [(row[1], row[4]) for row in rows] == [("TF32 off", "same"), ("TF32 on", "moved")]


def test_streams_are_judged_against_the_plain_product() -> None:
    entered = []

    @contextmanager
    def side(device: str) -> Iterator[None]:
        entered.append(device)
        yield

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.ones(2) * (1 + STEP * (len(entered) > 2))

    (row,) = _gemm_cuda.stream_rows(SIZE, *pair(), 3, device="cuda:0", side=side, product=product)
    assert row[2:5] == (3, 2, "varies")
    assert entered == ["cuda:0"] * 6


def test_workspaces_are_asked_in_processes_of_their_own() -> None:
    asked = []

    def ask(function: str, request: dict[str, Any], environment: dict[str, str | None]) -> list[str]:
        asked.append(environment["CUBLAS_WORKSPACE_CONFIG"])
        assert request == {"size": [8, 16, 4], "dtype": "float32", "device": "cuda:0", "runs": 3}
        return {None: ["a", "b", "a"], ":16:8": ["c"] * 3}.get(asked[-1], ["a"] * 3)

    rows = _gemm_cuda.workspace_rows(SIZE, *pair(), 3, device="cuda:0", ask=ask)
    assert [row[1:5] for row in rows] == [
        ("not set", 3, 2, "varies"),
        (":4096:8", 3, 1, "same"),
        (":16:8", 3, 1, "moved"),
        (":0:0", 3, 1, "same"),
    ]


def test_a_fresh_process_gives_the_digests_that_this_one_gives() -> None:
    request = {"size": [8, 16, 4], "dtype": "float32", "device": "cpu", "runs": 2}
    answer = _fresh.ask("detprobe.probes._gemm_cuda:fresh_digests", request, {"CUBLAS_WORKSPACE_CONFIG": ":16:8"})
    assert answer == [detprobe.bits.digest(torch.mm(*pair()))] * 2


def test_a_fresh_process_that_fails_says_why() -> None:
    with pytest.raises(NotAvailableError, match="a fresh process failed: AttributeError: module 'torch' has no"):
        _fresh.ask(
            "detprobe.probes._gemm_cuda:fresh_digests",
            {"size": [1, 1, 1], "dtype": "float33", "device": "cpu", "runs": 2},
            {},
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_every_question_of_cuda_is_asked(dtype: torch.dtype) -> None:
    titles = [title for title, _ in _gemm_cuda.questions("cuda:0", dtype)]
    assert ("TF32" in titles) == (dtype == torch.float32)
    assert ("Reductions in reduced precision" in titles) == (dtype == torch.float16)
    assert {*_gemm_cuda.ONCE} <= set(titles)


def test_the_switches_of_cuda_leave_what_they_found() -> None:
    before = snapshot.snapshot()
    for switch in (_gemm_cuda.tf32("matmul", True), _gemm_cuda.reduced_precision("bf16", False)):
        with switch:
            pass
    assert snapshot.moved(before, snapshot.snapshot()) == []


def test_another_precision_is_no_freedom_of_order() -> None:
    table = detprobe.probe_report.Table("TF32", G.columns("size"), (("s", "TF32 on", 2, 1, "moved", 1.0, 3),))
    assert not G._is_free(table)
    assert G._is_free(detprobe.probe_report.Table("Layout", table.columns, table.rows))
