"""On CUDA the comparisons are read once, after the pass; a second pass then looks closely at what differed.

That path knows nothing of CUDA but when to take it, so here it runs on the CPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detprobe
from detprobe.scanning import _compare, _mode


@pytest.fixture(autouse=True)
def deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mode, "on_cuda", lambda results: True)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(50, 64))
        self.dropout = torch.nn.Dropout()

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.table)[index]


def test_a_flaw_is_found_with_all_its_evidence_and_nothing_else_is() -> None:
    index = torch.randint(0, 50, (200_000,))
    report = detprobe.scan(Net(), index)
    (finding,) = report.findings
    assert (finding.op, finding.phase, finding.verdict) == ("aten::index_put", "backward", "nondeterministic")
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "(self.table)[index]" in text)
    assert finding.location.endswith(f"test_scan_deferred.py:{line}")
    assert finding.distinct > 1
    assert finding.replays == 8
    assert finding.max_ulp is not None
    assert finding.max_ulp > 0
    assert finding.fix_result == "identical"
    assert {row.op for row in report.ops if row.verdict == "random"} == {"aten::bernoulli_"}
    assert all(row.replays == 8 for row in report.ops if row.verdict == "stable" and row.bound)


def test_a_clean_model_is_clean() -> None:
    assert detprobe.scan(torch.nn.Linear(8, 8), torch.randn(4, 8)).ok


def test_a_flaw_that_only_the_first_pass_saw_is_reported_all_the_same() -> None:
    runs = [0]

    @torch.library.custom_op("detprobe_test::once", mutates_args=())
    def once(x: torch.Tensor) -> torch.Tensor:
        runs[0] += 1
        return x + (1.0 if runs[0] == 3 else 0.0)

    report = detprobe.scan(lambda x: once(x), torch.randn(10), backward=False)
    (finding,) = report.findings
    assert finding.op == "detprobe_test::once"
    assert finding.verdict == "nondeterministic"
    assert "one pass of two" in finding.cause


def test_more_comparisons_than_a_chunk_holds_are_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compare.Deferred, "_CHUNK", 4)
    deferred = _compare.Deferred()
    for i in range(11):
        a = torch.zeros(3)
        deferred.add(i, [a, 1.5], [a + (i % 3 == 0), 1.5])
    assert sorted(deferred.read()) == [0, 3, 6, 9]
