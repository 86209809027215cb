"""Bad arguments of the scatter family: the type that torch raises, from Python, in a sentence with the caller's values.

Where torch raises RuntimeError for an index out of range, the type here is IndexError.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_ops_errors import KINDS, kind, name
from torch._subclasses.fake_tensor import FakeTensorMode

from detprobe import ops
from detprobe.errors import ArgumentIndexError, ArgumentValueError, DetprobeError, NotAvailableError, UnsupportedError
from detprobe.ops._native import HAS_CUDA

X = torch.linspace(-1, 1, 15).reshape(5, 3)
S = torch.linspace(0, 1, 12).reshape(4, 3)
WHOLE = torch.arange(15).reshape(5, 3)
I = torch.tensor([0, 1, 1, 4])  # noqa: E741
P = I.unsqueeze(1).expand(4, 3)
V = S[:, 0]
O = torch.tensor([0, 2])  # noqa: E741
INF = float("inf")


def index_put(input, indices, values, accumulate=False):
    return torch.index_put(input, indices, values, accumulate=accumulate)


def brackets(input, indices):
    return torch.ops.aten.index.Tensor(input, indices)


# What is called: ours and torch's; arguments; what the text has to name. The type is what torch raises.
ADD = (ops.index_add, torch.index_add)
COPY = (ops.index_copy, torch.index_copy)
SELECT = (ops.index_select, torch.index_select)
SCATTERS = [(ops.scatter_add, torch.scatter_add), (ops.scatter, torch.scatter)]
GATHER = (ops.gather, torch.gather)
REDUCE = (ops.scatter_reduce, torch.scatter_reduce)
PUT = (ops.put, torch.put)
TAKE = (ops.take, torch.take)
INDEX_PUT = (ops.index_put, index_put)
EMBEDDING = (ops.embedding, F.embedding)
BAG = (ops.embedding_bag, F.embedding_bag)
COUNT = (ops.bincount, torch.bincount)
HISTC = (ops.histc, torch.histc)
HISTOGRAM = (ops.histogram, torch.histogram)
SAME = [
    *(
        entry
        for pair in (ADD, COPY)
        for entry in (
            (*pair, (X, 2, I, S), {}, "got 2"),
            (*pair, (X, 1.0, I, S), {}, "1.0"),
            (*pair, (X, 0, P, S), {}, "(4, 3)"),
            (*pair, (X, 0, I[:3], S), {}, "size 3 along dim 0"),
            (*pair, (X, 0, I, V), {}, "(4,)"),
            (*pair, (X, 0, I, S[:, :2]), {}, "(4, 2)"),
            (*pair, (X, 0, I, S.double()), {}, "float64"),
            (*pair, (X, 0, I.short(), S), {}, "int16"),
            (*pair, (X, 0, I.float(), S), {}, "float32"),
            (*pair, (X, 0, I.to("meta"), S), {}, "meta"),
            (*pair, (X, 0, [0, 1], S), {}, "list"),
            (*pair, (X.to_sparse(), 0, I, S), {}, "sparse"),
        )
    ),
    (*COPY, (X, 0, I.int(), S), {}, "int32"),
    (*COPY, (X, 0, I + 3, S), {}, "got 7 at position 3"),
    (*ADD, (X, 0, I, S), {"alpha": "a"}, "'a'"),
    (*ADD, (X, 0, I, S), {"alpha": 1j}, "1j"),
    (*SELECT, (X, 3, I), {}, "got 3"),
    (*SELECT, (X, 0, P), {}, "(4, 3)"),
    (*SELECT, (X, 0, I + 3), {}, "got 7 at position 3"),
    (*SELECT, (X, 0, I.bool()), {}, "bool"),
    *(
        entry
        for pair in SCATTERS
        for entry in (
            (*pair, (X, 5, P, S), {}, "got 5"),
            (*pair, (X, 0, I, S), {}, "(4,)"),
            (*pair, (X, 0, P, S[:2]), {}, "(2, 3)"),
            (*pair, (X[:, :2], 0, P, S), {}, "(5, 2)"),
            (*pair, (X, 0, P, S.double()), {}, "float64"),
            (*pair, (X, 0, P.short(), S), {}, "int16"),
        )
    ),
    (*REDUCE, (X, 0, P, S, 1), {}, "got 1"),
    (*REDUCE, (X, 0, P, S, "median"), {}, "'median'"),
    (*REDUCE, (X, 0, P, S, "sum"), {"include_self": "yes"}, "'yes'"),
    (*REDUCE, (X > 0, 0, P, S > 0, "mean"), {}, "bool"),
    (*GATHER, (X, 0, I), {}, "(4,)"),
    (*GATHER, (X, 0, torch.zeros(4, 5).long()), {}, "(4, 5)"),
    (*GATHER, (X, 0, P.short()), {}, "int16"),
    (*TAKE, (X, I + 33), {}, "got 33 at position 0"),
    (*TAKE, (X, I.int()), {}, "int32"),
    (*PUT, (X, I + 33, V), {}, "got 33 at position 0"),
    (*PUT, (X, I, S), {}, "12"),
    (*PUT, (X, I, V.double()), {}, "float64"),
    (*PUT, (X, I.int(), V), {}, "int32"),
    (*PUT, (X, I, V, "yes"), {}, "'yes'"),
    (*INDEX_PUT, (X, (I,), S.double()), {}, "float64"),
    (*INDEX_PUT, (X, (I,), S[:, :2]), {}, "(4, 2)"),
    (*INDEX_PUT, (X, (I + 9,), S), {}, "got 9 at position 0"),
    (*INDEX_PUT, (X, I, S), {}, "Tensor"),
    (*INDEX_PUT, (X, (), S), {}, "()"),
    (*INDEX_PUT, (X, (I, I, I), S), {}, "got 3"),
    (*INDEX_PUT, (X, (I.short(),), S), {}, "int16"),
    (*INDEX_PUT, (X, (I > 0,), S), {}, "(4,)"),
    (*INDEX_PUT, (X, (I,), S), {"accumulate": "yes"}, "'yes'"),
    (ops.index, brackets, (X, (I - 9,)), {}, "got -9 at position 0"),
    (ops.index, brackets, (X, (I, I, I)), {}, "got 3"),
    (ops.index, brackets, (X, (I.float(),)), {}, "float32"),
    (*EMBEDDING, (I + 3, X), {}, "got 7 at position 3"),
    (*EMBEDDING, (I, V), {}, "(4,)"),
    (*EMBEDDING, (I.short(), X), {}, "int16"),
    (*EMBEDDING, (3, X), {}, "int"),
    (*BAG, (I, X, O), {"padding_idx": 7}, "got 7"),
    (*BAG, (P, X, O), {}, "offsets: expected None"),
    (*BAG, (I, X), {}, "got None"),
    (*BAG, (P[None], X), {}, "(1, 4, 3)"),
    (*BAG, (I, X, O + 1), {}, "got 1 at position 0"),
    (*BAG, (I, X, torch.tensor([0, 7])), {}, "got 7 at position 1"),
    (*BAG, (I, X, O), {"mode": "min"}, "'min'"),
    (*BAG, (I, X, O), {"per_sample_weights": V}, "'mean'"),
    (*BAG, (I, X, O), {"mode": "sum", "per_sample_weights": S}, "(4, 3)"),
    (*BAG, (I, X, O), {"mode": "sum", "per_sample_weights": V.double()}, "float64"),
    (*BAG, (I, X, O), {"mode": "max", "scale_grad_by_freq": True}, "'max'"),
    (*BAG, (I, X, O.float()), {}, "float32"),
    (*BAG, (I, X, O[None]), {}, "(1, 2)"),
    (*BAG, (I, X, O[:0]), {"include_last_offset": True}, "(0,)"),
    (*BAG, (I, V, O), {}, "(4,)"),
    (*COUNT, (P,), {}, "(4, 3)"),
    (*COUNT, (I - 2,), {}, "got -2"),
    (*COUNT, (I, S), {}, "(4, 3)"),
    (*COUNT, (I,), {"minlength": -1}, "-1"),
    (*COUNT, (I,), {"minlength": 1.5}, "1.5"),
    (*COUNT, (I > 0,), {}, "bool"),
    (*COUNT, (V,), {}, "float32"),
    (*HISTC, (X, 0), {}, "got 0"),
    (*HISTC, (X, 3.5), {}, "3.5"),
    (*HISTC, (X, 3, 2, 1), {}, "got 2 and 1"),
    (*HISTC, (X, 3, 0, INF), {}, "inf"),
    (*HISTC, (X, 3, "a"), {}, "'a'"),
    (*HISTC, (WHOLE,), {}, "int64"),
    (*HISTC, (X * INF,), {}, "inf"),
    (*HISTOGRAM, (X, 0), {}, "got 0"),
    (*HISTOGRAM, (X, [3]), {}, "[3]"),
    (*HISTOGRAM, (X, 3), {"range": (2.0, 1.0)}, "got 2.0 and 1.0"),
    (*HISTOGRAM, (X, 3), {"range": (2.0,)}, "(2.0,)"),
    (*HISTOGRAM, (X, 3), {"range": (2.0, INF)}, "inf"),
    (*HISTOGRAM, (X, 3), {"weight": S}, "(4, 3)"),
    (*HISTOGRAM, (X, 3), {"weight": X.double()}, "float64"),
    (*HISTOGRAM, (X, V.double()), {}, "float64"),
    (*HISTOGRAM, (X, S), {}, "(4, 3)"),
    (*HISTOGRAM, (X, V[:1]), {}, "(1,)"),
    (*HISTOGRAM, (X, V), {"range": (0.0, 1.0)}, "(0.0, 1.0)"),
    (*HISTOGRAM, (WHOLE, 3), {}, "int64"),
]


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
    assert str(caught.value).startswith(f"{ours.__name__}: ")
    assert caught.value.__cause__ is None


CALLS = {
    "index_add": lambda i: ops.index_add(X, 0, i, S),
    "index_copy": lambda i: ops.index_copy(X, 0, i, S),
    "index_select": lambda i: ops.index_select(X, 0, i),
    "scatter": lambda i: ops.scatter(X, 0, i[:, None].expand(4, 3), S),
    "scatter_add": lambda i: ops.scatter_add(X, 0, i[:, None].expand(4, 3), S),
    "scatter_reduce": lambda i: ops.scatter_reduce(X, 0, i[:, None].expand(4, 3), S, "prod"),
    "gather": lambda i: ops.gather(X, 0, i[:, None]),
    "embedding": lambda i: ops.embedding(i, X),
    "embedding_bag": lambda i: ops.embedding_bag(i, X, O),
    "index_plan": lambda i: ops.index_plan(i, 5),
}
FROM_THE_END = {
    "index": lambda i: ops.index(X, (i,)),
    "index_put": lambda i: ops.index_put(X, (i,), S),
    "take": lambda i: ops.take(X[:, 0], i),
    "put": lambda i: ops.put(X[:, 0], i, V),
}


@pytest.mark.parametrize("op", [*CALLS, *FROM_THE_END])
def test_an_index_out_of_range_is_named_with_position_value_and_size(op):
    call, low = (CALLS[op], 0) if op in CALLS else (FROM_THE_END[op], -5)
    for wrong in (5, low - 1, 2**40, -(2**40)):
        with pytest.raises(ArgumentIndexError) as caught:
            call(torch.tensor([0, 1, wrong, wrong]))
        text = str(caught.value)
        position = "position 2" if "scatter" not in op else "position 6, which is (2, 0)"
        assert text.startswith(f"{op}: ")
        assert f"expected {low} to 4, got {wrong} at {position}" in text
        assert " 5" in text
        assert caught.value.__cause__ is None
    call(torch.tensor([0, 1, 4, low]))


@pytest.mark.parametrize("op", [*CALLS, *FROM_THE_END])
def test_an_index_out_of_range_is_named_when_a_gradient_is_wanted_too(op):
    x = X.clone().requires_grad_()
    calls = {
        "index_add": lambda i: ops.index_add(x, 0, i, S),
        "index_select": lambda i: ops.index_select(x, 0, i),
        "embedding": lambda i: ops.embedding(i, x),
        "index": lambda i: ops.index(x, (i,)),
    }
    with pytest.raises(ArgumentIndexError, match=f"{op}: .*got 5 at position"):
        calls.get(op, CALLS.get(op) or FROM_THE_END.get(op))(torch.tensor([0, 1, 5, 1]))


def test_nothing_can_be_read_from_a_dimension_of_size_0():
    with pytest.raises(ArgumentIndexError, match=r"expected no index, got 0 at position 0: input \(0, 3\) has size 0"):
        ops.index_select(X[:0], 0, I)
    assert ops.index_select(X[:0], 0, I[:0]).shape == (0, 3)


def test_the_full_text_says_what_was_expected_what_came_and_what_to_do():
    calls = {
        lambda: ops.index_add(X, 0, I + 3, S): (
            "index_add: index: expected 0 to 4, got 7 at position 3: input (5, 3) has size 5 along dim 0"
        ),
        lambda: ops.index_add(X, 0, I, S.double()): (
            "index_add: source: expected the dtype of input, float32, got float64: convert one of them"
        ),
        lambda: ops.index_add(X, 0, I, S[:, :2]): (
            "index_add: source: expected shape (4, 3) (input's, but 4 along dim 0), got (4, 2)"
        ),
        lambda: ops.take(X, I - 20): (
            "take: index: expected -15 to 14, got -20 at position 0: input (5, 3) has 15 elements"
        ),
        lambda: ops.index(X, (None, I)): (
            "index: indices[1]: expected -3 to 2, got 4 at position 3: input (5, 3) has size 3 along dim 1"
        ),
        lambda: ops.embedding(P, X[:4]): (
            "embedding: input: expected 0 to 3, got 4 at position 9, which is (3, 0): "
            "weight (4, 3) has size 4 along dim 0"
        ),
        lambda: ops.index_add(X, 0, ops.index_plan(I, 6), S): (
            "index_add: index: expected a plan for 5 destinations, the size of input (5, 3) along dim 0, got one for "
            "6: build it with index_plan(index, 5)"
        ),
        lambda: ops.segment_sum(X, offsets=torch.tensor([0, 3, 2])): (
            "segment_sum: offsets: expected ascending numbers from 0 to 5, got 2 at position 2"
        ),
        lambda: ops.segment_mean(X, lengths=torch.tensor([2, 2])): (
            "segment_mean: lengths: expected numbers of at least 0 with the sum 5, the slices of input, got [2, 2] "
            "with the sum 4"
        ),
        lambda: ops.embedding(I, X, max_norm=1.0): (
            "embedding: max_norm: expected None, got 1.0: it writes into weight in the forward; bound the norms after "
            "the optimizer's step, with torch.renorm"
        ),
        lambda: ops.embedding_bag(I, X, O, sparse=True): (
            "embedding_bag: sparse: expected False, got True: the gradient is a dense tensor here"
        ),
    }
    for call, text in calls.items():
        with pytest.raises(DetprobeError) as caught:
            call()
        assert str(caught.value) == text


def test_no_gradient_of_another_kind_and_no_dtype_without_kernels():
    for call, named in (
        (lambda: ops.gather(X, 0, P, sparse_grad=True), "sparse_grad"),
        (lambda: ops.embedding(I, X, sparse=True), "sparse"),
        (lambda: ops.embedding_bag(I, X, O, max_norm=2), "max_norm"),
        (lambda: ops.index_add(X.cfloat(), 0, I, S.cfloat()), "complex64"),
        (lambda: ops.index_select(X.to(torch.float8_e5m2), 0, I), "float8_e5m2"),
        (lambda: ops.index_put(X.to(torch.uint16), (I,), S.to(torch.uint16)), "uint16"),
        (lambda: ops.embedding(I, WHOLE), "int64"),
        (lambda: ops.segment_sum(WHOLE, lengths=torch.tensor([5])), "int64"),
    ):
        with pytest.raises(UnsupportedError, match=named):
            call()


def test_a_tensor_on_another_device_is_refused_where_torch_takes_it_too():
    for call in (
        lambda: ops.index_select(X, 0, I.to("meta")),
        lambda: ops.scatter_add(X, 0, P.to("meta"), S),
        lambda: ops.scatter(X, 0, P, S.to("meta")),
        lambda: ops.embedding(I.to("meta"), X),
    ):
        with pytest.raises(RuntimeError, match=r"expected the device of .*, cpu, got meta: move one of them"):
            call()


def test_an_alpha_that_is_no_integer_is_refused_beside_integers():
    with pytest.raises(RuntimeError, match=r"alpha: expected an integer beside int64, got 1\.5: convert"):
        ops.index_add(WHOLE, 0, I, WHOLE[:4], alpha=1.5)
    assert torch.equal(ops.index_add(WHOLE, 0, I, WHOLE[:4], alpha=2.0), WHOLE.index_add(0, I, WHOLE[:4], alpha=2))


def test_segments_say_what_does_not_fit():
    for options, error, named in (
        ({}, TypeError, "neither"),
        ({"lengths": I, "offsets": I}, TypeError, "both"),
        ({"lengths": [5]}, TypeError, "list"),
        ({"lengths": torch.tensor([5.0])}, RuntimeError, "float32"),
        ({"lengths": torch.tensor([[5]])}, RuntimeError, r"\(1, 1\)"),
        ({"offsets": torch.tensor([], dtype=torch.int64)}, RuntimeError, r"\(0,\)"),
        ({"offsets": torch.tensor([-1, 5])}, RuntimeError, "got -1 at position 0"),
        ({"offsets": torch.tensor([0, 6])}, RuntimeError, "got 6 at position 1"),
        ({"lengths": torch.tensor([6, -1])}, ValueError, r"\[6, -1\]"),
        ({"lengths": torch.tensor([1] * 8)}, ValueError, r"\[1, 1, 1, 1, 1, 1, ...\] with the sum 8"),
        ({"lengths": torch.tensor([5], device="meta")}, RuntimeError, "meta"),
    ):
        for op in (ops.segment_sum, ops.segment_mean, ops.segment_max):
            with pytest.raises(DetprobeError, match=named) as caught:
                op(X, **options)
            assert isinstance(caught.value, error)
            assert str(caught.value).startswith(f"{op.__name__}: ")
    with pytest.raises(RuntimeError, match="0 dimensions"):
        ops.segment_sum(torch.tensor(1.0), lengths=I)


def test_edges_that_descend_are_refused():
    with pytest.raises(ArgumentValueError, match=r"bins: expected edges that do not descend, got \[1, 0\]: sort them"):
        ops.histogram(X, torch.tensor([1.0, 0.0]))


def test_validate_takes_a_bool_and_changes_nothing_on_the_cpu():
    for validate in (True, False):
        assert torch.equal(ops.index_add(X, 0, I, S, validate=validate), X.index_add(0, I, S))
        with pytest.raises(IndexError, match="got 7"):
            ops.index_add(X, 0, I + 3, S, validate=validate)
    with pytest.raises(TypeError, match="validate: expected True or False, got 1"):
        ops.index_add(X, 0, I, S, validate=1)


@pytest.mark.skipif(HAS_CUDA, reason="this build has CUDA kernels")
def test_a_cuda_tensor_is_refused_with_a_sentence_where_the_build_has_no_cuda():
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, source = torch.empty(5, 3, device="cuda"), torch.empty(4, 3, device="cuda")
        index = torch.empty(4, dtype=torch.int64, device="cuda")
        for call in (
            lambda: ops.index_add(x, 0, index, source),
            lambda: ops.index_select(x, 0, index),
            lambda: ops.embedding(index, x),
            lambda: ops.index_plan(index, 5),
            lambda: ops.histc(x),
        ):
            with pytest.raises(NotAvailableError, match="no CUDA kernels"):
                call()
