"""`advise`, `run_all` and `detprobe probe`: rows follow what was run, probes slot in, exit codes are the house's."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import snapshot
import torch

from detprobe.conditions import deterministic_flag
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.probes import _advise as A
from detprobe.probes import _registry, advise, run_all

STEP = torch.finfo(torch.float32).eps


def steady() -> torch.Tensor:
    return torch.ones(4)


def by_threads() -> torch.Tensor:
    return torch.ones(4) * (1 + STEP * torch.get_num_threads())


def racing() -> Callable[[], torch.Tensor]:
    """Two results, but one where torch's flag is on."""
    counter = itertools.count()

    def run() -> torch.Tensor:
        at = 0 if torch.are_deterministic_algorithms_enabled() else next(counter) % 2
        return torch.ones(4) * (1 + STEP * at)

    return run


def test_a_thread_count_that_moves_a_sum_is_free_and_has_a_remedy_and_a_price() -> None:
    row = A.thread_count(by_threads)
    assert row.free
    assert "1 distinct result of 8; up to 1 ULP from that on 1 thread" in row.evidence
    assert row.fix == "torch.set_num_threads(1), or 2 wherever it runs"
    assert row.cost is not None
    assert row.cost > 0
    fixed = A.thread_count(steady)
    assert not fixed.free
    assert fixed.fix == ""
    assert fixed.cost is None


def test_a_race_that_torchs_flag_ends_is_free_and_the_flag_is_tried() -> None:
    row = A.deterministic_algorithms(racing())
    assert row.free
    assert row.value == "off"
    assert "2 distinct results of 40, up to 1 ULP; 1 with the flag" in row.evidence
    assert row.cost is not None
    with deterministic_flag():
        on = A.deterministic_algorithms(racing())
    assert not on.free
    assert on.value == "on"


def test_onednn_is_blamed_only_where_it_is_the_one() -> None:
    def its_own() -> torch.Tensor:
        return by_threads() if torch.backends.mkldnn.enabled else steady()

    blamed, not_blamed, clean = (A.onednn(run) for run in (its_own, by_threads, steady))
    assert blamed.fix == "torch.backends.mkldnn.enabled = False"
    assert blamed.cost is not None
    assert not_blamed.fix == "torch.set_num_threads(2) everywhere"
    assert (blamed.free, not_blamed.free, clean.free) == (True, True, False)


@pytest.mark.parametrize("benchmark", [False, True])
def test_cudnns_flags_are_judged_by_what_they_change(benchmark: bool) -> None:
    def autotuned() -> torch.Tensor:
        return torch.ones(4) * (1 + STEP * torch.backends.cudnn.benchmark)

    counter = itertools.count()

    def atomics() -> torch.Tensor:
        return torch.ones(4) * (1 + STEP * (next(counter) % 3) * (not torch.backends.cudnn.deterministic))

    before = snapshot.snapshot()
    with A.written(torch.backends.cudnn, benchmark=benchmark):
        row = A.cudnn_benchmark("cpu", autotuned)
        assert (row.value, row.free) == (("on", True) if benchmark else ("off", False))
        assert f"from those with it {'off' if benchmark else 'on'}" in row.evidence
        row = A.cudnn_deterministic("cpu", atomics)
        assert row.free
        assert "3 distinct results of 8; 1 with the flag" in row.evidence
    assert snapshot.moved(before, snapshot.snapshot()) == []


def test_a_product_that_races_beside_a_stream_wants_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    row = A.workspace("cpu", racing())
    assert row.free
    assert row.value == ":0:0"
    assert ":4096:8" in row.fix
    assert not A.workspace("cpu", steady).free


def test_a_setting_that_torch_refuses_to_read_is_said_and_does_not_raise() -> None:
    def refuses() -> bool:
        raise RuntimeError("mix of the legacy and new APIs\nmore")

    assert A.read(refuses) == "not readable (mix of the legacy and new APIs)"
    assert A.read(lambda: True) == "on"
    assert A.read(lambda: "ieee") == "ieee"


@pytest.mark.parametrize("op", ["matmul", "conv"])
def test_a_precision_is_measured_and_is_no_freedom_of_order(op: str) -> None:
    def rounding() -> torch.Tensor:
        return torch.ones(4) * (1 + STEP * 5 * (torch._C._get_fp32_precision_getter("cuda", op) == "tf32"))

    before = snapshot.snapshot()
    row = A.tf32_precision("cpu", op, rounding)
    assert not row.free
    assert row.evidence.startswith("up to 5 ULP with it on and off")
    assert A.tf32_precision("cpu", op, steady).evidence.startswith("the same bits with it on and off")
    assert snapshot.moved(before, snapshot.snapshot()) == []


def test_every_question_of_cuda_is_asked_and_can_be_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(A, "_product_beside", A.product)  # streams are what a CPU does not have
    rows = [question() for question in A.cuda_questions("cpu")]
    assert [row.setting for row in rows] == [
        "deterministic flag",
        "cuDNN deterministic",
        "cuDNN benchmark",
        "cuBLAS workspace",
        "TF32, matmul",
        "TF32, conv",
        "fp16 reductions",
        "bf16 reductions",
    ]


def test_advice_on_a_cpu_has_a_row_for_each_setting_and_changes_none() -> None:
    before = snapshot.snapshot()
    report = advise("cpu")
    assert snapshot.moved(before, snapshot.snapshot()) == []
    rows = report.tables[0].rows
    assert [row[0] for row in rows] == ["thread count", "deterministic flag", "oneDNN"]
    assert report.free == any(row[2] for row in rows)
    assert len(report.findings) == max(1, sum(bool(row[2]) for row in rows))


# All probes, and the command.


def report(name: str, *, free: bool) -> ProbeReport:
    return ProbeReport(name, "A question?", "cpu", {}, {}, free, (f"{name} was asked.",))


def missing(device: str, progress: Any) -> ProbeReport:
    raise NotAvailableError("there is no library")


FREE = _registry.Probe("free", ("cpu",), lambda device, progress: report("free", free=True))
FIXED = _registry.Probe("fixed", ("cpu", "emulator"), lambda device, progress: report("fixed", free=False))
MISSING = _registry.Probe("missing", ("cpu",), missing)


def test_probes_slot_in_and_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "PROBES", (FREE, FIXED, MISSING))
    ticks: list[tuple[int, int | None, str]] = []
    found = run_all("cpu", progress=lambda *tick: ticks.append(tick))
    assert [one.name for one in found.reports] == ["free", "fixed"]
    assert found.skipped == (("missing", "there is no library"),)
    assert not found.ok
    assert ticks == [(0, 300, "free"), (100, 300, "fixed"), (200, 300, "missing")]
    elsewhere = run_all("emulator")
    assert [one.name for one in elsewhere.reports] == ["fixed"]
    assert elsewhere.ok
    assert elsewhere.skipped[0] == ("free", "runs on cpu only")
    assert [one.name for one in run_all("cpu", only=["fixed"]).reports] == ["fixed"]


def test_without_a_gpu_and_a_wish_the_emulator_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "PROBES", (FREE, FIXED, MISSING))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = run_all(only=iter(["free", "fixed"]))
    assert found.device == "cpu and emulator"
    assert [one.name for one in found.reports] == ["free", "fixed", "fixed"]
    assert "3 probes on cpu and emulator: float-ordering freedom seen by free" in str(found)


def test_where_nothing_can_run_there_is_an_error_with_the_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "PROBES", (FREE, FIXED, MISSING))
    with pytest.raises(NotAvailableError, match="none of these probes can run on cpu: missing: there is no library"):
        run_all("cpu", only="missing")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"only": "moon"}, "unknown probe 'moon': expected one of"),
        ({"only": [3]}, "only: expected names of probes, got 3"),
        ({"device": "moon"}, "device: expected one of cpu, cuda, emulator, got 'moon'"),
        ({"device": 3}, "device: expected one of cpu, cuda, emulator, got int"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ArgumentTypeError, ArgumentValueError)) as caught:
        run_all(**{"device": "cpu", **options})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("probe", "code"),
    [("free", 1), ("fixed", 0), ("missing", 3), ("moon", 2)],
    ids=["free", "fixed", "missing", "moon"],
)
def test_exit_codes(probe: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from detprobe.cli import main

    monkeypatch.setattr(_registry, "PROBES", (FREE, FIXED, MISSING))
    assert main(["probe", probe, "--device", "cpu"]) == code
    out, err = capsys.readouterr()
    assert (f"{probe} was asked." in out) == (code < 2)
    assert (len(err.splitlines()) == 1) == (code > 1)


def test_files_hold_the_reports_and_json_alone_goes_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from detprobe.cli import main

    monkeypatch.setattr(_registry, "PROBES", (FREE, FIXED))
    files = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    assert main(["probe", "--device", "cpu", *files]) == 1
    found = ProbeReports.from_json((tmp_path / "r.json").read_text())
    assert capsys.readouterr().out.strip() == str(found)
    assert "free was asked." in (tmp_path / "r.html").read_text()
    assert main(["probe", "--device", "cpu", "--json", "-"]) == 1
    assert [one.name for one in ProbeReports.from_json(capsys.readouterr().out).reports] == ["free", "fixed"]
    assert main(["probe", "--device", "cpu", "--json", str(tmp_path / "no" / "r.json")]) == 2


def test_the_command_runs_a_real_probe() -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    line = [sys.executable, "-m", "detprobe", "probe", "reduction_order", "--device", "cpu"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stdout.split())
    assert "torch.sum: another order on 2 threads: 32 elements" in said
    assert "torch.sum of every second element: another order than that of a dense tensor" in said
    assert "detprobe.ops.sum: one order, on 1, 2 threads" in said
    assert "detprobe.ops.sum of every second element: the order of a dense tensor" in said


def test_the_command_lists_the_probes(capsys: pytest.CaptureFixture[str]) -> None:
    from detprobe.cli import main

    assert main(["probe", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [p.name for p in _registry.PROBES]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence_and_3(capsys: pytest.CaptureFixture[str]) -> None:
    from detprobe.cli import main

    assert main(["probe", "--device", "cuda"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("detprobe: device cuda: this machine has no GPU")
    assert len(said.splitlines()) == 1
