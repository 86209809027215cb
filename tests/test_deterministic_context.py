"""The context itself: where it is on, what it leaves behind, and what it counts."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bit_patterns import logical_bytes
from torch.utils.checkpoint import checkpoint

import detprobe

OURS = torch.ops.detprobe
deterministic = detprobe.deterministic

_G = torch.Generator().manual_seed(0)
TABLE = torch.randn(500, 3, generator=_G)
INDEX = torch.randint(0, 500, (38000,), generator=_G)
GRADIENT = torch.randn(3, 38000, generator=_G).t()
EXPECTED = OURS.index_put(torch.zeros_like(TABLE), [INDEX], GRADIENT, True)


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert logical_bytes(got.detach()) == logical_bytes(expected.detach())


def table() -> torch.Tensor:
    return TABLE.clone().requires_grad_()


def scattered() -> torch.Tensor:
    return torch.zeros(4, 2).index_add(0, torch.tensor([1, 1, 3]), torch.ones(3, 2))


# -------------------------------------------------------------------------------------------------- on, off and nesting


def test_it_is_on_inside_and_off_outside() -> None:
    assert not deterministic.active()
    with deterministic() as report:
        assert deterministic.active()
        scattered()
    assert not deterministic.active()
    scattered()
    assert report.replaced == {"aten::index_add": 1}


def test_contexts_nest_and_the_outer_one_counts_what_ran_in_the_inner() -> None:
    with deterministic() as outer:
        scattered()
        with deterministic() as inner:
            scattered()
            scattered()
        assert deterministic.active()
        scattered()
    assert inner.replaced == {"aten::index_add": 2}
    assert outer.replaced == {"aten::index_add": 4}


def test_one_object_nests_in_itself() -> None:
    context = deterministic()
    with context as outer, context as inner:
        scattered()
    assert not deterministic.active()
    assert (outer.replaced, inner.replaced) == ({"aten::index_add": 1}, {"aten::index_add": 1})


@pytest.mark.parametrize("depth", [1, 2])
def test_an_exception_leaves_what_was_there(depth: int) -> None:
    def fall(levels: int) -> None:
        with deterministic():
            if levels == 1:
                raise KeyError("mine")
            fall(levels - 1)

    with pytest.raises(KeyError, match="mine"):
        fall(depth)
    assert not deterministic.active()
    with deterministic():
        with pytest.raises(KeyError, match="mine"):
            fall(depth)
        assert deterministic.active()


def test_an_error_of_an_op_leaves_it_working() -> None:
    with deterministic() as report:
        with pytest.raises(IndexError):
            torch.zeros(3).index_add_(0, torch.tensor([7]), torch.ones(1))
        scattered()
    assert report.replaced == {"aten::index_add": 2}


def test_it_decorates_functions_and_generators() -> None:
    @deterministic()
    def function(n: int) -> bool:
        """Mine."""
        return deterministic.active() if n == 0 else function(n - 1)

    @deterministic()
    def generator() -> Iterator[bool]:
        yield deterministic.active()
        yield deterministic.active()

    assert function(2)
    assert (function.__name__, function.__doc__) == ("function", "Mine.")
    seen = []
    for on in generator():
        seen.append((on, deterministic.active()))
    assert seen == [(True, False), (True, False)]


def test_it_refuses_to_decorate_what_it_could_not_hold() -> None:
    async def later() -> None: ...

    for wrong, message in ((later, "coroutine later"), (torch.nn.Linear, "got Linear"), (3, "got int")):
        with pytest.raises(TypeError, match=message) as error:
            deterministic()(wrong)  # type: ignore[arg-type]
        assert isinstance(error.value, detprobe.DetprobeError)


# -------------------------------------------------------------------------------------------------------- the backward


def test_a_backward_inside_is_ours() -> None:
    x = table()
    with deterministic() as report:
        x[INDEX].backward(GRADIENT)
    assert_same(x.grad, EXPECTED)
    assert report.replaced == {"aten::index_put": 1}


def test_a_backward_after_it_is_torchs_and_works() -> None:
    x = table()
    with deterministic() as report:
        out = x[INDEX]
    out.backward(GRADIENT)
    torch.testing.assert_close(x.grad, EXPECTED, rtol=1e-3, atol=1e-3)
    assert report.replaced == {}


def test_the_backward_of_a_bag_works_inside_and_after() -> None:
    index, offsets = torch.tensor([0, 1, 1, 3, 2]), torch.tensor([0, 3])
    for mode in ("sum", "mean", "max"):
        gradients = []
        for inside in (True, False):
            x = TABLE[:5].clone().requires_grad_()
            with deterministic():
                out = F.embedding_bag(index, x, offsets, mode=mode)
                if inside:
                    out.sum().backward()
            if not inside:
                out.sum().backward()
            gradients.append(x.grad)
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpoint_computes_again_inside_of_it(use_reentrant: bool) -> None:
    x = table()

    def block(t: torch.Tensor) -> torch.Tensor:
        assert deterministic.active()
        return t.index_select(0, INDEX).index_add(0, INDEX[:9], torch.ones(9, 3))

    with deterministic() as report:
        checkpoint(block, x, use_reentrant=use_reentrant).backward(GRADIENT)
    assert_same(x.grad, OURS.index_add(torch.zeros_like(TABLE), 0, INDEX, GRADIENT, 1, []))
    # Forward, again, and the backward of index_select; without reentrance nobody wants the index_add again.
    assert report.replaced == {"aten::index_add": 3 if use_reentrant else 2}


def test_a_double_backward_is_ours() -> None:
    x = table()
    with deterministic() as report:
        (first,) = torch.autograd.grad(x.index_select(0, INDEX).pow(3).sum(), x, create_graph=True)
        first.sum().backward()
    assert report.replaced == {"aten::index_add": 2}
    powers = 6 * TABLE.index_select(0, INDEX)
    assert_same(x.grad, OURS.index_add(torch.zeros_like(TABLE), 0, INDEX, powers, 1, []))


def test_a_custom_function_is_reached_in_its_forward_and_its_backward() -> None:
    class Read(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x[INDEX]

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return torch.zeros(500, 3).index_put_((INDEX,), g, accumulate=True)

    x = table()
    with deterministic() as report:
        Read.apply(x).backward(GRADIENT)
    assert_same(x.grad, EXPECTED)
    assert report.replaced == {"aten::index_put": 1}


# -------------------------------------------------------------------------------------------------------------- threads


def in_thread(function: Callable[[], Any]) -> Any:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(function()))
    thread.start()
    thread.join()
    return got[0]


def test_a_new_thread_starts_without_it_as_with_torchs_modes() -> None:
    with deterministic() as report, torch.no_grad():
        assert in_thread(lambda: (deterministic.active(), torch.is_grad_enabled())) == (False, True)
        in_thread(scattered)
    assert report.replaced == {}


def test_threads_have_contexts_and_counts_of_their_own() -> None:
    both = threading.Barrier(2)
    counts: dict[int, dict[str, int]] = {}
    context = deterministic()  # one object, in two threads at once

    def work(n: int) -> None:
        with context as report:
            both.wait()
            for _ in range(n):
                scattered()
            both.wait()
        counts[n] = report.replaced

    threads = [threading.Thread(target=work, args=(n,)) for n in (3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {3: {"aten::index_add": 3}, 5: {"aten::index_add": 5}}


def test_a_thread_of_autograd_inherits_it_and_counts_for_its_caller() -> None:
    """A reentrant backward below autograd's depth limit runs in a thread of its pool."""
    threads = set()

    class Deeper(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, depth: int) -> torch.Tensor:
            ctx.depth = depth
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
            threads.add(threading.get_ident())
            assert deterministic.active()
            scattered()
            if ctx.depth:
                with torch.enable_grad():
                    x = torch.ones(1, requires_grad=True)
                    Deeper.apply(x, ctx.depth - 1).backward()
            return g, None

    with deterministic() as report:
        Deeper.apply(torch.ones(1, requires_grad=True), 70).backward()
    assert len(threads) > 1
    assert report.replaced == {"aten::index_add": 71}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_jit_fork_inherits_it() -> None:
    @torch.jit.script
    def forked(x: torch.Tensor, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        future = torch.jit.fork(torch.index_add, x, 0, index, source)
        return torch.jit.wait(future)

    with deterministic() as report:
        forked(torch.zeros(4, 2), torch.tensor([1, 1, 3]), torch.ones(3, 2))
    assert report.replaced == {"aten::index_add": 1}


def test_the_process_is_switched_on_for_every_thread_and_off_again() -> None:
    report = deterministic.enable()
    try:
        assert in_thread(deterministic.active)
        in_thread(scattered)
        with deterministic() as inner:
            scattered()
        assert deterministic.active()
        assert inner.replaced == {"aten::index_add": 1}
        assert report.replaced == {"aten::index_add": 2}
        again = deterministic.enable()
        scattered()
        assert (report.replaced, again.replaced) == ({"aten::index_add": 2}, {"aten::index_add": 1})
    finally:
        deterministic.disable()
    assert not deterministic.active()
    assert not in_thread(deterministic.active)
    deterministic.disable()
    scattered()
    assert report.replaced == {"aten::index_add": 2}


def test_a_context_outlives_the_switch_of_the_process() -> None:
    with deterministic() as report:
        deterministic.enable()
        deterministic.disable()
        assert deterministic.active()
        scattered()
    assert not deterministic.active()
    assert report.replaced == {"aten::index_add": 1}


# ------------------------------------------------------------------------------------------------- beside torch's own


def test_a_report_is_a_table() -> None:
    with deterministic() as report:
        assert str(report) == "detprobe.deterministic(): 0 calls replaced, 0 calls not covered"
        for _ in range(12):
            scattered()
        TABLE.clone().index_put_((INDEX,), GRADIENT, accumulate=True)
        F.max_unpool2d(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.int64), 2)
    assert report.replaced == {"aten::index_add": 12, "aten::index_put": 1}
    assert report.uncovered == {"aten::max_unpool2d": 1}
    assert str(report) == (
        "detprobe.deterministic(): 13 calls replaced, 1 call not covered\n"
        "  replaced     aten::index_add    12\n"
        "  replaced     aten::index_put     1\n"
        "  not covered  aten::max_unpool2d   1"
    ).replace("index_add    12", "index_add     12").replace("index_put     1", "index_put      1")
    assert repr(report) == (
        "Rerouted(replaced={'aten::index_add': 12, 'aten::index_put': 1}, uncovered={'aten::max_unpool2d': 1})"
    )


def test_every_overload_of_the_family_is_wrapped() -> None:
    families = "index_add index_add_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ index_copy index_copy_"
    wrapped = [getattr(torch.ops.aten, name) for name in families.split()]
    overloads = [getattr(op, name) for op in wrapped for name in op.overloads() if "dimname" not in name]
    single = (
        "_index_put_impl_ put_ embedding_dense_backward _embedding_bag _embedding_bag_dense_backward bincount histc"
    )
    overloads += [getattr(torch.ops.aten, name).default for name in single.split()]
    overloads += [getattr(torch.ops.aten.scatter, name) for name in ("src", "reduce", "src_out", "reduce_out")] + [
        torch.ops.aten.scatter_.src,
        torch.ops.aten.scatter_.reduce,
        torch.ops.aten.histc.out,
    ]
    for op in overloads:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "BackendSelect"), op


def test_a_torch_without_the_key_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from detprobe.rerouting import _context

    class Without:
        def reroute_key(self) -> str:
            raise RuntimeError("detprobe.deterministic() switches by the dispatch key X, and this torch has none")

    _context._check.cache_clear()
    monkeypatch.setattr(_context, "_C", Without())
    with pytest.raises(detprobe.NotAvailableError, match="dispatch key X"):
        deterministic().__enter__()
    _context._check.cache_clear()


def test_the_key_is_torchs_and_nobody_else_uses_it() -> None:
    name = detprobe._C.reroute_key()
    assert torch._C._dispatch_key_parse(name) == torch._C._parse_dispatch_key(name)
    assert not torch._C._dispatch_tls_is_dispatch_key_included(torch._C._parse_dispatch_key(name))


def test_importing_detprobe_imports_neither_inductor_nor_dynamo() -> None:
    code = (
        "import sys, torch, detprobe\n"
        "with detprobe.deterministic(): pass\n"
        "print([m for m in sys.modules if m in ('torch._dynamo', 'torch._inductor')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
