"""Replays see exactly what the first run saw, and verdicts on ops of known behaviour are the right ones."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import models
import pytest
import torch
from planted import ops
from scipy.stats import binom
from torch import nn

import detprobe


def scan(model: Any, *inputs: torch.Tensor, **options: Any) -> detprobe.Report:
    return detprobe.scan(model, inputs, **{"backward": False, **options})


def rows(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0))


def verdict_of(report: detprobe.Report, op: str) -> set[str]:
    return models.verdicts(report, f"planted::{op}")


# ------------------------------------------------------------------------------------------------- strides and overlap


class Gather(nn.Module):
    """The gradient of `table[index]` arrives permuted, or contiguous.

    Permuted, it is added column by column, and two threads take two columns each: no place is shared. (With three
    columns they share the middle one, and on a busy machine the sums differ.)
    """

    def __init__(self, permuted: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(500, 4, generator=generator))
        self.index = torch.randint(0, 500, (38000,), generator=generator)
        self.permuted = permuted

    def forward(self, scale: torch.Tensor) -> torch.Tensor:
        read = self.table[self.index]
        return read.t() * scale if self.permuted else read * scale


def test_an_op_that_is_stable_for_its_real_layout_alone_is_not_accused() -> None:
    scale = torch.randn(4, 38000)
    # The control: the same values are a race when they are contiguous, on these threads and at this moment.
    racy = models.racing(lambda: detprobe.scan(Gather(permuted=False), scale.t().contiguous()))
    assert models.named(racy) == {("aten::index_put", "backward", "nondeterministic")}
    for _ in range(5):
        report = detprobe.scan(Gather(permuted=True), scale)
        assert report.findings == ()
        assert models.verdicts(report, "aten::index_put") == {"stable"}


VIEWS: dict[str, Callable[[torch.Tensor], list[torch.Tensor]]] = {
    "contiguous": lambda base: [base],
    "offset": lambda base: [base[3:17]],
    "odd offset": lambda base: [base.flatten()[7:21]],
    "transposed": lambda base: [base.t()],
    "permuted slice": lambda base: [base.view(8, 4, 6).permute(2, 0, 1)[1:5]],
    "steps": lambda base: [base[::3, 1::2]],
    "a diagonal": lambda base: [base.diagonal()],
    "a scalar inside": lambda base: [base[5, 3]],
    "empty": lambda base: [base[4:4]],
    "expanded": lambda base: [base[2].expand(7, 6)],
    "windows that overlap": lambda base: [base.flatten().unfold(0, 5, 2)],
    "two views of one memory": lambda base: [base[1:9], base[5:20].t()],
    "the same tensor twice": lambda base: [base[1:], base[1:]],
    "shared and apart": lambda base: [base[::2], torch.ones(3), base.flatten()[9:]],
    "other types of one memory": lambda base: [base, base.view(torch.int32)[2:]],
    "half precision at an odd element": lambda base: [base.view(torch.bfloat16).flatten()[3:40]],
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("op", ["reads_layout", "writes_by_layout"])
def test_strides_offset_overlap_address_and_bytes_are_those_of_the_first_run(op: str, name: str) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return getattr(ops, op)(VIEWS[name](x * 1.0))

    report = scan(model, rows(32))
    assert report.findings == ()
    (row,) = (row for row in report.ops if row.op == f"planted::{op}")
    assert (row.verdict, row.replays) == ("stable", 8)


@pytest.mark.parametrize("loses", ["stride", "offset", "bytes"])
def test_a_replay_that_lost_its_layout_would_be_seen(loses: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault for the tests above."""
    from detprobe.scanning import _freeze

    place = _freeze._Laid.place

    def worse(self: Any, like: torch.Tensor, storage: torch.UntypedStorage, shift: int) -> torch.Tensor:
        laid = place(self, like, storage, shift)
        if loses == "stride":
            return laid.clone(memory_format=torch.contiguous_format)
        if loses == "offset":
            return torch.cat([laid.flatten()[:1], laid.flatten()])[1:].view(laid.shape)
        return laid.add_(1)

    monkeypatch.setattr(_freeze._Laid, "place", worse)
    report = scan(lambda x: ops.writes_by_layout([(x * 1.0).t()]), rows(32))
    assert {(f.op, f.verdict) for f in report.findings} == {("planted::writes_by_layout", "nondeterministic")}


WRITERS: dict[str, Callable[[torch.Tensor], Any]] = {
    "in place": lambda x: x.mul_(3.0),
    "in place on a view": lambda x: x[1:].t().mul_(3.0),
    "in place from its own memory": lambda x: x[:2].add_(x[2:]),
    "copy between overlapping views": lambda x: x.flatten()[:12].copy_(x.flatten()[12:].clone()),
    "accumulated": lambda x: x.index_put_((torch.tensor([0, 0, 1]),), torch.ones(3, 6), accumulate=True),
    "out": lambda x: torch.add(x, 1.0, out=x),
    "out of another size": lambda x: torch.add(x, 1.0, out=torch.empty(0)),
    "two outs": lambda x: torch.max(x, 1, out=(torch.empty(4), torch.empty(4, dtype=torch.int64))),
    "lists": lambda x: torch._foreach_mul_([x[0], x[1], x[3]], 2.0),
    "lists of views of one memory": lambda x: torch._foreach_add_([x[:, 0], x[:, 1]], [x[:, 2], x[:, 0].clone()]),
    "scalar": lambda x: x.sum().mul_(2.0),
    "empty": lambda x: x[2:2].mul_(2.0),
    "running statistics": lambda x: nn.BatchNorm1d(6)(x),
    "sorted": lambda x: torch.sort(x, out=(torch.empty_like(x), torch.empty(4, 6, dtype=torch.int64))),
    "fill": lambda x: x.masked_fill_(x > 0, 1.0),
    "cumulative": lambda x: x.cumsum_(0),
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_op_that_writes_is_replayed_on_what_it_found(name: str) -> None:
    x = rows()
    before = x.clone()
    with torch.random.fork_rng():
        expected = WRITERS[name](x.clone())
    got: list[Any] = []

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result = WRITERS[name](x)
            flat = result if isinstance(result, list | tuple) else [x if result is None else result]
            got[:] = [torch.as_tensor(value).clone() for value in flat]
            return torch.cat([value.double().flatten() for value in got])

    report = scan(Model(), x)
    assert report.ok
    assert {row.verdict for row in report.ops} == {"stable"}
    assert torch.equal(x, before)
    flat = expected if isinstance(expected, list | tuple) else [expected]
    if expected is not None:
        assert all(torch.equal(a, b) for a, b in zip(got, flat, strict=True))


def test_an_op_that_writes_in_secret_is_replayed_on_what_it_found_and_undone() -> None:
    x = rows()
    before = x.clone()
    report = scan(lambda x: ops.double_in_secret(x), x)
    assert report.findings == ()
    assert verdict_of(report, "double_in_secret") == {"stable"}
    assert torch.equal(x, before)


# ---------------------------------------------------------------------------------------------------------- generators


@pytest.mark.parametrize("op", ["draws_numpy", "draws_python", "draws_torch"])
def test_an_op_that_draws_from_a_generator_of_the_process_is_random(op: str) -> None:
    report = scan(lambda x: getattr(ops, op)(x), rows())
    assert report.findings == ()
    assert verdict_of(report, op) == {"random"}


@pytest.mark.parametrize("draw", ["randn", "bernoulli_", "multinomial", "randperm"])
def test_a_generator_of_the_users_own_is_set_back(draw: str) -> None:
    generator = torch.Generator().manual_seed(7)
    before = generator.get_state()
    draws: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "randn": lambda x: x + torch.randn(6, generator=generator),
        "bernoulli_": lambda x: x * torch.empty(6).bernoulli_(0.5, generator=generator),
        "multinomial": lambda x: torch.multinomial(x.abs(), 2, generator=generator) * 1.0,
        "randperm": lambda x: x[torch.randperm(4, generator=generator)],
    }
    report = scan(draws[draw], rows())
    assert report.findings == ()
    assert "random" in {row.verdict for row in report.ops}
    assert torch.equal(generator.get_state(), before)


# ---------------------------------------------------------------------------------------------------------- known rates


def assert_rate(found: int, scans: int, rate: float) -> None:
    """Within the interval that holds all but one of a million such experiments."""
    low, high = binom.interval(1 - 1e-6, scans, rate)
    assert low <= found <= high, f"found in {found} of {scans} scans; {rate:.3f} of them were expected"


@pytest.mark.slow
@pytest.mark.parametrize(("k", "replays"), [(2, 2), (2, 4), (5, 2)])
def test_an_op_with_equally_likely_results_is_found_at_the_rate_of_the_bound(k: int, replays: int) -> None:
    q = 1 / k  # the chance that a replay equals the first run
    found = sum(not scan(lambda x: ops.one_of(x, k), rows(), replays=replays, axes=("rerun",)).ok for _ in range(200))
    assert_rate(found, 200, 1 - q ** (replays - 1))


@pytest.mark.slow
def test_an_op_that_seldom_differs_is_found_at_the_rate_that_its_probability_gives() -> None:
    p, r = 0.1, 8
    found = sum(not scan(lambda x: ops.seldom(x, p), rows(), replays=r, axes=("rerun",)).ok for _ in range(200))
    # All r results are equal when all are the usual one or all the rare one. 1 - q**(r - 1) = 0.52 is the share when
    # the first run gave the usual one.
    assert_rate(found, 200, 1 - (1 - p) ** r - p**r)


def test_a_finding_has_all_its_replays_and_a_stable_row_its_bound() -> None:
    report = scan(lambda x: ops.one_of(x, 1 << 40) + ops.one_of(x, 1), rows(), replays=6)
    (finding,) = report.findings
    assert (finding.distinct, finding.replays, finding.changed) == (6, 6, 1.0)
    (stable,) = (row for row in report.ops if row.op == "aten::add")
    assert stable.bound is not None
    assert math.isclose(stable.bound, 1 - 0.05 ** (1 / 5))


# ----------------------------------------------------------------------------------------------------------------- axes


def findings_by(axis: str, report: detprobe.Report) -> set[tuple[str, str]]:
    assert {f.axis for f in report.findings} <= {axis}
    return {(f.op, f.verdict) for f in report.findings}


@pytest.mark.parametrize("axes", [("flag",), ("rerun", "flag")])
def test_the_flag_makes_no_finding_of_its_own(axes: tuple[str, ...]) -> None:
    assert scan(lambda x: ops.under_flag(x), rows(), axes=axes).findings == ()


@pytest.mark.parametrize(
    ("op", "result"), [("cured_by_flag", "identical"), ("refuses_flag", "refuses"), ("one_of", "still differs")]
)
def test_the_flag_is_tried_on_a_finding_and_its_result_is_what_came(op: str, result: str) -> None:
    arguments = (1 << 16,) if op == "one_of" else ()
    (finding,) = scan(lambda x: getattr(ops, op)(x, *arguments), rows()).findings
    tried = {trial.fix: trial for trial in finding.trials}
    flag = tried["torch.use_deterministic_algorithms(True)"]
    assert flag.result == result
    assert (flag.cost is None) == (result == "refuses")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_context_is_tried_where_it_replaces_something_alone() -> None:
    (finding,) = scan(lambda x: ops.one_of(x, 1 << 16), rows()).findings
    assert "detprobe.deterministic()" not in {trial.fix for trial in finding.trials}


@pytest.mark.parametrize(("flag", "context"), [(0.5, 2.0), (2.0, 0.5)])
def test_of_two_fixes_that_hold_the_cheaper_one_is_shown(
    flag: float, context: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detprobe.scanning import _explain

    names = {"flag": "torch.use_deterministic_algorithms(True)", "context": "detprobe.deterministic()"}
    costs = {names["flag"]: flag, names["context"]: context, "torch.set_num_threads(1)": 0.1}

    def tried(name: str, *_: Any) -> detprobe.Trial:
        return detprobe.Trial(name, "identical", costs[name])

    monkeypatch.setattr(_explain, "_try", tried)
    monkeypatch.setattr(_explain, "_in_context", lambda *_: [tried(names["context"])])
    (finding,) = scan(lambda x: ops.one_of(x, 1 << 16), rows()).findings
    cheaper, dearer = sorted(names.values(), key=lambda name: costs[name])
    assert [trial.fix for trial in finding.trials] == [cheaper, dearer, "torch.set_num_threads(1)"]
    assert (finding.fix, finding.fix_cost) == (cheaper, costs[cheaper])


def test_a_sum_that_the_thread_count_splits_is_order_sensitive() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    assert scan(lambda x: ops.per_thread(x), x).findings == ()
    report = scan(lambda x: ops.per_thread(x) + x.sin(), x, axes=("rerun", "threads"))
    assert findings_by("threads", report) == {("planted::per_thread", "order-sensitive")}
    assert "threads" in report.findings[0].cause
    assert torch.get_num_threads() == 2


def test_a_kernel_that_depends_on_the_layout_is_order_sensitive() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return ops.by_layout(x.t()) + x.t().sin()

    assert scan(model, rows()).findings == ()
    report = scan(model, rows(), axes=("rerun", "layout"))
    assert findings_by("layout", report) == {("planted::by_layout", "order-sensitive")}
    assert scan(lambda x: ops.by_layout(x), rows(), axes=("rerun", "layout")).findings == ()


def test_an_op_whose_rows_depend_on_the_batch_is_order_sensitive() -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.ReLU())  # mixes samples by intent
    assert scan(model, rows(), axes=("rerun", "batch")).findings == ()
    report = scan(lambda x: ops.by_batch(x).sin(), rows(), axes=("rerun", "batch"))
    assert findings_by("batch", report) == {("planted::by_batch", "order-sensitive")}


def test_an_op_that_differs_only_beside_other_work_is_found_under_stress() -> None:
    idle = threading.active_count()
    assert scan(lambda x: ops.when_busy(x, idle), rows()).findings == ()
    report = scan(lambda x: ops.when_busy(x, idle) + x.sin(), rows(), axes=("rerun", "stress"))
    assert findings_by("stress", report) == {("planted::when_busy", "nondeterministic")}
    assert threading.active_count() == idle
