"""Models in `detprobe.deterministic()`: forces of SchNet, a table's gradient, graph networks with hot nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gnn_models
import models
import pytest
import torch

import detprobe

RUNS = 40
BUILD: dict[str, Callable[[], gnn_models.Built]] = {
    "SchNet": models.schnet,
    "table[index]": gnn_models.table,
    "GraphSAGE": gnn_models.sage,
    "GAT": gnn_models.gat,
    "GraphSAGE of PyTorch Geometric": gnn_models.geometric_sage,
    "GAT of PyTorch Geometric": gnn_models.geometric_gat,
}

# What the context must have replaced, at least once in a step.
REPLACED = {
    "SchNet": {"index_put", "index_add", "embedding_dense_backward"},
    "table[index]": {"index_put"},
    "GraphSAGE": {"index_put", "index_add"},
    "GAT": {"index_put", "index_add", "scatter_add", "scatter_reduce"},
    "GraphSAGE of PyTorch Geometric": {"index_add", "scatter_add"},
    "GAT of PyTorch Geometric": {"index_add", "scatter_add", "scatter_reduce"},
}

# Where stock torch races on a CPU: the lines that read the rows to which the backward adds.
RACES = {
    "SchNet": (models.HERE, ["edge = pos[row] - pos[col]"]),
    "table[index]": (gnn_models.__file__, ["return self.table[index] * factors"]),
    "GraphSAGE": (gnn_models.EXAMPLE, ["index_add(0, target, h[source])"]),
    "GAT": (
        gnn_models.EXAMPLE,
        ["self.of_source).sum(-1)[source]", "most.detach()[target]", "h[source] * (powers / sums[target])"],
    ),
}

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))
every_device = pytest.mark.parametrize("device", ["cpu", GPU])
every_model = pytest.mark.parametrize("name", BUILD)


def built(name: str, device: str = "cpu") -> gnn_models.Built:
    return gnn_models.on(device, BUILD[name]())


def scan(model: Any, inputs: Any) -> detprobe.Report:
    return detprobe.scan(model, inputs, loss=gnn_models.loss)


@every_device
@every_model
def test_forty_runs_give_one_digest(name: str, device: str) -> None:
    model, inputs = built(name, device)
    with detprobe.deterministic() as report:
        digests = {gnn_models.step(model, inputs) for _ in range(RUNS)}
    assert len(digests) == 1
    assert {f"aten::{op}" for op in REPLACED[name]} <= set(report.replaced)
    assert all(calls % RUNS == 0 for calls in report.replaced.values()), "a run took another way"
    assert report.uncovered == {}


@pytest.mark.parametrize("name", RACES)
def test_a_scan_finds_the_race_and_none_in_the_context(name: str) -> None:
    model, inputs = built(name)
    file, lines = RACES[name]
    before = models.racing(lambda: scan(model, inputs))
    assert models.named(before) == {("aten::index_put", "backward", "nondeterministic")}
    for finding in before.findings:
        assert any(models.ends_at(finding.location, text, file) for text in lines), finding.location
        assert {trial.fix: trial.result for trial in finding.trials}["detprobe.deterministic()"] == "identical"
    with detprobe.deterministic() as context:
        after = scan(model, inputs)
    assert after.findings == ()
    assert context.replaced["aten::index_put"] > 0


@pytest.mark.parametrize("name", sorted(BUILD.keys() - RACES.keys()))
def test_what_repeats_on_a_cpu_is_clean_before_and_after(name: str) -> None:
    model, inputs = built(name)
    assert scan(model, inputs).findings == ()
    with detprobe.deterministic():
        assert scan(model, inputs).findings == ()


@pytest.mark.parametrize("name", sorted(BUILD.keys() - {"table[index]"}))
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_a_scan_finds_atomics_and_none_in_the_context(name: str) -> None:
    model, inputs = built(name, "cuda")
    assert "nondeterministic" in {finding.verdict for finding in scan(model, inputs).findings}
    with detprobe.deterministic():
        assert scan(model, inputs).findings == ()


def test_what_the_example_trains_repeats_in_the_context() -> None:
    example = gnn_models.example()
    graph = example.digits()
    for name in ("GraphSAGE", "GAT"):
        make = example.models()[name]
        trained = {example.train(make, graph, detprobe.deterministic, 3) for _ in range(3)}
        assert len(trained) == 1, name
    assert example.train(make, graph, detprobe.deterministic, 15)[1] > 0.7


@every_model
def test_it_changes_the_order_of_sums_and_nothing_else(name: str) -> None:
    model, inputs = built(name)
    leaves = [t for t in (*model.parameters(), *inputs) if t.requires_grad]
    results = []
    for context in (False, True):
        with detprobe.deterministic() if context else torch.enable_grad():
            output = model(*inputs)
            results.append((output, torch.autograd.grad(gnn_models.loss(output), leaves, allow_unused=True)))
    torch.testing.assert_close(*(tuple(t for t in (a, *b) if t is not None) for a, b in results), rtol=1e-3, atol=1e-3)


def test_the_gradient_of_a_table_does_not_depend_on_the_threads() -> None:
    model, inputs = built("table[index]")
    digests = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        with detprobe.deterministic():
            digests.add(gnn_models.step(model, inputs))
    assert len(digests) == 1
