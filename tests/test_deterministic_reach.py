"""What the context reaches: transforms, modes, tensors without data, ops that torch's flag refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bit_patterns import logical_bytes

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


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_functions_of_functorch_are_reached() -> None:
    g = torch.Generator().manual_seed(0)
    x, index, source = torch.randn(7, 5), torch.randint(0, 7, (4, 300), generator=g), torch.randn(4, 300, 5)
    with deterministic() as report:
        mapped = torch.vmap(lambda i, s: x.index_add(0, i, s))(index, source)
        of_read = torch.func.grad(lambda t: (t.index_select(0, index[0]) * source[0]).sum())(x)
        value, tangent = torch.func.jvp(lambda s: x.index_add(0, index[0], s), (source[0],), (source[1],))
    for i in range(4):
        assert_same(mapped[i], OURS.index_add(x, 0, index[i], source[i], 1, []))
    assert_same(of_read, OURS.index_add(torch.zeros_like(x), 0, index[0], source[0], 1, []))
    assert_same(value, OURS.index_add(x, 0, index[0], source[0], 1, []))
    assert_same(tangent, OURS.index_add(torch.zeros_like(x), 0, index[0], source[1], 1, []))
    assert report.replaced["aten::index_add"] >= 4
    assert report.uncovered == {}


def test_inference_mode_and_autocast_are_reached() -> None:
    with deterministic() as report:
        with torch.inference_mode():
            scattered().index_add_(0, torch.tensor([1]), torch.ones(1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            scattered()
    assert report.replaced == {"aten::index_add": 3}


def test_tensors_without_data_pass_through() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with deterministic() as report:
        on_meta = torch.zeros(4, 2, device="meta").index_add_(
            0, torch.zeros(3, dtype=torch.int64, device="meta"), torch.ones(3, 2, device="meta")
        )
        with FakeTensorMode():
            fake = scattered()
            fake.index_put_((torch.zeros(3, dtype=torch.int64),), torch.ones(3, 2), accumulate=True)
    assert on_meta.shape == fake.shape == (4, 2)
    assert (report.replaced, report.uncovered) == ({}, {})


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_sparse_and_quantized_tensors_pass_through() -> None:
    sparse = torch.eye(4).to_sparse()
    quantized = torch.quantize_per_tensor(torch.ones(4, 2), 0.1, 0, torch.quint8)
    with deterministic() as report:
        torch.sparse.mm(sparse, torch.ones(4, 2))
        (sparse + sparse).coalesce()
        quantized.index_select(0, torch.tensor([1, 1]))
    assert report.replaced == {}


def test_dispatch_modes_and_a_profiler_see_atens_ops() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func.name())
            return func(*args, **(kwargs or {}))

    with deterministic() as report, Watching():
        scattered()
    assert "aten::index_add" in seen
    with torch.profiler.profile() as profile, deterministic() as second:
        scattered()
    assert "aten::index_add" in {event.name for event in profile.events()}
    assert (report.replaced, second.replaced) == ({"aten::index_add": 1}, {"aten::index_add": 1})
    with deterministic():
        profiler = torch.profiler.profile()
        profiler.start()
    profiler.stop()


def test_higher_order_ops_run_in_it() -> None:
    from torch._higher_order_ops.cond import cond_op

    with deterministic():
        (got,) = cond_op(torch.tensor(True), lambda x: (x + 1,), lambda x: (x - 1,), (torch.ones(3),))
    assert got.tolist() == [2.0, 2.0, 2.0]


REFUSED_UNDER_THE_FLAG: dict[str, Callable[[], torch.Tensor]] = {
    "put_": lambda: torch.zeros(4).put_(torch.tensor([1, 1]), torch.tensor([2.0, 3.0])),
    "put_ of integers": lambda: torch.zeros(4, dtype=torch.int64).put_(torch.tensor([1, 1]), torch.tensor([2, 3])),
}


@pytest.mark.parametrize("name", REFUSED_UNDER_THE_FLAG)
def test_ops_that_torchs_flag_refuses_run_in_it(name: str) -> None:
    run = REFUSED_UNDER_THE_FLAG[name]
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="deterministic"):
            run()
        with deterministic():
            assert run().tolist() == [0, 3, 0, 0]
            x = table()
            x[INDEX].backward(GRADIENT)
        assert_same(x.grad, EXPECTED)
    finally:
        torch.use_deterministic_algorithms(False)


# -------------------------------------------------------------------------------------------------------------- reports
