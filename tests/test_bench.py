"""`detprobe bench`: its numbers follow from the times, its files hold them, and what cannot be is refused at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated_module import ROOT
from models import optional

from detprobe import ops
from detprobe.bench import _plot, _reduction_cases, _reductions, _scatter, _scatter_cases, _suites
from detprobe.bench._measure import Bandwidth, Timed
from detprobe.bench._pool import Pool
from detprobe.cli import main

MEMORY = Bandwidth(copy=8e9, read=12e9)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, "-m", *arguments]
    return subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_reductions_ratios_and_share_follow_from_its_times() -> None:
    case = _reduction_cases.Case("sum", "inner", (1000, 1000))
    times = {"detprobe": Timed((2e-3, 1e-3, 4e-3)), "torch": Timed((1e-3, 3e-3, 5e-3))}
    row = _reductions.row(case, times, "cpu", MEMORY)
    assert (row["detprobe"], row["torch"], row["rounds"]) == (2e-3, 3e-3, 3)
    assert row["speed"] == pytest.approx(1.5)
    assert row["best"] == pytest.approx(1.0)
    assert row["share"] == pytest.approx(4e6 / 2e-3 / 8e9)
    assert row["met"] is (row["target"] <= 1.5)
    worse = {**times, "torch": Timed((1e-6,))}
    assert _reductions.row(case, worse, "cpu", MEMORY)["met"] is False


def scatter_rows(device: str, **milliseconds: float) -> list[dict[str, Any]]:
    case = _scatter_cases.Case("index_add", "uniform", 10**5, 16)
    times = {name: Timed((value / 1e3,)) for name, value in milliseconds.items()}
    return list(_scatter.rows_of(case, times, device, MEMORY))


def test_a_scatters_speed_is_against_the_faster_mode_on_a_cpu_and_the_default_one_on_a_gpu() -> None:
    times = {"torch": 4, "deterministic": 2, "detprobe": 1, "plan": 0.5}
    row, planned = scatter_rows("cpu", **times)
    assert [row["op"], planned["op"]] == ["index_add", "index_add with a plan"]
    assert [row["speed"], planned["speed"]] == pytest.approx([2, 4])
    row, planned = scatter_rows("cuda", **times)
    assert [row["speed"], row["deterministic_speed"]] == pytest.approx([4, 2])
    assert row["met"] is False  # ten times the deterministic mode is asked for
    (row,) = scatter_rows("cpu", torch=4, detprobe=1)
    assert (row["speed"], row["deterministic"], row["deterministic_speed"]) == (pytest.approx(4), None, None)


def test_a_scatters_share_counts_x_index_source_and_result_and_a_plan_in_place_of_the_index() -> None:
    row, planned = scatter_rows("cpu", torch=4, detprobe=1, plan=1)
    rest = 4 * 16 * (5000 + 10**5 + 5000)
    assert row["share"] == pytest.approx((rest + 8 * 10**5) / 1e-3 / 8e9)
    assert planned["share"] == pytest.approx((rest + 8 * 10**5 + 8 * 5001) / 1e-3 / 8e9)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_columns_stand_below_their_heads(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reduction_cases, "last_level_cache", lambda device: 1 << 20)
    case = _reduction_cases.Case("cross_entropy backward", "inner", (1000, 1000), torch.bfloat16)
    times = {"detprobe": Timed((1e-3,)), "torch": Timed((2e-3,))}
    row = _reductions.row(case, times, device, MEMORY)
    scattered = scatter_rows(device, torch=4, deterministic=2, detprobe=1)
    for module, one in ((_reductions, row), (_scatter, scattered[0])):
        head, line = module._heading(device), module._line(one, device)
        for column, value in (("speed", f"{one['speed']:.2f}"), ("of copy", f"{one['share']:.0%}")):
            end = head.index(column) + len(column)
            assert line[:end].endswith(f" {value}"), f"{head}\n{line}"


def in_memory(value: Any) -> int:
    """Bytes of all tensors in a value; a dimension that is a repetition is there once."""
    if isinstance(value, torch.Tensor):
        sizes = [size for size, stride in zip(value.shape, value.stride(), strict=True) if stride or size < 2]
        return value.itemsize * torch.Size(sizes).numel()
    if isinstance(value, ops.IndexPlan):
        return in_memory([value.order, value.offsets])
    if isinstance(value, partial):
        return in_memory([*value.args, *value.keywords.values()])
    return sum(map(in_memory, value)) if isinstance(value, list | tuple) else 0


@pytest.mark.parametrize("contention", ["uniform", "unique"])
@pytest.mark.parametrize("op", _scatter_cases.NAMES)
def test_the_bytes_of_a_scatter_are_those_of_its_tensors(op: str, contention: str) -> None:
    columns = 1 if op in ("bincount", "histc", "index_plan") else 16
    case = _scatter_cases.Case(op, contention, 400, columns)
    functions = _scatter_cases.functions(case, Pool("cpu", case.elements))
    for name in functions.keys() - {"torch"}:
        moved = in_memory(functions[name]) + in_memory(functions[name]())
        if name == "plan" and op == "embedding backward":
            moved -= 8 * case.records  # it is given the index as well, and needs no more than the plan
        assert case.bytes_moved(planned=name == "plan") == moved


@pytest.mark.parametrize("op", [op for op in _reduction_cases.NAMES if op not in _reduction_cases.BACKWARD])
def test_the_bytes_of_a_reduction_are_those_of_its_large_tensors(op: str) -> None:
    layout, shape = ("full", (10**4,)) if op == "dot" else ("inner", (100, 100))
    case = _reduction_cases.Case(op, "training" if op == "batch_norm" else layout, shape)
    ours, _ = _reduction_cases.calls(case, Pool("cpu", case.elements))
    assert case.bytes_moved == pytest.approx(in_memory(ours) + in_memory(ours()), rel=0.06)


def test_one_run_of_both_suites_prints_and_keeps_the_same_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks", None)  # an installed package has none
    file = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--threads", "1", "--only", "std,histc", "--json", str(file)]) == 0
    assert torch.get_num_threads() == 2
    said, result = capsys.readouterr().out.splitlines(), json.loads(file.read_text())
    assert (result["kind"], result["complete"], result["environment"]["threads"]) == ("bench", True, 1)
    for name, table in (("reductions", "errors"), ("scatter", "memory")):
        found = result["suites"][name]
        (op,) = {row["op"] for row in found["rows"]}
        lines = [line for line in said if line.startswith(f"{op} ") and (" ms " in line or " us " in line)]
        lines = lines[: len(found["rows"])]  # rows that missed their target are printed again at the end
        assert found["rows"]
        assert found[table]
        for row, line in zip(found["rows"], lines, strict=True):
            assert row["share"] == pytest.approx(row["bytes_moved"] / row["detprobe"] / result["copy_bytes_per_second"])
            assert f" {row['share']:.0%}" in line
    assert any(line.startswith('"of copy" is the share') for line in said)


def test_json_to_stdout_is_nothing_but_json_and_a_capability_holds_for_both() -> None:
    options = ["--quick", "--threads", "1", "--only", "std", "--capability", "baseline", "--json", "-"]
    done = command("detprobe", "bench", "reductions", *options)
    assert done.returncode == 0, done.stderr
    environment = json.loads(done.stdout)["environment"]
    assert environment["detprobe_cpu_capability"] == "baseline"
    assert environment["cpu_capability"] in ("DEFAULT", "NO AVX")
    assert "of copy" in done.stderr


def test_what_was_measured_before_an_interruption_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = _reductions.interleaved, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(_reductions, "interleaved", interrupted)
    file = tmp_path / "bench.json"
    assert main(["bench", "reductions", "--quick", "--only", "std", "--json", str(file)]) == 130
    result = json.loads(file.read_text())
    assert result["complete"] is False
    assert [row["shape"] for row in result["suites"]["reductions"]["rows"]] == [[100], [10000]]
    assert f"{file} holds the 2 rows that were measured" in capsys.readouterr().err
    kept = file.read_text()
    calls[:] = [()] * 2
    assert main(["bench", "reductions", "--quick", "--only", "std", "--json", str(file)]) == 130
    assert file.read_text() == kept  # nothing was measured, and what is there stays


def test_the_picture_shows_speed_and_share_of_every_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optional("matplotlib")
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k)))
    case = _reduction_cases.Case("sum", "full", (10**4,))
    times = {"detprobe": Timed((1e-5,)), "torch": Timed((3e-5,))}
    tables = {
        "reductions": [_reductions.row(case, times, "cpu", MEMORY)],
        "scatter": scatter_rows("cpu", torch=4, detprobe=1, plan=0.5),
    }
    file = tmp_path / "bench.png"
    _plot.write(tables, "a title", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")
    shown = {
        value
        for axis in drawn[0].axes
        for line in axis.lines
        if len(line.get_xdata()) == 1
        for value in line.get_ydata()
    }
    for rows in tables.values():
        assert {number for row in rows for number in (row["speed"], row["share"])} <= shown


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sums"], 2, "expected suites out of reductions, scatter, got sums"),
        (["scatter", "--only", "sum"], 2, "--only: expected names out of index_add"),
        (["--only", "std,suum"], 2, "got suum"),
        (["--threads", "0"], 2, "--threads: expected at least 1, got 0"),
        (["--json", "no/such/folder.json"], 2, "expected a file name in a folder that exists"),
        (["--plot", "."], 2, "expected a file name in a folder that exists"),
        (["--plot", "bench.xyz"], 2, "--plot bench.xyz: expected a name that ends in one of ."),
        (["--plot", "bench"], 2, "--plot bench: expected a name that ends in one of ."),
        (["--device", "cuda"], 3, "--device cuda: torch finds no GPU here"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--plot" in arguments:
        optional("matplotlib")
    monkeypatch.setattr(_suites, "measure", lambda *_, **__: pytest.fail("it was measured"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_missing_matplotlib_and_a_file_that_may_not_be_written_are_known_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_suites, "measure", lambda *_, **__: pytest.fail("it was measured"))
    with monkeypatch.context() as without:
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            without.delitem(sys.modules, name)
        without.setitem(sys.modules, "matplotlib", None)
        assert main(["bench", "--plot", str(tmp_path / "bench.png")]) == 3
    assert capsys.readouterr().err == "detprobe: --plot needs matplotlib: pip install 'matplotlib>=3.8'\n"
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert main(["bench", "--json", str(tmp_path / "bench.json")]) == 2
    assert "expected a file that may be written, permission is denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "other", "own"), [("reductions", "index_add", "sum"), ("scatter", "sum", "index_add")]
)
def test_the_modules_of_a_checkout_are_the_same_command(module: str, other: str, own: str) -> None:
    done = command(f"benchmarks.{module}", "--quick", "--only", other)
    assert done.returncode == 2
    assert f"--only: expected names out of {own}, " in done.stderr


def test_importing_detprobe_imports_no_benchmark() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, detprobe; print([n for n in sys.modules if 'bench' in n.split('.')])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"
