"""`detprobe.probes.conv` on the CPU: what repeats, what a setting changes, and problems as plain data."""

import contextlib
import json
import re

import pytest
import torch

from detprobe import probes
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probes import PROBLEMS, ConvProblem, _conv, _conv_torch
from detprobe.probes._conv_problems import OPERATIONS
from detprobe.probes._conv_torch import Observed, Setting, cuda_settings
from detprobe.probes._spread import Spread

SMALL = ConvProblem("small", 2, 16, 16, (12, 12), (3, 3), padding=1)
PLAIN = Setting("plain")


def observe(problem=SMALL, setting=PLAIN, dtype=torch.float32, runs=3):
    return list(_conv_torch.observe(problem, dtype, setting, device="cpu", runs=runs, seed=0))


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_table_of_problems_has_the_shapes_that_it_says(problem):
    small = problem.with_batch(1)
    x, w, g = (torch.empty(side.shape, device="meta") for side in small.tensors(0))
    convolution = {2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}[len(problem.size)]
    where = {"stride": problem.stride, "padding": problem.padding, "groups": problem.groups}
    if problem.transposed:
        convolution = torch.nn.functional.conv_transpose2d
    assert convolution(x, w, **where, dilation=problem.dilation).shape == g.shape
    assert small.run("data gradient", x, w, g).shape == x.shape
    assert small.run("weight gradient", x, w, g).shape == w.shape


def test_problems_have_names_of_their_own():
    assert len({problem.name for problem in PROBLEMS}) == len(PROBLEMS)
    assert str(PROBLEMS[0]) == "16x3x224x224 -> 64, kernel 7x7, stride 2, padding 3"


def test_gradients_are_torchs():
    x, w, g = SMALL.tensors(1)
    x.requires_grad_()
    w.requires_grad_()
    torch.nn.functional.conv2d(x, w, padding=1).backward(g)
    assert torch.equal(SMALL.run("data gradient", x.detach(), w.detach(), g), x.grad)
    assert torch.equal(SMALL.run("weight gradient", x.detach(), w.detach(), g), w.grad)


def test_settings_take_effect_and_are_put_back():
    before = (torch.get_num_threads(), torch.backends.mkldnn.enabled)
    with contextlib.suppress(KeyError), Setting("other", threads=1, onednn=False).applied("cpu"):
        assert (torch.get_num_threads(), torch.backends.mkldnn.enabled) == (1, False)
        raise KeyError
    assert (torch.get_num_threads(), torch.backends.mkldnn.enabled) == before
    with Setting("cuda", benchmark=True, deterministic=True, tf32=False).applied("cuda"):
        flags = torch.backends.cudnn
        assert (flags.benchmark, flags.deterministic, flags.allow_tf32) == (True, True, False)
    assert not torch.backends.cudnn.benchmark


def test_all_combinations_are_asked_and_a_search_twice():
    settings = cuda_settings()
    assert len(settings) == len({setting.name for setting in settings}) == 12
    assert len({(one.benchmark, one.deterministic, one.tf32) for one in settings}) == 8


def test_planted_results_are_told_apart(monkeypatch):
    """A convolution that adds one ULP in every second run, and a setting that adds four."""
    calls = []

    def run(problem, operation, x, w, g):
        calls.append(operation)
        steps = (len(calls) % 2 == 0) + 4 * (not torch.backends.mkldnn.enabled)
        return (torch.ones(3).view(torch.int32) + steps).view(torch.float32)

    monkeypatch.setattr(ConvProblem, "run", run)
    found = _conv.compared([*observe(runs=4), *observe(setting=Setting("off", onednn=False), runs=4)])
    assert calls == [operation for operation in OPERATIONS for _ in range(4)] * 2
    assert [row.seen.distinct for row, _, _ in found] == [2] * 6
    assert [row.seen.ulp for row, _, _ in found] == [1] * 6
    assert [ulp for _, ulp, _ in found] == [0, 0, 0, 4, 4, 4]
    assert found[-1][2] == pytest.approx(4 * 2**-23)
    findings, free = _conv._settings_findings(found)
    assert free
    assert findings == [
        "torch's convolution: 6 of 6 combinations gave more than one result in 4 runs; 1 of 1 other settings gave "
        "other bits than plain.",
        "off: other bits than with plain in 3 of 3 operations, up to 4.8e-07 of the largest element.",
    ]


def test_equal_results_are_no_freedom():
    same = Observed("p", "float32", "forward", "a", Spread(3, 1, 1.0, 0, 0.0), 1e-3)
    findings, free = _conv._settings_findings([(same, 0, 0.0)])
    assert not free
    assert findings == ["torch's convolution: 0 of 1 combinations gave more than one result in 3 runs."]


def test_a_refused_problem_is_a_row_with_torchs_words(monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no kernel for this\nsecond line")

    monkeypatch.setattr(ConvProblem, "run", refuse)
    rows = [row for row, _ in observe()]
    assert [row.says for row in rows] == ["not supported: no kernel for this"] * 3
    report = probes.conv([SMALL], device="cpu", dtypes=[torch.float32], runs=2)
    assert report.ok
    assert report.findings == ("torch's convolution gave no result under any setting.",)
    assert report.tables[-1].title == "torch: no result"


def test_a_problem_that_does_not_fit_is_a_row():
    rows = [row for row, _ in observe(SMALL.with_batch(2**36))]
    assert [(row.operation, row.says) for row in rows] == [(operation, "out of memory") for operation in OPERATIONS]


def test_a_process_of_its_own_gives_the_same_bits_and_says_what_failed():
    here = observe()
    there = _conv_torch.elsewhere([SMALL], [torch.float32], PLAIN, device="cpu", runs=3, seed=0)
    assert [row.operation for row, _ in there] == list(OPERATIONS)
    assert [row.seen for row, _ in there] == [Spread(3, 1, 1.0, 0, 0.0)] * 3
    for (_, mine), (_, theirs) in zip(here, there, strict=True):
        assert theirs.shape == mine.shape
        torch.testing.assert_close(theirs, mine)
    with pytest.raises(NotAvailableError, match=r"^torch's convolutions with plain: a fresh process failed: .+"):
        _conv_torch.elsewhere([SMALL], [torch.float32], PLAIN, device="nowhere", runs=3, seed=0)


def test_the_report_on_a_cpu():
    report = probes.conv([SMALL], device="cpu", dtypes=[torch.float32], runs=2)
    (table,) = report.tables
    assert table.title == "torch: small, float32"
    assert [row[0] for row in table.rows] == list(OPERATIONS) * 5
    assert [row[1] for row in table.rows[::3]][0::4] == ["2 threads", "oneDNN off, 1 thread"]
    assert all(row[3] >= 1 and row[6] > 0 for row in table.rows)
    assert all(row[4] == 0 for row in table.rows[:3])  # against itself
    assert report.settings["problems"] == ["small: 2x16x12x12 -> 16, kernel 3x3, padding 1"]
    assert probes.ProbeReport.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["name"] == "conv"
    assert "torch: small, float32" in str(report)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"groups": 3}, ArgumentValueError, "groups: expected a divisor of 16 channels and 16 filters, got 3"),
        ({"size": (1, 1), "padding": 0}, ArgumentValueError, "the output would have the size (-1, -1): enlarge the"),
        ({"size": (5,)}, ArgumentValueError, "size (5,) and kernel (3, 3) differ in dimensions"),
        ({"size": [5, 5]}, ArgumentTypeError, "size: expected a tuple of 1 to 3 sizes, got [5, 5]"),
        ({"batch": 0}, ArgumentValueError, "batch: expected at least 1, got 0"),
        ({"stride": 1.5}, ArgumentTypeError, "stride: expected an integer, got 1.5"),
        ({"padding": -1}, ArgumentValueError, "padding: expected at least 0, got -1"),
    ],
)
def test_problems_that_cannot_be_are_refused(change, kind, text):
    plain = {"batch": 2, "channels": 16, "filters": 16, "size": (12, 12), "kernel": (3, 3)}
    with pytest.raises(kind, match="^" + re.escape(f"ConvProblem 'mine': {text}")):
        ConvProblem("mine", **{**plain, **change})


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"runs": 1}, ArgumentValueError, "runs: expected at least 2, got 1"),
        ({"problems": []}, ArgumentValueError, "problems: expected at least one, got none"),
        (
            {"problems": [SMALL, SMALL]},
            ArgumentValueError,
            "problems: expected a name of its own for each, got 'small'",
        ),
        ({"problems": ["resnet"]}, ArgumentTypeError, "problems: expected detprobe.probes.ConvProblem, got 'resnet'"),
        ({"dtypes": torch.float32}, ArgumentTypeError, "dtypes: expected a list, got torch.float32: put it into brack"),
        ({"dtypes": [torch.int8]}, ArgumentValueError, "dtype: expected one of float32, float64, float16, bfloat16"),
        ({"layouts": ["NWHC"]}, ArgumentValueError, "layouts: expected NCHW or NHWC, got 'NWHC'"),
        ({"workspace_limit": -1}, ArgumentValueError, "workspace_limit: expected at least 0, got -1"),
        ({"device": "emulator"}, ArgumentValueError, "device: expected one of cpu, cuda, got 'emulator'"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(arguments, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        probes.conv(**{"problems": [SMALL], "device": "cpu", **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(NotAvailableError, match=r"^device cuda: this machine has no GPU that torch can use"):
        probes.conv(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_engines_agree_with_torch():
    report = probes.conv([SMALL], device="cuda", runs=3, settings=False)
    assert report.tables[0].rows
    assert max(row[6] for row in report.tables[0].rows) < 1e-2
