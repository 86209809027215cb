"""The ops under all that sits between a call and a kernel: compilers, export, functorch, modes, autocast."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from op_cases import CASES, Case, Recorder
from torch.autograd import forward_ad
from torch.func import grad, jvp, vjp, vmap
from torch.overrides import TorchFunctionMode

import detprobe
from detprobe import ops

# torch's own parts import torch.jit.script, and that warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

# Arguments by position that are never differentiated: statistics, class weights, what a forward hands to its backward.
CONSTANT = {
    "batch_norm_inference": (1, 2),
    "batch_norm_backward": (2, 3),
    "layer_norm_backward": (2, 3),
    "cross_entropy": (2,),
    "cross_entropy_backward": (3, 4, 5, 6),
    "running_average": (0, 1),
}


def equal(a, b):
    return all(x is y is None or torch.equal(x, y) for x, y in zip(a, b, strict=True))


def squares(case):
    return lambda *args: case.ours(*args).square().sum()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_opcheck_passes_for_the_op_its_backward_and_the_gradient_of_that(case: Case):
    with Recorder() as record:
        inputs = case.inputs(grad=True)
        torch.autograd.grad(squares(case)(*inputs), inputs, create_graph=True)
    assert case.ops in record.names()
    for op, args in record.calls:
        constant = CONSTANT.get(op._opname, ())
        fresh = tuple(
            value.detach().clone().requires_grad_(value.is_floating_point() and at not in constant)
            if isinstance(value, torch.Tensor)
            else value
            for at, value in enumerate(args)
        )
        outcome = torch.library.opcheck(op, fresh)
        assert set(outcome.values()) == {"SUCCESS"}, (op, outcome)


@pytest.mark.parametrize("layout", ["transposed", "expanded", "holes", "channels_last"])
@pytest.mark.parametrize("name", ["sum", "cumsum", "softmax", "var", "layer_norm", "batch_norm_training", "logsumexp"])
def test_fakes_have_the_strides_of_the_kernels_on_every_layout(layout, name):
    x = torch.randn(2, 4, 3, 5)
    x = {
        "transposed": lambda: x.transpose(1, 3),
        "expanded": lambda: x[:, :1].expand(2, 4, 3, 5),
        "holes": lambda: x[..., ::2],
        "channels_last": lambda: x.to(memory_format=torch.channels_last),
    }[layout]()
    calls = {
        "sum": lambda x: torch.ops.detprobe.sum(x, [1], False, None),
        "cumsum": lambda x: torch.ops.detprobe.cumsum(x, 1, False, torch.float64),
        "softmax": lambda x: torch.ops.detprobe.softmax(x, 1, False, torch.float16),
        "var": lambda x: torch.ops.detprobe.var_backward(x[:, :1], x, [1], 1.0),
        "layer_norm": lambda x: torch.ops.detprobe.layer_norm(x, 2, None, None, 1e-5, True),
        "batch_norm_training": lambda x: torch.ops.detprobe.batch_norm_training(x, None, None, 1e-5),
        "logsumexp": lambda x: torch.ops.detprobe.logsumexp(x, [0, 2], True),
    }
    real, meta = calls[name](x), calls[name](x.to("meta") if layout != "expanded" else _meta_like(x))
    for a, b in zip(*((one if isinstance(one, tuple) else (one,)) for one in (real, meta)), strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


def _meta_like(x):
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_compiled_graph_gives_the_same_bits(case: Case):
    _compiled_is_eager(case, "aot_eager")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in ("sum", "dot", "layer_norm")], ids=str)
def test_inductor_gives_the_same_bits(case: Case):
    _compiled_is_eager(case, "inductor")


def _compiled_is_eager(case: Case, backend: str) -> None:
    torch._dynamo.reset()

    def step(*args):
        return case.ours(*args) * 1.5

    compiled = torch.compile(step, fullgraph=True, backend=backend)
    inputs = case.inputs(torch.float32, grad=True)
    eager, ours = step(*inputs), compiled(*inputs)
    assert torch.equal(eager, ours)
    gradients = [torch.autograd.grad(y.square().sum(), inputs) for y in (eager, ours)]
    assert equal(*gradients)
    with torch.no_grad():
        assert torch.equal(compiled(*inputs), eager)


def test_one_graph_serves_every_size():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: ops.softmax(ops.mean(x, 1) + ops.std(x, 1), 0), fullgraph=True, dynamic=True)
    for n in (3, 8, 17):
        x = torch.randn(n, 2 * n)
        assert torch.equal(compiled(x), ops.softmax(ops.mean(x, 1) + ops.std(x, 1), 0))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_export_keeps_the_op_and_the_bits(case: Case, strict):
    class Model(torch.nn.Module):
        def forward(self, *args):
            return case.ours(*args)

    inputs = tuple(case.inputs(torch.float32))
    exported = torch.export.export(Model(), inputs, strict=strict)
    assert f"detprobe.{case.ops}.default" in str(exported.graph)
    assert torch.equal(exported.module()(*inputs), case.ours(*inputs))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap_gives_the_bits_of_a_loop(case: Case):
    batch = [torch.stack([value, value * 1.5, value - 0.1], -1) for value in case.inputs()]
    for function in (case.ours, grad(squares(case), argnums=tuple(range(len(batch))))):
        together = vmap(function, in_dims=-1)(*batch)
        apart = [function(*(value[..., i] for value in batch)) for i in range(3)]
        if isinstance(together, torch.Tensor):
            together, apart = (together,), [(one,) for one in apart]
        for i, each in enumerate(apart):
            assert equal([value[i] for value in together], each)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_functorch_gives_the_gradients_of_autograd(case: Case):
    plain, leaves = case.inputs(), case.inputs(grad=True)
    every = tuple(range(len(plain)))
    assert equal(grad(squares(case), argnums=every)(*plain), torch.autograd.grad(squares(case)(*leaves), leaves))
    y, back = vjp(case.ours, *plain)
    assert equal(back(torch.ones_like(y)), torch.autograd.grad(case.ours(*leaves).sum(), leaves))
    again = grad(lambda *args: sum(one.sum() for one in grad(squares(case), argnums=every)(*args)))(*plain)
    assert again.shape == plain[0].shape


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_mode_is_refused_and_never_wrong(case: Case):
    inputs = case.inputs()
    with pytest.raises(NotImplementedError):
        jvp(case.ours, tuple(inputs), tuple(inputs))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(inputs[0], inputs[0])
        with pytest.raises(NotImplementedError, match="forward-mode"):
            case.ours(dual, *inputs[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast_widens_everything_but_batch_norm(case: Case, dtype):
    inputs = case.inputs(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = case.ours(*inputs)
    if case.ops.startswith("batch_norm"):
        assert y.dtype == dtype
        assert torch.equal(y, case.ours(*inputs))
    else:
        assert y.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert case.ours(*case.inputs(torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("case", [case for case in CASES if case.ops != "batch_norm_inference"], ids=str)
def test_meta_tensors_have_the_results_shape(case: Case):
    real = case.inputs(torch.float32)
    if "cross_entropy" in case.name and len(real) == 1:
        logits = real[0].to("meta")
        target = torch.zeros(logits.shape[:1] + logits.shape[2:] if logits.dim() > 1 else (), dtype=torch.int64)
        y = ops.cross_entropy(logits, target.to("meta"))
        assert (y.device.type, y.shape) == ("meta", ())
        return
    y, meta = case.ours(*real), case.ours(*(value.to("meta") for value in real)) if "prob" not in case.name else None
    if meta is not None:
        assert (meta.device.type, meta.shape, meta.dtype) == ("meta", y.shape, y.dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_dispatch_modes_and_function_modes_see_the_op(case: Case, grad):
    with Recorder() as record:
        case.ours(*case.inputs(grad=grad))
    assert case.ops in record.names()
    seen = []

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Functions():
        case.ours(*case.inputs(grad=grad))
    assert f"detprobe.{case.ops}.default" in seen


def test_a_scan_sees_the_ops():
    class Layer(torch.nn.Module):
        def forward(self, x):
            return ops.sum(x) + ops.mean(x) + ops.vector_norm(x) + ops.dot(x.flatten(), x.flatten())

    report = detprobe.scan(Layer(), torch.randn(8, 8))
    assert {"detprobe::sum", "detprobe::mean", "detprobe::vector_norm", "detprobe::dot"} <= {r.op for r in report.ops}
    assert report.ok


def test_a_tensor_subclass_with_a_torch_function_is_asked():
    seen = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return super().__torch_function__(func, types, args, kwargs)

    y = ops.sum(torch.ones(3).as_subclass(Watched))
    assert isinstance(y, Watched)
    assert "detprobe.sum.default" in seen


def test_short_calls_give_the_bits_of_the_dispatcher_and_parameters_count_as_tensors():
    x = torch.nn.Parameter(torch.randn(6, 7))
    for dim, keepdim in ((None, False), (1, True), ((0, -1), False), (-2, False), ([0], True), ((), False)):
        dims = ops._check.sorted_dims("sum", dim, 2)
        expected = torch.ops.detprobe.sum.default(x, dims, keepdim, None)
        assert torch.equal(ops.sum(x, dim, keepdim), expected)
        assert ops.sum(x, dim, keepdim).requires_grad
        with torch.no_grad():
            assert not ops.sum(x, dim, keepdim).requires_grad
        with torch.inference_mode():
            assert torch.equal(ops.sum(x, dim, keepdim), expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.cross_entropy, "input, target, weight, ignore_index, reduction, label_smoothing"),
        (ops.layer_norm, F.layer_norm),
        (ops.rms_norm, F.rms_norm),
        (ops.batch_norm, F.batch_norm),
    ],
    ids=["cross_entropy", "layer_norm", "rms_norm", "batch_norm"],
)
def test_signatures_are_those_of_torch(ours, theirs):
    names = theirs.split(", ") if isinstance(theirs, str) else list(inspect.signature(theirs).parameters)
    assert list(inspect.signature(ours).parameters) == names


def test_a_result_can_be_copied_and_saved():
    y = ops.softmax(torch.randn(3), 0)
    assert torch.equal(copy.deepcopy(y), y)
