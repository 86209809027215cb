"""The C++ over cuDNN, against a stand-in with planted engines that works on the host's memory (tests/fakes)."""

import ctypes
import gc
import os
import subprocess
import sys

import pytest
import torch
from emulated_module import ROOT

from detprobe import _probes, probes
from detprobe.errors import NotAvailableError
from detprobe.probes import _conv, _cudnn
from detprobe.probes._common import Writer
from detprobe.probes._conv_problems import OPERATIONS, ConvProblem

CPU = torch.device("cpu")
PLAIN = ConvProblem("plain", 2, 4, 6, (5, 7), (3, 3), padding=1)
PROBLEMS = (
    PLAIN,
    ConvProblem("strided", 2, 3, 4, (9, 8), (3, 2), stride=2, padding=1),
    ConvProblem("dilated", 1, 2, 3, (9, 9), (3, 3), padding=2, dilation=2),
    ConvProblem("depthwise", 2, 4, 8, (6, 6), (3, 3), groups=4),
    ConvProblem("3-D", 1, 2, 3, (4, 5, 6), (2, 3, 2), stride=2, padding=1),
    ConvProblem("1-D", 2, 2, 3, (11,), (4,), stride=3),
    ConvProblem("transposed", 2, 4, 6, (5, 4), (3, 3), stride=2, padding=1, transposed=True, output_padding=1),
    ConvProblem("one channel", 2, 1, 1, (5, 5), (3, 3)),
)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """The path of the stand-in, compiled with the host's compiler."""
    target = tmp_path_factory.mktemp("fakes") / "libcudnn.so.9"
    command = [*os.environ.get("CXX", "c++").split(), *"-std=c++17 -O1 -Wall -fPIC -shared -fvisibility=hidden".split()]
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    source = str(ROOT / "tests" / "fakes" / "cudnn.cpp")
    done = subprocess.run([*command, source, "-o", str(target)], env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(target)


@pytest.fixture
def session(fake):
    return _cudnn.open_session(fake)


def alive(fake):
    gc.collect()
    count = ctypes.CDLL(fake).fake_alive
    count.restype = ctypes.c_int64
    return count()


def survey(session, problem, dtype=torch.float32, layout="NCHW", runs=4, limit=1 << 20):
    found = _cudnn.survey(session, problem, dtype=dtype, layout=layout, device=CPU, runs=runs, seed=0, limit=limit)
    return dict(zip(OPERATIONS, found, strict=True))


def by_engine(rows, source="engine"):
    return {row.engine: row for row in rows if row.source == source}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_described_convolution_is_torchs(session, problem, layout, monkeypatch):
    """Engine 0 computes what the descriptors say, in double: sizes, strides, padding, dilation, groups, roles."""
    firsts = []
    kept = _cudnn._Gathered.take
    monkeypatch.setattr(_cudnn._Gathered, "take", lambda *given: firsts.append(given[1:]) or kept(*given))
    for operation in survey(session, problem, layout=layout, runs=2):
        got = next(first for row, first in firsts if row.engine == 0 and row.operation == operation)
        wanted = problem.run(operation, *(side.double() for side in problem.tensors(0)))
        torch.testing.assert_close(got.double(), wanted, rtol=1e-6, atol=1e-6)


def test_planted_engines_are_counted_and_measured(session):
    for rows, _ in survey(session, PLAIN).values():
        found = by_engine(rows)
        assert list(found) == list(range(8))
        assert [found[engine].seen.distinct for engine in (0, 1, 2, 6, 7)] == [1, 2, 2, 1, 1]
        assert [found[engine].seen.ulp for engine in (0, 1, 2, 6, 7)] == [0, 3, 3, 0, 0]
        assert [row.engine for row in found.values() if row.declared] == [1, 6]
        assert [row.engine for row in found.values() if row.reduced] == [6]
        assert found[1].notes == "nondeterministic, note 77"  # one that this version has no name for
        assert found[3].says == (
            "not supported: engine: CUDNN_STATUS_NOT_SUPPORTED (engine 3 has no kernel for this shape)"
        )
        assert found[4].says == "failed: cudnnBackendExecute: CUDNN_STATUS_EXECUTION_FAILED (planted)"
        assert (found[5].says, found[5].workspace) == ("workspace above the limit", 2**50)
        assert found[7].workspace == 64
        assert all(found[engine].seen is None for engine in (3, 4, 5))
        assert all(row.seconds > 0 for row in rows if row.seen)


def test_what_the_heuristics_recommend_runs_with_its_knobs(session):
    rows, _ = survey(session, PLAIN)["forward"]
    found = by_engine(rows, "heuristic A")
    assert {engine: row.seen.distinct for engine, row in found.items()} == {7: 1, 1: 2}
    assert found[7].notes == "knobs 1=10 2=20"
    (fallback,) = by_engine(rows, "fallback").values()
    assert fallback.says == "not supported: heuristics: CUDNN_STATUS_NOT_SUPPORTED (no fallback)"


def test_a_search_can_choose_between_the_ways_that_gave_a_result(session):
    _, (plain, tf32) = survey(session, PLAIN)["forward"]
    assert (plain.dtype, tf32.dtype) == ("float32", "float32 (TF32 on)")
    assert (plain.ways, plain.declared, plain.moved, plain.distinct, plain.ulp) == (6, 2, 3, 1, 0)
    assert (tf32.ways, tf32.declared, tf32.moved, tf32.distinct, tf32.ulp) == (7, 3, 3, 2, 1)
    assert 0 < tf32.relative < 2**-22
    assert plain.fastest <= plain.fixed


def test_a_workspace_that_does_not_fit_is_a_row(session):
    rows, _ = survey(session, PLAIN, limit=2**60)["forward"]
    assert by_engine(rows)[5].says == "out of memory"
    assert by_engine(rows)[7].seen.distinct == 1


def test_a_problem_that_does_not_fit_is_a_row(session):
    for rows, choices in survey(session, PLAIN.with_batch(2**40)).values():
        assert [row.says for row in rows] == ["out of memory"]
        assert choices == []


def test_a_problem_that_is_refused_as_a_whole_is_a_row(session):
    for rows, choices in survey(session, PLAIN, dtype=torch.bfloat16).values():
        (row,) = rows
        assert row.says == "not supported: tensor: CUDNN_STATUS_NOT_SUPPORTED (float32 alone)"
        assert choices == []


def test_nothing_leaks(fake):
    before = alive(fake)
    session = _cudnn.open_session(fake)
    survey(session, PLAIN)
    survey(session, PLAIN, dtype=torch.float16)
    plan = session.plans(0, *_sides(PLAIN), [1, 1], [1, 1], [1, 1], 0, 0)[0]
    assert alive(fake) > before
    del session
    sides = PLAIN.tensors(0)
    plan.run(*(side.data_ptr() for side in sides), 0)  # a plan keeps what it needs
    del plan
    assert alive(fake) == before


def _sides(problem):
    sides = problem.tensors(0)
    return [list(side.shape) for side in sides], [list(side.stride()) for side in sides]


def test_a_refused_plan_cannot_run(session):
    refused = session.plans(0, *_sides(PLAIN), [1, 1], [1, 1], [1, 1], 0, 0)[3]
    with pytest.raises(_probes.CudnnError, match=r"^this plan was refused: engine: CUDNN_STATUS_NOT_SUPPORTED"):
        refused.run(0, 0, 0, 0)


def test_the_report_of_planted_engines(session):
    rows, choices = _conv.engines(
        session, [PLAIN], [torch.float32, torch.float16], ["NCHW"], CPU, 4, 0, 1 << 20, lambda *_: None
    )
    report = _conv.cudnn_report(Writer("conv", "?", "cuda:0"), session.version, rows, choices, [], [])
    assert report.free
    assert report.findings == (
        "cuDNN 9.19.0: 9 of 21 ways to convolve gave more than one result on the same data.",
        "3 of those are not declared nondeterministic: the first is engine 2, forward of plain.",
        "3 are declared nondeterministic and repeated here.",
        "In 3 of 6 cases the ways differ from each other: a search such as cudnn.benchmark chooses the bits with "
        "the time.",
    )
    assert "CUDNN_STATUS_EXECUTION_FAILED (planted)" in str(report)
    assert probes.ProbeReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("missing", ["/nowhere/libcudnn.so.9", "libm.so.6"])
def test_without_cudnn_it_says_so_in_one_sentence(missing):
    with pytest.raises(NotAvailableError, match=r"^conv needs cuDNN 9 and a GPU: .+$") as caught:
        _cudnn.open_session(missing)
    assert "\n" not in str(caught.value)


def test_a_library_that_finds_no_gpu_says_so_in_the_same_shape(fake):
    code = f"from detprobe.probes._cudnn import open_session; open_session({fake!r})"
    env = {**os.environ, "FAKE_CUDNN_WITHOUT_GPU": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    said = "conv needs cuDNN 9 and a GPU: cudnnCreate: CUDNN_STATUS_NOT_INITIALIZED"
    assert done.stderr.strip().endswith(f"detprobe.errors.NotAvailableError: {said}")
    with pytest.raises(NotAvailableError, match=r"^conv needs cuDNN 9 and a GPU: cudnnSetStream: CUDNN_STATUS_BAD"):
        _cudnn.open_session(fake, stream=8)
