"""Models and tensors of unusual kinds: each is scanned truly, or says in a row or a note what was not."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import detprobe


def lin() -> nn.Module:
    return nn.Linear(6, 6)


def rows() -> torch.Tensor:
    return torch.randn(4, 6)


def scan(model: Any, inputs: Any, **options: Any) -> detprobe.Report:
    return detprobe.scan(model, inputs, **{"replays": 2, **options})


def unreplayed(report: detprobe.Report) -> dict[str, str]:
    assert report.findings == ()
    return {row.op: row.reason for row in report.ops if row.verdict == "unreplayed"}


def noted(report: detprobe.Report, words: str) -> bool:
    return any(words in note for note in report.notes)


def test_ops_on_sparse_tensors_are_unreplayed_and_the_others_judged() -> None:
    report = scan(lambda x: torch.sparse.mm(torch.eye(4).to_sparse(), x).sin(), rows().requires_grad_())
    rows_of = unreplayed(report)
    assert rows_of["aten::_to_sparse"] == "its result has no plain memory to compare"
    assert rows_of["aten::_sparse_addmm"] == "an argument has the layout torch.sparse_coo"
    assert any(row.op == "aten::sin" and row.verdict == "stable" for row in report.ops)


def test_a_sparse_gradient_and_its_optimizer_are_unreplayed_and_unchanged() -> None:
    table = nn.Embedding(10, 6, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters())
    weight = table.weight.detach().clone()
    rows_of = unreplayed(scan(table, torch.tensor([1, 2, 2]), optimizer=optimizer))
    assert rows_of["aten::_coalesce"] == "an argument has the layout torch.sparse_coo"
    assert torch.equal(table.weight, weight)
    assert table.weight.grad is None
    assert not optimizer.state


def test_ops_on_meta_tensors_are_unreplayed() -> None:
    rows_of = unreplayed(scan(lambda x: (x * 2, x.to("meta") * 2), rows()))
    assert rows_of == {
        "aten::_to_copy": "its result has no plain memory to compare",
        "aten::mul": "an argument is a meta tensor: it holds no data",
    }


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=["strided", "jagged"])
def test_nested_tensors_inside_of_a_model_do_not_break_it(layout: torch.layout) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        nested = torch.nested.as_nested_tensor([x, x[:2]], layout=layout)
        return torch.nested.to_padded_tensor(nested * 2, 0.0) + 1

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nested tensors is in prototype stage.*")
        assert model(rows()).shape == (2, 4, 6)
        assert scan(model, rows(), backward=False).ok


def test_quantized_tensors_inside_of_a_model_are_judged() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize() * 2

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*quantize_per_tensor.*|.*torch.ao.quantization.*")
        report = scan(model, rows(), backward=False)
    assert report.ok
    assert [row.op for row in report.ops] == ["aten::quantize_per_tensor", "aten::dequantize", "aten::mul"]


def test_complex_models_with_conjugated_views_are_judged() -> None:
    model = nn.Sequential(nn.Linear(6, 6, dtype=torch.complex64))
    report = scan(lambda x: (model(x).conj() * 2).imag, torch.randn(4, 6, dtype=torch.complex64).conj())
    assert report.ok
    assert any(row.phase == "backward" and row.verdict == "stable" for row in report.ops)


class Labelled(torch.Tensor):
    """A subclass without a dispatch of its own."""


def test_tensors_of_a_subclass_are_scanned_as_what_they_are() -> None:
    report = scan(lin(), rows().as_subclass(Labelled))
    assert report.ok
    assert any(row.op == "aten::addmm" and row.verdict == "stable" for row in report.ops)


@pytest.mark.parametrize("way", ["module", "function", "method", "inner module"])
def test_compiled_code_is_scanned_as_eager_and_says_so(way: str) -> None:
    if way == "module":
        model: Any = torch.compile(lin(), backend="eager")
    elif way == "function":
        model = torch.compile(lambda x: x.sin() * 2, backend="eager")
    elif way == "method":
        model = lin()
        model.compile(backend="eager")
    else:
        model = nn.Sequential(lin(), torch.compile(lin(), backend="eager"))
    report = scan(model, rows())
    assert report.ok
    assert noted(report, "scanned as eager")
    assert any(row.verdict == "stable" and row.bound for row in report.ops)


def test_an_eager_model_is_not_called_compiled() -> None:
    assert not noted(scan(lin(), rows()), "compiled")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("way", ["script", "trace"])
def test_scripted_models_are_judged(way: str) -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    model = torch.jit.script(net) if way == "script" else torch.jit.trace(net, rows())
    report = scan(model, rows())
    assert report.ok
    assert {"aten::addmm", "aten::relu"} <= {row.op for row in report.ops if row.verdict == "stable"}


@pytest.mark.parametrize("around", [torch.no_grad, torch.enable_grad], ids=["no_grad", "enable_grad"])
def test_the_backward_is_scanned_under_no_grad_too_and_the_mode_comes_back(around: Any) -> None:
    with around():
        before = torch.is_grad_enabled()
        report = scan(lin(), rows())
        assert torch.is_grad_enabled() is before
    assert any(row.phase == "backward" for row in report.ops)


def test_inference_mode_has_no_backward_and_says_so() -> None:
    with torch.inference_mode():
        report = scan(lin(), rows())
        assert torch.is_inference_mode_enabled()
    assert report.ok
    assert noted(report, "the backward was not scanned")


def test_a_model_without_gradients_says_that_the_backward_was_not_scanned() -> None:
    report = scan(torch.no_grad()(lin().forward), rows())
    assert noted(report, "No output requires a gradient: the backward was not scanned.")
    assert {row.phase for row in report.ops} == {"forward"}


def test_autocast_around_a_scan_and_inside_of_the_model_sees_the_same_ops() -> None:
    net = lin()

    def model(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    inside = scan(model, rows())
    with torch.autocast("cpu", torch.bfloat16):
        around = scan(net, rows())
        assert torch.is_autocast_enabled("cpu")
    assert inside.ok
    assert around.ok
    forward = [[(r.op, r.shapes) for r in report.ops if r.phase == "forward"] for report in (inside, around)]
    assert forward[0] == forward[1]
    assert "bfloat16" in str(forward[0])


def test_a_model_that_runs_its_backward_itself_is_judged_and_noted() -> None:
    net = lin()

    def model(x: torch.Tensor) -> torch.Tensor:
        loss = net(x).square().sum()
        loss.backward()
        return loss

    report = scan(model, rows())
    assert report.ok
    assert noted(report, "The model used up the graph of its own output")
    assert net.weight.grad is None
    assert any(row.op == "aten::mm" for row in report.ops)  # the weight's gradient was seen


def test_a_higher_order_op_is_unreplayed() -> None:
    report = scan(lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)), rows(), backward=False)
    assert unreplayed(report)["cond"] == "a higher-order op: its body is not seen"


@pytest.mark.parametrize("name", ["t_", "transpose_", "unsqueeze_", "squeeze_", "swapaxes_", "as_strided_", "detach_"])
def test_ops_that_change_only_the_shape_in_place_are_stable(name: str) -> None:
    arguments = {"transpose_": (0, 1), "swapaxes_": (0, 1), "unsqueeze_": (0,), "as_strided_": ((2, 3), (6, 1))}

    def model(x: torch.Tensor) -> torch.Tensor:
        y = (x * 1)[None] if name == "squeeze_" else x * 1
        return getattr(y, name)(*arguments.get(name, ())) * 2

    assert scan(model, rows(), backward=False).findings == ()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    "model",
    [
        torch.func.vmap(lambda row: row.sin().sum()),
        torch.func.grad(lambda x: x.sin().sum()),
        lambda x: torch.func.jvp(torch.sin, (x,), (x,)),
        lambda x: torch.utils.checkpoint.checkpoint(torch.sin, x, use_reentrant=False),
    ],
    ids=["vmap", "grad", "jvp", "checkpoint"],
)
def test_transforms_and_checkpoints_are_judged(model: Any) -> None:
    assert scan(model, rows(), backward=False, replays=8).findings == ()
