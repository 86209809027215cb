"""Memory that nobody wrote, in every type and phase, and beside other verdicts.

What is read in the backward or by the optimizer is found too, at the line of the forward that made it or that its
gradient belongs to. An op that differs for another reason keeps its own verdict, and reading does not hide it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import detprobe

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64]
SMALL = [torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


def line_of(mark: str) -> str:
    text = Path(__file__).read_text().splitlines()
    (line,) = [n for n, line in enumerate(text, 1) if line.endswith(f"# {mark}")]
    return f"test_scan_unwritten.py:{line}"


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *SMALL], ids=str)
def test_a_type_is_watched(dtype: torch.dtype) -> None:
    report = detprobe.scan(
        lambda x: (torch.empty(9, dtype=dtype).to(torch.complex128) * 2, x), torch.ones(1), replays=2
    )
    assert [finding.verdict for finding in report.findings] == ["uninitialized"]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *SMALL], ids=str)
def test_a_type_that_is_filled_is_no_finding(dtype: torch.dtype) -> None:
    def model(x: torch.Tensor) -> Any:
        y = torch.empty(9, dtype=dtype)
        y[:4].copy_(x[:4])
        y[4:].copy_(x[4:])
        return y.to(torch.complex128) * 2

    assert detprobe.scan(model, torch.arange(9.0), replays=2, backward=False).findings == ()


@pytest.mark.parametrize("n", range(1, 9))
def test_integer_memory_of_any_size_is_watched(n: int) -> None:
    report = detprobe.scan(lambda x: x[torch.empty(n, dtype=torch.int64)], torch.randn(4, 3), replays=2)
    assert [finding.verdict for finding in report.findings] == ["uninitialized"]


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        extra = torch.empty_like(gradient)  # made in the backward
        return gradient * 2 + extra * 3


def test_a_read_in_the_backward_is_found_there() -> None:
    report = detprobe.scan(lambda x: Scale.apply(x), torch.randn(4, 6, requires_grad=True), replays=3)
    (finding,) = report.findings
    assert (finding.op, finding.phase, finding.verdict) == ("aten::mul", "backward", "uninitialized")
    # The memory was made in the custom backward, on a line that `location` does not name.
    assert line_of("made in the backward") in f"{finding.location} {finding.call_site} {finding.cause}"


class Holds(nn.Module):
    """Makes memory in the forward that only the backward reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = torch.empty(4, 6)  # made in the forward
        return Late.apply(x, held)


class Late(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(held)
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (held,) = ctx.saved_tensors
        return gradient * held, None


def test_memory_of_the_forward_that_the_backward_reads_is_named_at_the_forward_line() -> None:
    report = detprobe.scan(Holds(), torch.randn(4, 6, requires_grad=True), replays=3)
    (finding,) = report.findings
    assert (finding.verdict, finding.phase) == ("uninitialized", "backward")
    assert finding.location.endswith(line_of("made in the forward"))


class Careless(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    momentum = torch.empty_like(parameter)  # made in the step
                    parameter.add_(momentum.mul_(0.9).add_(parameter.grad), alpha=-0.1)


def test_a_read_in_the_optimizers_step_is_found_there() -> None:
    net = nn.Linear(6, 6, bias=False)
    before = net.weight.detach().clone()
    optimizer = Careless(net.parameters(), lr=0.1)
    report = detprobe.scan(net, torch.randn(4, 6), optimizer=optimizer, replays=3)
    (finding,) = report.findings
    assert (finding.op, finding.phase, finding.verdict) == ("aten::mul_", "optimizer", "uninitialized")
    assert finding.location.endswith(line_of("made in the step"))
    assert torch.equal(before, net.weight)


def test_a_gradient_that_nobody_wrote_is_found() -> None:
    class Forgets(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return torch.empty_like(gradient)

    report = detprobe.scan(lambda x: Forgets.apply(x), torch.randn(4, 6, requires_grad=True), replays=2)
    assert [finding.verdict for finding in report.findings] == ["uninitialized"]


def racy_add(target: torch.Tensor) -> torch.Tensor:
    index = torch.randint(0, 50, (200_000,), generator=torch.Generator().manual_seed(0))
    values = torch.randn(200_000, 64, generator=torch.Generator().manual_seed(1))
    return target.index_put_((index,), values, accumulate=True)


def test_a_nondeterministic_op_on_memory_that_was_filled_keeps_its_name() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        table = torch.empty(50, 64)
        table[:20] = 0.0
        table[20:] = x
        return racy_add(table)

    report = detprobe.scan(model, torch.ones(1), backward=False)
    assert [(f.op, f.verdict) for f in report.findings] == [("aten::index_put_", "nondeterministic")]


def test_a_nondeterministic_op_on_memory_that_nobody_wrote_keeps_its_name() -> None:
    report = detprobe.scan(lambda x: racy_add(torch.empty(50, 64)) * x, torch.ones(1), backward=False)
    assert ("aten::index_put_", "nondeterministic") in {(f.op, f.verdict) for f in report.findings}


def test_every_place_that_made_the_memory_is_named_once() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = x + torch.empty(4, 6)
            x = x * torch.empty(4, 6)
        return x

    report = detprobe.scan(model, torch.randn(4, 6), replays=2, backward=False)
    assert sorted((f.op, f.verdict, f.calls) for f in report.findings) == [
        ("aten::add", "uninitialized", 3),
        ("aten::mul", "uninitialized", 3),
    ]


def test_what_was_read_once_is_not_found_again_downstream() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty(4, 6) * 2
        return (y + x).exp().sum()

    (finding,) = detprobe.scan(model, torch.randn(4, 6), replays=2, backward=False).findings
    assert finding.op == "aten::mul"


def test_the_same_finding_comes_in_every_scan() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty(4, 6)
        y[1:3] = x[1:3]
        return y.sin() * x

    first = detprobe.scan(model, torch.randn(4, 6), replays=2, backward=False)
    for _ in range(5):
        again = detprobe.scan(model, torch.randn(4, 6), replays=2, backward=False)
        assert [f.key for f in again.findings] == [f.key for f in first.findings]
        assert [f.verdict for f in again.findings] == ["uninitialized"]


def test_the_models_own_results_do_not_depend_on_the_poison() -> None:
    seen: list[torch.Tensor] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty(4, 6)
        y.copy_(x)
        torch.empty(4, 6)
        seen.append(y.exp().detach())
        return y.exp()

    x = torch.randn(4, 6)
    detprobe.scan(model, x, replays=2, backward=False)
    assert all(torch.equal(result, x.exp()) for result in seen)
