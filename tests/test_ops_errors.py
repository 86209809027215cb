"""Bad arguments: the type of error that torch raises, from Python, in a sentence with the caller's own values."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from detprobe import ops
from detprobe.errors import DetprobeError, NotAvailableError, UnsupportedError
from detprobe.ops._native import HAS_CUDA

X = torch.linspace(-1, 1, 12).reshape(3, 4)
I = torch.arange(12).reshape(3, 4)  # noqa: E741
C = X.to(torch.complex64)
META = X.to("meta")
Y = torch.tensor([0, 1, 3])
W = torch.ones(4)
EMPTY = torch.empty(0, 3)
NORM = torch.linalg.vector_norm

# What is called: ours and torch's; arguments; what the text has to name. The type is what torch raises.
REDUCTIONS = [(ops.sum, torch.sum), (ops.mean, torch.mean), (ops.var, torch.var), (ops.std, torch.std)]
REDUCTIONS += [(ops.vector_norm, NORM)]
SAME = [
    *((*pair, (X,), {"dim": 5}, "5") for pair in REDUCTIONS),
    *((*pair, (X,), {"dim": (0, -2)}, "(0, -2)") for pair in REDUCTIONS),
    *((*pair, (X,), {"dim": 1.0}, "1.0") for pair in REDUCTIONS),
    *((*pair, (X,), {"dim": "a"}, "'a'") for pair in REDUCTIONS),
    *((*pair, (torch.tensor(1.0),), {"dim": 1}, "1") for pair in REDUCTIONS),
    *((*pair, ("text",), {}, "str") for pair in REDUCTIONS),
    *((*pair, (X,), {"dim": 0, "keepdim": "yes"}, "'yes'") for pair in REDUCTIONS),
    *((*pair, (I,), {}, "int64") for pair in REDUCTIONS[1:]),
    *((*pair, (I > 3,), {}, "bool") for pair in REDUCTIONS[1:]),
    *((*pair, (X.to_sparse(),), {}, "sparse") for pair in REDUCTIONS[1:]),
    *((*pair, (X.to(torch.float8_e5m2),), {}, "float8_e5m2") for pair in REDUCTIONS),
    (ops.sum, torch.sum, (X,), {"dtype": "a"}, "'a'"),
    (ops.mean, torch.mean, (X,), {"dtype": torch.int64}, "int64"),
    (ops.var, torch.var, (X,), {"correction": "a"}, "'a'"),
    (ops.var, torch.var, (X, 0), {"unbiased": True, "correction": 1}, "both"),
    (ops.vector_norm, NORM, (X.double(),), {"dtype": torch.float32}, "float32"),
    (ops.vector_norm, NORM, (X.half(),), {"dtype": torch.bfloat16}, "bfloat16"),
    (ops.vector_norm, NORM, (X,), {"dtype": torch.int64}, "int64"),
    (ops.vector_norm, NORM, (X, "fro"), {}, "'fro'"),
    (ops.vector_norm, NORM, (X, 1j), {}, "1j"),
    (ops.vector_norm, NORM, (X, None), {}, "None"),
    (ops.vector_norm, NORM, (EMPTY, math.inf), {}, "(0, 3)"),
    (ops.vector_norm, NORM, (EMPTY, -math.inf, 0), {}, "(0, 3)"),
    (ops.dot, torch.dot, (X, X), {}, "(3, 4)"),
    (ops.dot, torch.dot, (X[0], X[0, :2]), {}, "(2,)"),
    (ops.dot, torch.dot, (X[0], X[0].double()), {}, "float64"),
    (ops.dot, torch.dot, (X[0], META[0]), {}, "meta"),
    (ops.dot, torch.dot, (X[0], 1.0), {}, "float"),
    (ops.dot, torch.dot, (X[0] > 0, X[0] > 0), {}, "bool"),
    (ops.dot, torch.dot, (X[0].to_sparse(), X[0]), {}, "sparse"),
    (ops.logsumexp, torch.logsumexp, (X, 5), {}, "5"),
    (ops.logsumexp, torch.logsumexp, (X, (0, 0)), {}, "(0, 0)"),
    (ops.logsumexp, torch.logsumexp, (X, None), {}, "None"),
    (ops.logsumexp, torch.logsumexp, (X.to_sparse(), 0), {}, "sparse"),
    *(
        entry
        for ours, theirs in ((ops.softmax, F.softmax), (ops.log_softmax, F.log_softmax))
        for entry in (
            (ours, theirs, (X, 5), {}, "5"),
            (ours, theirs, (X, (0, 1)), {}, "(0, 1)"),
            (ours, theirs, (I, 0), {}, "int64"),
            (ours, theirs, (C, 0), {}, "complex64"),
            (ours, theirs, (X, 0), {"dtype": torch.int64}, "int64"),
            (ours, theirs, (X.to_sparse(), 0), {}, "sparse"),
        )
    ),
    (ops.cumsum, torch.cumsum, (X, 5), {}, "5"),
    (ops.cumsum, torch.cumsum, (X, (0,)), {}, "(0,)"),
    (ops.cumsum, torch.cumsum, (X, 0), {"dtype": torch.bool}, "bool"),
    (ops.cumsum, torch.cumsum, (X.to_sparse(), 0), {}, "sparse"),
    (ops.layer_norm, F.layer_norm, (X, (5,)), {}, "(5,)"),
    (ops.layer_norm, F.layer_norm, (X, ()), {}, "()"),
    (ops.layer_norm, F.layer_norm, (X, 4), {}, "4"),
    (ops.layer_norm, F.layer_norm, (X, (2, 3, 4)), {}, "(2, 3, 4)"),
    (ops.layer_norm, F.layer_norm, (X, (4,), W[:3]), {}, "(3,)"),
    (ops.layer_norm, F.layer_norm, (X, (4,), W, W[:3]), {}, "(3,)"),
    (ops.layer_norm, F.layer_norm, (X, (4,), W.double()), {}, "float64"),
    (ops.layer_norm, F.layer_norm, (X.bfloat16(), (4,), W, W.bfloat16()), {}, "bfloat16"),
    (ops.layer_norm, F.layer_norm, (X, (4,), W.to("meta")), {}, "meta"),
    (ops.layer_norm, F.layer_norm, (X, (4,), "a"), {}, "str"),
    (ops.layer_norm, F.layer_norm, (X, (4,)), {"eps": "a"}, "'a'"),
    (ops.layer_norm, F.layer_norm, (I, (4,)), {}, "int64"),
    (ops.layer_norm, F.layer_norm, (C, (4,)), {}, "complex64"),
    (ops.rms_norm, F.rms_norm, (X, (5,)), {}, "(5,)"),
    (ops.rms_norm, F.rms_norm, (X, (4,), W[:3]), {}, "(3,)"),
    (ops.rms_norm, F.rms_norm, (I, (4,)), {}, "int64"),
    (ops.rms_norm, F.rms_norm, (X, (4,), W.to("meta")), {}, "meta"),
    (ops.batch_norm, F.batch_norm, (X[:1], W, W), {"training": True}, "(1, 4)"),
    (ops.batch_norm, F.batch_norm, (X, None, None), {}, "None"),
    (ops.batch_norm, F.batch_norm, (X, W, None), {"training": True}, "one of them"),
    (ops.batch_norm, F.batch_norm, (X, W[:2], W), {}, "(2,)"),
    (ops.batch_norm, F.batch_norm, (X, W, W, W[:2]), {}, "(2,)"),
    (ops.batch_norm, F.batch_norm, (X, W, W), {"eps": -1.0}, "-1.0"),
    (ops.batch_norm, F.batch_norm, (X, W.double(), W.double()), {}, "float64"),
    (ops.batch_norm, F.batch_norm, (X[0], W, W), {}, "(4,)"),
    (ops.batch_norm, F.batch_norm, (I, W, W), {}, "int64"),
    (ops.batch_norm, F.batch_norm, (X, W.to("meta"), W.to("meta")), {}, "meta"),
    (ops.batch_norm, F.batch_norm, (X, W.clone().requires_grad_(), W), {"training": True}, "requires grad"),
    (ops.cross_entropy, F.cross_entropy, (X, torch.tensor([0, 1, 4])), {}, "got 4"),
    (ops.cross_entropy, F.cross_entropy, (X, torch.tensor([0, 1, -1])), {}, "got -1"),
    (ops.cross_entropy, F.cross_entropy, (X, torch.tensor([0, 1, 9])), {"label_smoothing": 0.1}, "4 classes"),
    (ops.cross_entropy, F.cross_entropy, (X, Y[:2]), {}, "(2,)"),
    (ops.cross_entropy, F.cross_entropy, (X, Y), {"reduction": "a"}, "'a'"),
    (ops.cross_entropy, F.cross_entropy, (X, Y), {"label_smoothing": 1.5}, "1.5"),
    (ops.cross_entropy, F.cross_entropy, (X, Y), {"ignore_index": 1.0}, "1.0"),
    (ops.cross_entropy, F.cross_entropy, (X, Y, W[:3]), {}, "(3,)"),
    (ops.cross_entropy, F.cross_entropy, (X, Y, W.double()), {}, "float64"),
    (ops.cross_entropy, F.cross_entropy, (X, Y, W.clone().requires_grad_()), {}, "requires grad"),
    (ops.cross_entropy, F.cross_entropy, (X, Y.int()), {}, "int32"),
    (ops.cross_entropy, F.cross_entropy, (X, Y.float()), {}, "float32"),
    (ops.cross_entropy, F.cross_entropy, (I, Y), {}, "int64"),
    (ops.cross_entropy, F.cross_entropy, (C, Y), {}, "complex64"),
    (ops.cross_entropy, F.cross_entropy, (torch.tensor(1.0), Y), {}, "0 dimensions"),
    (ops.cross_entropy, F.cross_entropy, (X[0], Y), {}, "(3,)"),
    (ops.cross_entropy, F.cross_entropy, (X, I), {}, "int64"),
    (ops.cross_entropy, F.cross_entropy, (X, X.softmax(1)), {"ignore_index": 1}, "1"),
    (ops.cross_entropy, F.cross_entropy, (X, torch.randn(3, 5)), {}, "(3, 5)"),
    (ops.cross_entropy, F.cross_entropy, (torch.randn(2, 4, 3), torch.zeros(2, 2).long()), {}, "(2, 2)"),
    (ops.cross_entropy, F.cross_entropy, (X, Y.to("meta")), {}, "meta"),
    (ops.cross_entropy, F.cross_entropy, (X, "a"), {}, "str"),
]
KINDS = (NotImplementedError, TypeError, ValueError, IndexError, RuntimeError)


def kind(error):
    """The built-in type that an error is caught by."""
    return next(one for one in KINDS if isinstance(error, one))


def name(ours, args, kwargs):
    shown = [tuple(a.shape) if isinstance(a, torch.Tensor) else a for a in args]
    return f"{ours.__name__}-{shown}-{kwargs}".replace(" ", "")


@pytest.mark.parametrize(
    ("ours", "theirs", "args", "kwargs", "named"), SAME, ids=[name(ours, args, kw) for ours, _, args, kw, _ in SAME]
)
def test_a_mistake_raises_what_torch_raises_and_the_text_names_the_value(ours, theirs, args, kwargs, named):
    with pytest.raises(KINDS) as stock:
        theirs(*args, **kwargs)
    with pytest.raises(DetprobeError) as caught:
        ours(*args, **kwargs)
    assert kind(caught.value) is kind(stock.value)
    assert named in str(caught.value)
    assert str(caught.value).startswith(ours.__name__)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("op", [ops.sum, ops.exact_sum, ops.mean, ops.var, ops.std, ops.vector_norm])
def test_complex_and_nested_inputs_are_refused_where_torch_takes_them(op):
    nested = torch.nested.nested_tensor([X[0], X[1]], layout=torch.jagged)
    for x, named in ((C, "complex64"), (nested, "nested")):
        with pytest.raises(UnsupportedError, match=named):
            op(x)


def test_an_order_of_the_norm_that_is_not_written_is_refused_with_a_sentence():
    with pytest.raises(UnsupportedError, match=r"ord: expected 0, 1, 2, inf or -inf, got 3: .*torch\.linalg"):
        ops.vector_norm(X, 3)


def test_a_dtype_that_torch_sums_in_and_we_do_not_is_refused():
    for dtype in (torch.bool, torch.complex64):
        with pytest.raises(UnsupportedError, match=str(dtype).removeprefix("torch.")):
            ops.sum(X, dtype=dtype)


def test_the_full_text_says_what_was_expected_what_came_and_what_to_do():
    with pytest.raises(IndexError) as caught:
        ops.sum(X, dim=5)
    assert str(caught.value) == "sum: dim: expected -2 to 1 for a tensor of 2 dimensions, got 5"
    with pytest.raises(IndexError) as caught:
        ops.cross_entropy(X, torch.tensor([0, 1, 4]))
    assert str(caught.value) == (
        "cross_entropy: target: expected classes 0 to 3, or ignore_index -100, got 4: input (3, 4) has 4 classes"
    )
    with pytest.raises(NotImplementedError) as caught:
        ops.softmax(I, 0)
    assert str(caught.value) == (
        "softmax: input: expected float16, bfloat16, float32, float64, got int64: convert it first"
    )


@pytest.mark.skipif(HAS_CUDA, reason="this build has CUDA kernels")
def test_a_cuda_tensor_is_refused_with_a_sentence_where_the_build_has_no_cuda():
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(3, device="cuda")
        for op in (ops.sum, ops.mean, ops.exact_sum, ops.vector_norm):
            with pytest.raises(NotAvailableError, match="no CUDA kernels"):
                op(x)
