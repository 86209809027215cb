"""What a scan cannot judge it refuses with a clear error or shows in an honest row; it never guesses a verdict.

The decisive sentence of each error is tested: what was expected, what was got, what to do. What a model raises reaches
the user as it was, and a scan that was refused leaves the next one free to run.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import detprobe
from detprobe.errors import ArgumentTypeError, ArgumentValueError, DetprobeError, NotAvailableError


def lin() -> nn.Module:
    return nn.Linear(6, 6)


def rows() -> torch.Tensor:
    return torch.randn(4, 6)


def scan(model: Any, inputs: Any, **options: Any) -> detprobe.Report:
    return detprobe.scan(model, inputs, **{"replays": 2, **options})


AXES = "'rerun', 'flag', 'threads', 'stress', 'batch', 'layout', 'device'"
FORMS = "inputs: expected a tensor, a tuple (positional arguments), a dict (keyword arguments) or (tuple, dict)"
SCALAR = "return one floating number that depends on the output"
NO_DATA = "make it on a real device first"

BAD_OPTIONS: list[tuple[str, Any, type[DetprobeError], str]] = [
    ("replays", 1, ArgumentValueError, "replays: expected at least 2, got 1"),
    ("replays", 0, ArgumentValueError, "replays: expected at least 2, got 0"),
    ("replays", True, ArgumentTypeError, "replays: expected int, got bool (True)"),
    ("replays", 2.0, ArgumentTypeError, "replays: expected int, got float (2.0)"),
    ("replays", None, ArgumentTypeError, "replays: expected int, got NoneType (None)"),
    ("axes", "rerun", ArgumentTypeError, f"axes: expected a tuple of names out of {AXES}; got 'rerun'"),
    ("axes", None, ArgumentTypeError, f"axes: expected a tuple of names out of {AXES}; got None"),
    ("axes", (), ArgumentValueError, f"axes: expected at least one of {AXES}; got none"),
    ("axes", [], ArgumentValueError, f"axes: expected at least one of {AXES}; got none"),
    ("axes", ("rerun", "speed"), ArgumentValueError, f"axes: expected names out of {AXES}; got 'speed'"),
    ("axes", (["rerun"],), ArgumentValueError, f"axes: expected names out of {AXES}; got ['rerun']"),
    ("budget", -1, ArgumentValueError, "budget: expected at least 0, got -1: seconds, or None for no limit"),
    ("budget", float("nan"), ArgumentValueError, "budget: expected at least 0, got nan"),
    ("budget", "3", ArgumentTypeError, "budget: expected float, got str ('3')"),
    ("seed", -1, ArgumentValueError, "seed: expected at least 0, got -1"),
    ("seed", 2**63, ArgumentValueError, "2**63"),
    ("seed", 1.5, ArgumentTypeError, "seed: expected int, got float (1.5)"),
    ("loss", 3, ArgumentTypeError, "loss: expected a callable, got int"),
    ("loss", lambda out: out, ArgumentValueError, "loss: expected a scalar tensor, got shape (4, 6): " + SCALAR),
    ("loss", lambda out: out[:0], ArgumentValueError, "loss: expected a scalar tensor, got shape (0, 6)"),
    ("loss", lambda out: 1.0, ArgumentTypeError, "loss: expected a scalar tensor, got float: " + SCALAR),
    ("loss", lambda out: None, ArgumentTypeError, "loss: expected a scalar tensor, got NoneType"),
    ("loss", lambda out: out.argmax(), ArgumentValueError, "loss: expected a floating scalar with a gradient, got int"),
    ("loss", lambda out: out.sum().detach(), ArgumentValueError, "got float32 with requires_grad=False: " + SCALAR),
    ("loss", lambda out: out.sum() * 1j, ArgumentValueError, "with a gradient, got complex64"),
    ("optimizer", "sgd", ArgumentTypeError, "optimizer: expected a torch.optim.Optimizer, got str"),
    ("optimizer", torch.optim.SGD, ArgumentTypeError, "optimizer: expected a torch.optim.Optimizer, got type"),
    ("optimizer", [1], ArgumentTypeError, "optimizer: expected a torch.optim.Optimizer, got list"),
]


@pytest.mark.parametrize(("name", "value", "kind", "said"), BAD_OPTIONS)
def test_a_bad_option_is_named_with_what_was_expected_and_got(
    name: str, value: Any, kind: type[DetprobeError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        scan(lin(), rows(), **{name: value})
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert scan(lin(), rows()).ok  # the next one runs


BAD_INPUTS: list[tuple[str, Callable[[], Any], type[DetprobeError], str]] = [
    ("no tensor", lambda: (1, "a"), ArgumentValueError, "inputs: expected at least one tensor, got none"),
    ("empty tuple", lambda: (), ArgumentValueError, "inputs: expected at least one tensor, got none"),
    ("a list", lambda: [rows()], ArgumentTypeError, f"{FORMS}, got list: wrap it in a tuple"),
    ("an array", lambda: np.zeros(3), ArgumentTypeError, f"{FORMS}, got ndarray"),
    ("None", lambda: None, ArgumentTypeError, f"{FORMS}, got NoneType"),
    ("numbers as keys", lambda: {1: rows()}, ArgumentTypeError, "its keys must be strings; got the key 1"),
    ("numbers as keywords", lambda: ((rows(),), {2: 3}), ArgumentTypeError, "its keys must be strings; got the key 2"),
    ("meta", lambda: rows().to("meta"), ArgumentValueError, "got a meta tensor of shape (4, 6): " + NO_DATA),
    ("meta inside", lambda: (rows(), {"a": [rows().to("meta")]}), ArgumentValueError, "got a meta tensor"),
    ("COO", lambda: torch.eye(6).to_sparse(), ArgumentValueError, "one with the layout torch.sparse_coo"),
    ("CSR", lambda: torch.eye(6).to_sparse_csr(), ArgumentValueError, "one with the layout torch.sparse_csr"),
]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize(("inputs", "kind", "said"), [case[1:] for case in BAD_INPUTS], ids=[c[0] for c in BAD_INPUTS])
def test_bad_inputs_are_refused(inputs: Callable[[], Any], kind: type[DetprobeError], said: str) -> None:
    with pytest.raises(kind) as caught:
        scan(lin(), inputs())
    assert said in str(caught.value)


def test_nested_tensors_in_the_inputs_are_refused_with_words() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nested tensors is in prototype stage.*")
        for layout in (torch.strided, torch.jagged):
            nested = torch.nested.nested_tensor([rows(), rows()[:2]], layout=layout)
            with pytest.raises(ArgumentValueError, match="inputs: expected strided tensors"):
                scan(lambda x: x * 2, nested)


@pytest.mark.parametrize("model", [3, None, "lin", torch.ones(3)], ids=["int", "None", "str", "tensor"])
def test_a_model_that_cannot_be_called_is_refused(model: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"model: expected an nn\.Module or a callable, got \w+"):
        scan(model, rows())


def test_models_without_data_are_refused() -> None:
    with pytest.raises(ArgumentValueError, match=r"the model's parameters and buffers: .* got a meta tensor"):
        scan(nn.Linear(6, 6, device="meta"), rows())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Lazy modules are a new feature")
        with pytest.raises(ArgumentValueError, match="uninitialized parameter of a lazy module: run the model once"):
            scan(nn.LazyLinear(3), rows())


def test_tensors_of_two_devices_are_refused() -> None:
    with torch._subclasses.fake_tensor.FakeTensorMode():
        far = torch.empty(4, 6, device="cuda")
    with pytest.raises(ArgumentValueError, match="inputs: expected tensors on one device, got cpu, cuda"):
        scan(lambda a, b: a, (rows(), far))
    with pytest.raises(ArgumentValueError, match="inputs are on cuda and the model's parameters on cpu"):
        scan(lin(), far)


def test_fake_tensors_are_refused_with_words() -> None:
    with torch._subclasses.fake_tensor.FakeTensorMode():
        fake = torch.empty(4, 6)
    with pytest.raises(DetprobeError, match="FakeTensor"):
        scan(lambda x: x * 2, fake)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda x: x.argmax(1), "it has only int64: pass a loss, or backward=False"),
        (lambda x: {"a": [x > 0, x.argmax()]}, "it has only bool, int64: pass a loss, or backward=False"),
        (lambda x: None, "it has no tensor: pass a loss, or backward=False"),
    ],
    ids=["integers", "bools and integers", "nothing"],
)
def test_an_output_without_floating_tensors_needs_a_loss(model: Any, said: str) -> None:
    with pytest.raises(ArgumentValueError) as caught:
        scan(model, rows())
    assert str(caught.value).endswith(said)
    assert scan(model, rows(), backward=False).ok


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a second device")
def test_the_device_axis_without_a_second_device_is_not_available() -> None:
    with pytest.raises(NotAvailableError, match=r"leave 'device' out of axes"):
        scan(lin(), rows(), axes=("rerun", "device"))


@pytest.mark.parametrize("kind", [ValueError, KeyError, SystemExit, NotImplementedError, StopIteration, DetprobeError])
def test_what_the_model_raises_reaches_the_user_as_it_was(kind: type[BaseException]) -> None:
    error = kind("my text")

    def model(x: torch.Tensor) -> torch.Tensor:
        raise error

    with pytest.raises(kind) as caught:
        scan(model, rows())
    assert caught.value is error
    assert caught.value.args == ("my text",)
    if sys.version_info >= (3, 11) and issubclass(kind, Exception) and kind is not DetprobeError:
        assert any("detprobe.scan" in note for note in error.__notes__)


def test_a_call_that_does_not_fit_the_model_raises_the_models_own_error() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        scan(lin(), torch.randn(3, 3))
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        scan(lin(), {"wrong": rows()})


class Recursive(nn.Module):
    def __init__(self, inner: Callable[[], Any]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        self.inner()
        return y


@pytest.mark.parametrize("way", ["scan", "assert"])
def test_a_scan_inside_of_a_scan_is_refused_and_the_outer_state_comes_back(way: str) -> None:
    def inner() -> None:
        if way == "scan":
            scan(lin(), rows())
        else:
            detprobe.assert_deterministic(lin(), (rows(),))

    model = Recursive(inner)
    with pytest.raises(DetprobeError, match="a scan is running"):
        scan(model, rows())
    assert torch.equal(model.norm.running_mean, torch.zeros(6))
    assert int(model.norm.num_batches_tracked) == 0
    assert scan(lin(), rows()).ok


def test_a_scan_runs_in_a_thread() -> None:
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.append(scan(lin(), rows())))
    thread.start()
    thread.join()
    assert reports[0].ok
    assert any(row.phase == "backward" and row.verdict == "stable" for row in reports[0].ops)


def test_a_tensor_without_memory_does_not_end_the_process() -> None:
    code = (
        "import torch, detprobe\n"
        "detprobe.scan(lambda x: x * torch._efficientzerotensor(6), torch.randn(4, 6), replays=2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # negative: killed by a signal
    assert "Fatal" not in done.stderr
