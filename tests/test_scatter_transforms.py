"""The scatter family under all that sits between a call and a kernel: compilers, export, functorch, modes, autocast."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from op_cases import Case, Recorder
from scatter_calls import INDEX, SCATTER_CASES, SIZE, rows
from torch.autograd import forward_ad
from torch.func import grad, jvp, vjp, vmap

from detprobe import ops

# torch's own parts import torch.jit.script, and that warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

EVERY = pytest.mark.parametrize("case", SCATTER_CASES, ids=str)
FIXED = [case for case in SCATTER_CASES if "plan" not in case.name]
NO_PLAN = pytest.mark.parametrize("case", FIXED, ids=str)  # a plan is made outside of graphs
OPAQUE = pytest.mark.parametrize("case", [case for case in FIXED if "mask" not in case.name], ids=str)


def equal(a, b):
    return all(x is y is None or torch.equal(x, y) for x, y in zip(a, b, strict=True))


def squares(case):
    return lambda *args: case.ours(*args).square().sum()


@EVERY
def test_opcheck_passes_for_the_op_its_backward_and_the_gradient_of_that(case: Case):
    with Recorder() as record:
        inputs = case.inputs(grad=True)
        torch.autograd.grad(squares(case)(*inputs), inputs, create_graph=True)
    assert case.ops in record.names()
    seen = set()
    for op, args in record.calls:
        fresh = tuple(
            value.detach().clone().requires_grad_(value.is_floating_point())
            if isinstance(value, torch.Tensor)
            else value
            for value in args
        )
        known = (op._opname, *(getattr(value, "dtype", value) for value in args if not isinstance(value, list)))
        if known in seen:
            continue
        seen.add(known)
        outcome = torch.library.opcheck(op, fresh)
        assert set(outcome.values()) == {"SUCCESS"}, (op, outcome)


def test_opcheck_passes_for_what_has_no_gradient():
    x, i, w = torch.randn(12), torch.tensor([3, 0, 3, 1]), torch.rand(4)
    detprobe = torch.ops.detprobe
    calls = [
        (detprobe.bincount.default, (i, None, 2)),
        (detprobe.bincount.default, (i, w, 9)),
        (detprobe.histc.default, (x, 5, 0, 0)),
        (detprobe.histc.default, (x.clone().requires_grad_(), 5, -1.0, 1.0)),
        (detprobe.histogram_edges.default, (x.bfloat16(), 5, None)),
        (detprobe.histogram.default, (x, torch.linspace(-1, 1, 4), None, True)),
        (detprobe.histogram.default, (x, torch.linspace(-1, 1, 4), x.abs(), False)),
        (detprobe.index_plan.default, (i, 5)),
    ]
    for op, args in calls:
        outcome = torch.library.opcheck(op, args)
        assert set(outcome.values()) == {"SUCCESS"}, (op, outcome)


@pytest.mark.parametrize("layout", ["transposed", "expanded", "holes", "channels_last"])
def test_fakes_have_the_strides_of_the_kernels_on_every_layout(layout):
    x = torch.randn(2, 4, 3, 5)
    x = {
        "transposed": lambda: x.transpose(1, 3),
        "expanded": lambda: x[:, :1].expand(2, 4, 3, 5),
        "holes": lambda: x[..., ::2],
        "channels_last": lambda: x.to(memory_format=torch.channels_last),
    }[layout]()
    meta = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    index, n = torch.tensor([1, 1, 0]), x.shape[1]

    def every(x, index):
        detprobe = torch.ops.detprobe
        source = x.new_ones(x.shape[0], 3, *x.shape[2:])
        places = torch.ones_like(source, dtype=torch.int64)
        return [
            detprobe.index_add(x, 1, index, source, 1, []),
            detprobe.index_copy(x, 1, index, source),
            detprobe.index_select(x, 1, index, []),
            detprobe.scatter_reduce(x, 1, places, source, "amax", True, []),
            detprobe.scatter(x, 1, places, source),
            detprobe.gather(x, 1, places, []),
            detprobe.index_put(x, [None, index], source, True),
            detprobe.put(x, index, source.flatten()[:3], True),
            detprobe.take(x, index),
            detprobe.index(x, [None, index]),
            detprobe.index(x, [index, None, index]),
            detprobe.segment_reduce(x, index.cumsum(0), "sum", 0.0),
        ]

    assert n > 1
    for a, b in zip(every(x, index), every(meta, index.to("meta")), strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


def compiled_is_eager(step, inputs, backend="aot_eager"):
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    eager, ours = step(*inputs), compiled(*inputs)
    assert torch.equal(eager, ours)
    leaves = [value for value in inputs if isinstance(value, torch.Tensor) and value.requires_grad]
    gradients = [torch.autograd.grad(y.square().sum(), leaves) for y in (eager, ours)]
    assert equal(*gradients)
    with torch.no_grad():
        assert torch.equal(compiled(*inputs), eager)


@OPAQUE
def test_a_compiled_graph_gives_the_same_bits(case: Case):
    compiled_is_eager(lambda *args: case.ours(*args) * 1.5, case.inputs(torch.float32, grad=True))


@pytest.mark.parametrize("name", ["index_add", "scatter_reduce, mean", "segment_mean", "embedding"])
def test_inductor_gives_the_same_bits(name):
    case = next(case for case in SCATTER_CASES if case.name == name)
    compiled_is_eager(lambda *args: case.ours(*args) * 1.5, case.inputs(torch.float32, grad=True), "inductor")


def test_a_plan_is_an_argument_of_a_compiled_function():
    x, source = torch.randn(SIZE, 3, requires_grad=True), torch.randn(len(INDEX), 3, requires_grad=True)

    def step(x, source, plan):
        y = ops.index_add(x, 0, plan, source) * 1.5
        return y + ops.scatter_reduce(x, 0, plan, source, "amax") + ops.index_select(source, 0, plan)[:SIZE]

    plan = ops.index_plan(INDEX, SIZE)
    both = ops.index_plan(INDEX, len(INDEX))

    def two(x, source, plan, both):
        return ops.index_add(x, 0, plan, source) + ops.index_select(source, 0, both)[:SIZE]

    compiled_is_eager(two, (x, source, plan, both))
    compiled_is_eager(lambda x, source: ops.index_add(x, 0, ops.index_plan(INDEX, SIZE), source), (x, source))


def test_one_graph_serves_every_size():
    torch._dynamo.reset()

    def step(x, index, source):
        y = ops.index_add(x, 0, index, source)
        return ops.segment_sum(ops.index_select(y, 0, index), offsets=torch.tensor([0, 1, 3]))

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (3, 8, 17):
        x, source, index = torch.randn(n, 4), torch.randn(2 * n, 4), torch.randint(n, (2 * n,))
        assert torch.equal(compiled(x, index, source), step(x, index, source))


@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_sizes_that_data_decide_are_part_of_a_graph():
    torch._dynamo.reset()
    compiled = torch.compile(lambda i, w: ops.bincount(i, w) * 2, fullgraph=True, backend="aot_eager")
    for n in (4, 9):
        i, w = torch.randint(n, (20,)), torch.rand(20)
        assert torch.equal(compiled(i, w), ops.bincount(i, w) * 2)
    masked = torch.compile(lambda x: ops.index(x, (x[:, 0] > 0,)) * 2, fullgraph=True, backend="aot_eager")
    x = torch.randn(9, 3)
    assert torch.equal(masked(x), x[x[:, 0] > 0] * 2)


@pytest.mark.parametrize("strict", [True, False])
@OPAQUE
def test_export_keeps_the_op_and_the_bits(case: Case, strict):
    class Model(torch.nn.Module):
        def forward(self, *args):
            return case.ours(*args)

    inputs = tuple(case.inputs(torch.float32))
    exported = torch.export.export(Model(), inputs, strict=strict)
    assert f"detprobe.{case.ops}.default" in str(exported.graph)
    assert torch.equal(exported.module()(*inputs), case.ours(*inputs))


@EVERY
def test_vmap_gives_the_bits_of_a_loop(case: Case):
    batch = [torch.stack([value, value * 1.5, value - 0.1], -1) for value in case.inputs()]
    for function in (case.ours, grad(squares(case), argnums=tuple(range(len(batch))))):
        together = vmap(function, in_dims=-1)(*batch)
        apart = [function(*(value[..., i] for value in batch)) for i in range(3)]
        if isinstance(together, torch.Tensor):
            together, apart = (together,), [(one,) for one in apart]
        for i, each in enumerate(apart):
            assert equal([value[i] for value in together], each)


def test_vmap_takes_an_index_of_its_own_for_every_sample():
    x, source = torch.randn(3, SIZE, 2), torch.randn(3, 4, 2)
    index = torch.randint(SIZE, (3, 4))
    bags, places = torch.tensor([0, 1]), index.unsqueeze(-1).expand(3, 4, 2)
    calls = [
        (lambda x, i, s: ops.index_add(x, 0, i, s), (x, index, source)),
        (lambda x, i, s: ops.index_copy(x, 0, i, s), (x, index, source)),
        (lambda x, i, s: ops.index_put(x, (i,), s, True), (x, index, source)),
        (lambda x, i, s: ops.put(x, i, s[:, 0]), (x, index, source)),
        (lambda x, i: ops.index_select(x, 0, i), (x, index)),
        (lambda x, i: ops.index(x, (i,)), (x, index)),
        (lambda x, i: ops.take(x, i), (x, index)),
        (lambda x, i, s: ops.scatter_add(x, 0, i, s), (x, places, source)),
        (lambda x, i, s: ops.scatter(x, 0, i, s), (x, places, source)),
        (lambda x, i: ops.gather(x, 0, i), (x, places)),
        (lambda x, i: ops.embedding(i, x), (x, index)),
        (lambda x, i: ops.embedding_bag(i, x, bags), (x, index)),
        (lambda x, o: ops.segment_sum(x, offsets=o), (x, index.sort(1).values)),
    ]
    for function, batch in calls:
        together = vmap(function)(*batch)
        assert equal(together, [function(*(value[k] for value in batch)) for k in range(3)])
    one = vmap(lambda i: ops.embedding(i, x[0]))(index)
    assert torch.equal(one, ops.embedding(index, x[0]))
    one = vmap(lambda i: ops.index_add(x[0], 0, i, source[0]))(index)
    assert equal(one, [ops.index_add(x[0], 0, i, source[0]) for i in index])


@EVERY
def test_functorch_gives_the_gradients_of_autograd(case: Case):
    plain, leaves = case.inputs(), case.inputs(grad=True)
    every = tuple(range(len(plain)))
    assert equal(grad(squares(case), argnums=every)(*plain), torch.autograd.grad(squares(case)(*leaves), leaves))
    y, back = vjp(case.ours, *plain)
    assert equal(back(torch.ones_like(y)), torch.autograd.grad(case.ours(*leaves).sum(), leaves))
    again = grad(lambda *args: sum(one.sum() for one in grad(squares(case), argnums=every)(*args)))(*plain)
    assert again.shape == plain[0].shape


@EVERY
def test_forward_mode_is_refused_and_never_wrong(case: Case):
    inputs = case.inputs()
    with pytest.raises(NotImplementedError):
        jvp(case.ours, tuple(inputs), tuple(inputs))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(inputs[0], inputs[0])
        with pytest.raises(NotImplementedError, match="forward-mode"):
            case.ours(dual, *inputs[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@EVERY
def test_autocast_leaves_the_dtype_alone(case: Case, dtype):
    inputs = case.inputs(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(case.ours(*inputs), case.ours(*inputs))
        assert case.ours(*inputs).dtype == dtype


def test_under_autocast_two_floats_become_the_wider_one():
    x, s, i = torch.zeros(SIZE, 2), torch.randn(len(INDEX), 2, dtype=torch.bfloat16), INDEX
    calls = [
        lambda x, s: ops.index_add(x, 0, i, s),
        lambda x, s: ops.scatter_add(x, 0, rows(s), s),
        lambda x, s: ops.index_put(x, (i,), s, True),
        lambda x, s: ops.index_copy(x, 0, i, s),
        lambda x, s: ops.put(x, i, s[:, 0]),
    ]
    for call in calls:
        for a, b in ((x, s), (x.bfloat16(), s.float())):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert torch.equal(call(a, b), call(a.float(), b.float()))
            with pytest.raises(RuntimeError, match="expected the dtype of input"):
                call(a, b)


@EVERY
@pytest.mark.parametrize("grad", [False, True])
def test_dispatch_modes_see_the_op(case: Case, grad):
    with Recorder() as record:
        case.ours(*case.inputs(grad=grad))
    assert case.ops in record.names()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.embedding, F.embedding),
        (ops.embedding_bag, "input weight offsets max_norm norm_type scale_grad_by_freq mode sparse per_sample_weights"
         " include_last_offset padding_idx"),
        (ops.index_add, "input dim index source alpha"),
        (ops.index_copy, "input dim index source"),
        (ops.index_select, "input dim index"),
        (ops.index_put, "input indices values accumulate"),
        (ops.put, "input index source accumulate"),
        (ops.take, "input index"),
        (ops.scatter, "input dim index src"),
        (ops.scatter_add, "input dim index src"),
        (ops.scatter_reduce, "input dim index src reduce include_self"),
        (ops.gather, "input dim index sparse_grad"),
        (ops.bincount, "input weights minlength"),
        (ops.histc, "input bins min max"),
        (ops.histogram, "input bins range weight density"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_signatures_are_those_of_torch(ours, theirs):
    names = theirs.split() if isinstance(theirs, str) else list(inspect.signature(theirs).parameters)
    found = inspect.signature(ours).parameters
    assert [name for name in found if name != "validate"] == names
    if "validate" in found:
        assert found["validate"].kind is inspect.Parameter.KEYWORD_ONLY


def test_meta_tensors_have_the_results_shape():
    x, source = torch.randn(SIZE, 3, device="meta"), torch.randn(len(INDEX), 3, device="meta")
    index = INDEX.to("meta")
    assert ops.index_add(x, 0, index, source).shape == (SIZE, 3)
    assert ops.index_select(x, 0, index).shape == (len(INDEX), 3)
    assert ops.embedding(index, x).shape == (len(INDEX), 3)
    assert ops.segment_sum(source, lengths=index).shape == (len(INDEX), 3)
    assert ops.index_plan(index, SIZE).order.shape == (len(INDEX),)
    with pytest.raises(NotImplementedError, match="bincount: input: expected a tensor with data"):
        ops.bincount(index)


def test_a_result_can_be_copied_and_a_plan_too():
    y = ops.index_add(torch.zeros(SIZE), 0, INDEX, torch.ones(len(INDEX)))
    assert torch.equal(copy.deepcopy(y), y)
    plan = copy.deepcopy(ops.index_plan(INDEX, SIZE))
    assert torch.equal(ops.index_add(torch.zeros(SIZE), 0, plan, torch.ones(len(INDEX))), y)
