"""Memory that nobody wrote: reading it is a finding at the line that made it, filling it first never is.

Each function stands on lines of its own; the line that makes the memory is the first one of its body, and the findings
must name exactly that line. Functions that fill what they make, in whatever way, are never accused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import detprobe

Model = Callable[[torch.Tensor], Any]
FILLED: list[Model] = []
UNFILLED: list[Model] = []
MASK = torch.tensor([[True], [True], [False], [False]])


def filled(model: Model) -> Model:
    FILLED.append(model)
    return model


def unfilled(model: Model) -> Model:
    UNFILLED.append(model)
    return model


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(3))


@filled
def by_copy(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return y.copy_(x) * 2


@filled
def by_fill(x: torch.Tensor) -> Any:
    y = x.new_empty(4, 6)
    return y.fill_(3.0) * x


@filled
def by_zero(x: torch.Tensor) -> Any:
    y = torch.empty_like(x)
    return y.zero_() + x


@filled
def by_slices(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[:2] = x[:2]
    y[2:] = x[2:]
    return y * 2


@filled
def by_loop_that_reads_back(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[0] = x[0]
    for i in range(1, 4):
        y[i] = y[i - 1] + x[i]
    return y * 2


@filled
def by_scalars(x: torch.Tensor) -> Any:
    y = torch.empty(3)
    for i in range(3):
        y[i] = float(i)
    return y * 2


@filled
def by_out(x: torch.Tensor) -> Any:
    y, values, places = torch.empty(4, 6), torch.empty(4, 6), torch.empty(4, 6, dtype=torch.int64)
    torch.mul(x, 2, out=y)
    torch.sort(x, out=(values, places))
    return y + values + places


@filled
def by_out_that_resizes(x: torch.Tensor) -> Any:
    y = torch.empty(0)
    return torch.mul(x, 2, out=y) + 1


@filled
def by_product_with_beta_zero(x: torch.Tensor) -> Any:
    y = torch.empty(4, 4)
    return torch.addmm(y, x, x.t(), beta=0) * 2


@filled
def by_draws(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    z, w = torch.empty(4, 6).uniform_(), torch.empty(4, 6).bernoulli_(0.5)
    return y.normal_() * z * w


@filled
def by_permutation(x: torch.Tensor) -> Any:
    y = torch.empty(4, dtype=torch.int64)
    return x[torch.randperm(4, out=y)] * 2


@filled
def by_index_copy(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return y.index_copy_(0, torch.tensor([3, 1, 0, 2]), x) * 2


@filled
def by_scatter(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return y.scatter_(0, torch.arange(4)[:, None].expand(4, 6), x) * 2


@filled
def by_masks(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[x > 0] = x[x > 0]
    y[x <= 0] = 0.0
    return y * 2


@filled
def by_foreach(x: torch.Tensor) -> Any:
    y = [torch.empty(4, 6), torch.empty(4, 6)]
    torch._foreach_copy_(y, [x, x])
    return y[0] + y[1]


@filled
def by_parts_of_complex(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6, dtype=torch.complex64)
    y.real.copy_(x)
    y.imag.copy_(x)
    return y * 2


@filled
def by_a_view_of_another_type(x: torch.Tensor) -> Any:
    y = torch.empty(4)
    y.view(torch.int32).copy_(torch.arange(4))
    return y.view(torch.int32) + 1


@filled
def by_numpy(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    np.multiply(x.numpy(), 2, out=y.numpy())
    return y * 2


@filled
def by_torch_and_then_numpy(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[:2] = x[:2]
    y.numpy()[2:] = x.numpy()[2:]
    return y * 2


@filled
def by_numpy_with_indices(x: torch.Tensor) -> Any:
    y, z = torch.empty(1, dtype=torch.int64), torch.empty(1, dtype=torch.int64)
    y.numpy()[...] = 0
    z.numpy()[...] = 1
    return x[y] + x[z]


@filled
def by_numpy_with_masks(x: torch.Tensor) -> Any:
    y, z = torch.empty(1, dtype=torch.bool), torch.empty(1, dtype=torch.bool)
    y.numpy()[...] = False
    z.numpy()[...] = True
    return x * y + x * z


@filled
def after_a_clone(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return y.clone().copy_(x) * 2


@filled
def after_a_change_of_type(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return y.to(torch.float64).copy_(x) * 2


@filled
def only_what_was_written_is_read(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[:2] = x[:2]
    return y[:2].mul_(x[:2]).sum()


@filled
def only_what_was_written_is_selected(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[:2] = x[:2]
    return torch.where(MASK, y, x) * 2, y.masked_fill(~MASK, 0.0) * 2, y[MASK.expand(4, 6)].sum()


@filled
def only_the_shape_is_read(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return torch.zeros_like(y) + x.to(y) * torch.ones_like(y), x.new_zeros(y.shape) + 1, torch.rand_like(y) * 2


@filled
def nobody_reads_it(x: torch.Tensor) -> Any:
    torch.empty(4, 6)
    return x * 2 + torch.empty(0, 6).sum()


@unfilled
def read_whole(x: torch.Tensor) -> Any:
    return torch.empty(4, 6) * 2 + x


@unfilled
def read_with_a_hole(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[:3] = x[:3]
    return y * 2


@unfilled
def read_after_clone_and_moves(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return y.clone().t().contiguous().flip(0).roll(1, 0).exp()


@unfilled
def read_after_copy(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    z = torch.zeros(4, 6)
    z.copy_(y)
    return z * 2


@unfilled
def read_after_cat(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return torch.cat([y, x]) * 2


@unfilled
def new_empty(x: torch.Tensor) -> Any:
    return x.new_empty(4, 6) * 2


@unfilled
def empty_like(x: torch.Tensor) -> Any:
    return torch.empty_like(x) * 2


@unfilled
def empty_strided(x: torch.Tensor) -> Any:
    return torch.empty_strided((4, 6), (1, 4)) * 2


@unfilled
def resized_from_nothing(x: torch.Tensor) -> Any:
    return torch.zeros(0).resize_(4, 6) * 2


@unfilled
def resized_to_more(x: torch.Tensor) -> Any:
    return torch.zeros(2).resize_(4, 6) * 2


@unfilled
def as_indices(x: torch.Tensor) -> Any:
    return x[torch.empty(4, dtype=torch.int64)] * 2


@unfilled
def as_rows_of_an_embedding(x: torch.Tensor) -> Any:
    return F.embedding(torch.empty(8, dtype=torch.int32), x)


@unfilled
def as_a_mask(x: torch.Tensor) -> Any:
    return x * torch.empty(4, 6, dtype=torch.bool)


@unfilled
def as_a_selection(x: torch.Tensor) -> Any:
    return x[torch.empty(4, 6, dtype=torch.bool)].sum()


@unfilled
def as_a_condition(x: torch.Tensor) -> Any:
    return x * 2 if torch.empty(1) > 0 else x * 3


@unfilled
def as_any_of_a_mask(x: torch.Tensor) -> Any:
    return x * 2 if torch.empty(3, dtype=torch.bool).any() else x * 3


@unfilled
def as_a_number(x: torch.Tensor) -> Any:
    return x * torch.empty(1).item()


@unfilled
def in_softmax(x: torch.Tensor) -> Any:
    return torch.empty(4, 6).softmax(1)


@unfilled
def in_layer_norm(x: torch.Tensor) -> Any:
    return F.layer_norm(torch.empty(4, 6), (6,))


@unfilled
def in_argmax(x: torch.Tensor) -> Any:
    return torch.empty(4, 6).argmax(1)


@unfilled
def in_place_accumulation(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[:2] = 0.0
    y += x
    return y


@unfilled
def index_add(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    return y.index_add_(0, torch.tensor([0, 1, 1, 2]), x)


@unfilled
def handed_out(x: torch.Tensor) -> Any:
    return {"a": [torch.empty(4, 6)], "b": x * 2}


@unfilled
def handed_out_with_a_hole(x: torch.Tensor) -> Any:
    y = torch.empty(4, 6)
    y[:3] = x[:3]
    return y


def scan(model: Model, x: torch.Tensor, **options: Any) -> detprobe.Report:
    options.setdefault("backward", False)
    return detprobe.scan(model, x, replays=3, **options)


def maker(model: Callable[..., Any]) -> str:
    """The line that makes the memory: the first of the body."""
    lines, start = inspect.getsourcelines(model)
    return f"test_scan_uninitialized.py:{start + next(i for i, line in enumerate(lines) if 'def ' in line) + 1}"


@pytest.fixture(params=["default", "deterministic", "deterministic, unfilled"])
def flags(request: pytest.FixtureRequest) -> Iterator[None]:
    """torch fills fresh memory with NaN itself under its deterministic flag: the verdicts must not depend on it."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(request.param != "default")
    torch.utils.deterministic.fill_uninitialized_memory = request.param != "deterministic, unfilled"
    yield
    torch.utils.deterministic.fill_uninitialized_memory = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("model", FILLED, ids=lambda model: model.__name__)
def test_memory_that_was_filled_first_is_no_finding(model: Model, rows: torch.Tensor) -> None:
    assert scan(model, rows).findings == ()


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("model", UNFILLED, ids=lambda model: model.__name__)
def test_reading_memory_that_nobody_wrote_is_found_at_its_line(model: Model, rows: torch.Tensor) -> None:
    report = scan(model, rows)
    assert [finding.verdict for finding in report.findings] == ["uninitialized"]
    (finding,) = report.findings
    assert finding.location.endswith(maker(model))
    assert finding.phase == "forward"
    assert "that nobody wrote" in finding.cause
    assert not report.ok
