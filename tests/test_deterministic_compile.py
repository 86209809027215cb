"""torch.compile in the context: eager backends are rerouted as they run, inductor's graphs while they are compiled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bit_patterns import logical_bytes
from torch import nn

import detprobe

OURS = torch.ops.detprobe
ROWS, COLUMNS, N = 40, 6, 3000
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter with Tensor src is deprecated"),
]


@pytest.fixture(autouse=True)
def compiles_anew() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def assert_same(got: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        assert logical_bytes(a.detach()) == logical_bytes(b.detach())


class Arguments:
    def __init__(self, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(ROWS, COLUMNS, generator=g)
        self.source = torch.randn(N, COLUMNS, generator=g)
        self.index = torch.randint(0, ROWS, (N,), generator=g)
        self.element = torch.randint(0, ROWS, (N, COLUMNS), generator=g)

    def all(self) -> tuple[torch.Tensor, ...]:
        return self.x, self.source, self.index, self.element


def family(x: torch.Tensor, source: torch.Tensor, index: torch.Tensor, element: torch.Tensor) -> list[torch.Tensor]:
    """Every op once, on arguments of its own, so that no two of them are one to a compiler."""
    return [
        x.index_add(0, index, source),
        (x + 1).scatter_add(0, element, source),
        (x + 2).index_put((index,), source, accumulate=True),
        (x + 3).index_put((index,), source),
        (x + 4).index_copy(0, index, source),
        (x + 5).scatter_reduce(0, element, source, "mean"),
        (x + 6).scatter_reduce(0, element, source, "amax", include_self=False),
        (x + 7).scatter(0, element, source),
        (x + 8).scatter(0, element, source, reduce="multiply"),
        (x + 9).put(index, source[:, 0], accumulate=True),
        source.histc(20, -1, 1),
        index.bincount(source[:, 1]),
        (x + 10).index_put_((index, element[:, 0] % COLUMNS), source[:, 2], accumulate=True),
    ]


class Model(nn.Module):
    """Gradients of embedding, bag, index, index_select and gather; what is around them is exact or not fused."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Embedding(ROWS, COLUMNS, padding_idx=2)
        self.bag = nn.EmbeddingBag(ROWS, COLUMNS, mode="sum")
        self.read, self.selected, self.gathered = (nn.Parameter(torch.randn(ROWS, COLUMNS)) for _ in range(3))

    def forward(self, index: torch.Tensor, element: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            self.token(index),
            self.bag(index, offsets),
            self.read[index],
            self.selected.index_select(0, index),
            self.gathered.gather(0, element),
        )


def step(model: Callable[..., Any], owner: nn.Module) -> list[torch.Tensor]:
    """Outputs and gradients, from cotangents that a sum does not forgive another order."""
    d = Arguments(1)
    owner.zero_grad(set_to_none=True)
    outputs = model(d.index, d.element, torch.tensor([0, 5, 700]))
    g = torch.Generator().manual_seed(2)
    torch.autograd.backward(outputs, [torch.randn(o.shape, generator=g) for o in outputs])
    return [o.detach() for o in outputs] + [p.grad for p in owner.parameters() if p.grad is not None]


BACKWARDS = {"embedding_dense_backward", "_embedding_bag", "_embedding_bag_dense_backward", "index_put", "scatter_add"}


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_ops_of_a_compiled_function_have_the_bits_of_eager_ones(backend: str) -> None:
    arguments = Arguments().all()
    with detprobe.deterministic() as eager:
        expected = family(*arguments)
    compiled = torch.compile(family, backend=backend, fullgraph=False)
    with detprobe.deterministic() as report:
        got = compiled(*arguments)
    assert_same(got, expected)
    assert sum(report.replaced.values()) == sum(eager.replaced.values()) == len(expected)
    assert report.uncovered == {}


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_gradients_of_a_compiled_model_have_the_bits_of_eager_ones(backend: str) -> None:
    model = Model()
    with detprobe.deterministic() as eager:
        expected = step(model, model)
    compiled = torch.compile(model, backend=backend)
    with detprobe.deterministic() as report:
        got = step(compiled, model)
    assert_same(got, expected)
    assert sum(report.replaced.values()) == sum(eager.replaced.values()) == 6
    assert report.uncovered == {}


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_entering_compiles_once_and_leaving_uses_the_old_graph(backend: str) -> None:
    model = Model()
    compiled = torch.compile(model, backend=backend)
    step(compiled, model)
    first = graphs()
    with detprobe.deterministic():
        inside = step(compiled, model)
    assert graphs() == first + 1
    step(compiled, model)
    with detprobe.deterministic() as report:
        again = step(compiled, model)
    step(compiled, model)
    assert graphs() == first + 1
    assert_same(again, inside)
    assert sum(report.replaced.values()) == 6


def test_a_graph_with_shapes_that_change_is_rewritten() -> None:
    def both(x: torch.Tensor, index: torch.Tensor, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.detach().index_add(0, index, source), F.embedding(index, x)

    d = Arguments()
    x = d.x.requires_grad_()
    compiled = torch.compile(both, backend="inductor", dynamic=True)
    with detprobe.deterministic() as report:
        for n in (1000, 2000, 3000):
            index, source = d.index[:n], d.source[:n]
            added, read = compiled(x, index, source)
            (g,) = torch.autograd.grad(read, x, source)
            expected = OURS.index_add(d.x.detach(), 0, index, source, 1, [])
            assert_same([added, g], [expected, OURS.embedding_backward(source, index, ROWS, -1, False, [])])
    assert sum(report.replaced.values()) == 6


@pytest.mark.slow
def test_inductors_cpp_wrapper_calls_them_too() -> None:
    arguments = Arguments().all()
    with detprobe.deterministic():
        expected = family(*arguments)
    with torch._inductor.config.patch(cpp_wrapper=True), detprobe.deterministic() as report:
        got = torch.compile(family, backend="inductor")(*arguments)
    assert_same(got, expected)
    assert sum(report.replaced.values()) == len(expected)


# -------------------------------------------------------------------------------------------- inductor's configuration


def add_up(x: torch.Tensor, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return x.index_put((index,), source, accumulate=True)


def test_the_pass_is_there_inside_and_what_was_there_before_after() -> None:
    import torch._inductor.config as config

    assert config.post_grad_custom_pre_pass is None
    with detprobe.deterministic():
        assert config.post_grad_custom_pre_pass is not None
        with detprobe.deterministic():
            pass
        assert config.post_grad_custom_pre_pass is not None
        detprobe.deterministic.enable()
    assert config.post_grad_custom_pre_pass is not None
    detprobe.deterministic.disable()
    assert config.post_grad_custom_pre_pass is None


def test_a_pass_of_the_users_runs_as_well_and_stays() -> None:
    import torch._inductor.config as config
    from torch._inductor.custom_graph_pass import CustomGraphPass

    seen: list[list[str]] = []

    class Mine(CustomGraphPass):
        def __call__(self, graph: torch.fx.Graph) -> None:
            seen.append([str(node.target) for node in graph.nodes if node.op == "call_function"])

        def uuid(self) -> Any:
            return None

    mine, d = Mine(), Arguments()
    with config.patch(post_grad_custom_pre_pass=mine):
        with detprobe.deterministic() as report:
            got = torch.compile(add_up, backend="inductor")(d.x, d.index, d.source)
        assert config.post_grad_custom_pre_pass is mine
    assert_same([got], [OURS.index_put(d.x, [d.index], d.source, True)])
    assert report.replaced == {"aten::index_put": 1}
    assert any("aten.index_put" in target for targets in seen for target in targets)


def test_a_region_that_could_not_be_rewritten_is_named() -> None:
    import torch._inductor.config as config

    d = Arguments()
    with detprobe.deterministic() as report:
        config.post_grad_custom_pre_pass = None
        torch.compile(add_up, backend="inductor")(d.x, d.index, d.source)
    (named,) = report.uncovered
    assert "torch.compile" in named
    assert "post_grad_custom_pre_pass" in named


def test_a_graph_that_was_compiled_outside_is_not_taken_from_the_cache() -> None:
    """Inductor keeps graphs on disk by what they hold and how they are made: the pass has to be part of that."""
    d = Arguments()
    with torch._inductor.config.patch(fx_graph_cache=True):
        for _ in range(2):
            torch.compile(add_up, backend="inductor")(d.x, d.index, d.source)
            torch.compiler.reset()
            with detprobe.deterministic() as report:
                got = torch.compile(add_up, backend="inductor")(d.x, d.index, d.source)
            torch.compiler.reset()
            assert report.replaced == {"aten::index_put": 1}
            assert_same([got], [OURS.index_put(d.x, [d.index], d.source, True)])


def test_inductor_that_is_imported_inside_gets_the_pass() -> None:
    code = """
import sys, torch, detprobe
x, index, source = torch.zeros(4, 2), torch.tensor([1, 1, 3]), torch.ones(3, 2)
with detprobe.deterministic() as report:
    assert "torch._inductor.config" not in sys.modules
    torch.compile(lambda x, i, s: x.index_put((i,), s, accumulate=True), backend="inductor")(x, index, source)
import torch._inductor.config
assert torch._inductor.config.post_grad_custom_pre_pass is None
print(report.replaced, report.uncovered)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "{'aten::index_put': 1} {}", done.stderr


def test_the_process_switch_drops_what_was_compiled() -> None:
    d = Arguments()
    compiled = torch.compile(add_up, backend="inductor")
    compiled(d.x, d.index, d.source)
    report = detprobe.deterministic.enable()
    try:
        got = compiled(d.x, d.index, d.source)
    finally:
        detprobe.deterministic.disable()
    assert_same([got], [OURS.index_put(d.x, [d.index], d.source, True)])
    assert report.replaced == {"aten::index_put": 1}
    compiled(d.x, d.index, d.source)
    assert report.replaced == {"aten::index_put": 1}


# ----------------------------------------------------------------------------------------- the context, while compiled


def test_a_compiled_function_may_open_the_context_itself() -> None:
    d = Arguments()

    def opens(x: torch.Tensor, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        y = x * 1.0
        with detprobe.deterministic():
            return y.index_add(0, index, source)

    decorated = detprobe.deterministic()(add_up)
    for function in (opens, decorated):
        got = torch.compile(function, backend="aot_eager")(d.x, d.index, d.source)
        assert_same([got], [OURS.index_put(d.x, [d.index], d.source, True)])
    assert not detprobe.deterministic.active()


def test_every_twin_has_the_schema_of_atens_op() -> None:
    from detprobe.rerouting._compile import TWINS

    for name in TWINS:
        op, overload = name.split(".")
        theirs = getattr(getattr(torch.ops.aten, op), overload)
        ours = getattr(getattr(OURS, f"rerouted_{op}"), overload)
        assert str(ours._schema) == str(theirs._schema).replace("aten::", "detprobe::rerouted_")


def test_functional_and_module_calls_give_one_result_compiled_or_not() -> None:
    d = Arguments()
    weight = torch.randn(ROWS, COLUMNS, requires_grad=True)

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return F.embedding(d.index, weight)

    results = []
    for function in (loss, torch.compile(loss, backend="inductor")):
        with detprobe.deterministic():
            (got,) = torch.autograd.grad(function(weight), weight, d.source)
        results.append(got)
    assert_same([results[0]], [results[1]])
    assert_same([results[0]], [OURS.embedding_backward(d.source, d.index, ROWS, -1, False, [])])
