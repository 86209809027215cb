"""`Run.check`: scan's findings and the probes' advice as rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import planted
import pytest
import torch

import detprobe
from detprobe.seeding import _check


class Moving(torch.nn.Module):
    """The planted fault: an op that gives other bits, until deterministic algorithms are on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return planted.ops.cured_by_flag(x)


@pytest.fixture
def run() -> Iterator[Any]:
    with detprobe.isolate_rng():
        yield detprobe.seed_everything(0, quiet=True)


def test_what_differs_is_a_row_and_so_is_each_setting(run: Any) -> None:
    x = torch.ones(4)
    before = torch.default_generator.get_state()
    report = run.check(Moving(), (x,), backward=False)
    assert torch.equal(torch.default_generator.get_state(), before)
    (row,) = [row for row in report.rows if "cured_by_flag" in row.name]
    assert (row.status, row.wanted) == ("FREE", "same bits")
    assert row.fix == "torch.use_deterministic_algorithms(True): identical"
    assert "test_seeding_check.py" in row.name
    assert not report.ok
    asked = [row for row in report.rows if row.name.startswith("probe: ")]
    assert {row.status for row in asked} <= {"OK", "FREE"}
    assert "probe: thread count" in {row.name for row in asked}
    assert all(row.fix for row in asked if row.status == "FREE")
    assert "FREE" in str(report)
    assert report.rows[: len(run.report.rows)] == run.report.rows


def test_what_repeats_is_a_row_too(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setattr("detprobe.probes.advise", lambda device: detprobe.probes.gemm)  # not asked again
    monkeypatch.setattr(_check, "_rows_of_advice", lambda report: [])
    report = run.check(torch.nn.ReLU(), (torch.ones(3),))
    assert report.row("scan").status == "OK"
    assert "none seen to differ" in report.row("scan").effective
