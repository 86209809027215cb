"""Embedding and EmbeddingBag are drop-in: constructor, state, from_pretrained, copies, and what they refuse."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
from op_cases import Recorder
from torch import nn

from detprobe import nn as dnn
from detprobe.errors import UnsupportedError

IDS = torch.tensor([[1, 4, 1], [0, 4, 4]])
FLAT, OFFSETS = IDS.flatten(), torch.tensor([0, 1, 1])
SAMPLES = torch.linspace(0.5, 1.5, 6)
# Name, arguments, inputs.
MODULES = [
    ("Embedding", {}, (IDS,)),
    ("Embedding", {"padding_idx": -1}, (IDS.int(),)),
    ("EmbeddingBag", {}, (IDS,)),
    ("EmbeddingBag", {"mode": "sum", "padding_idx": 4}, (FLAT, OFFSETS)),
    ("EmbeddingBag", {"mode": "max"}, (FLAT, OFFSETS)),
    ("EmbeddingBag", {"mode": "sum"}, (FLAT, OFFSETS, SAMPLES)),
    ("EmbeddingBag", {"mode": "sum"}, (IDS, None, SAMPLES.view(2, 3))),
    ("EmbeddingBag", {"include_last_offset": True}, (FLAT, torch.tensor([0, 4, 6]))),
]
EVERY = pytest.mark.parametrize(
    ("name", "arguments", "inputs"), MODULES, ids=[f"{name}-{list(a)}" for name, a, _ in MODULES]
)


def pair(name, arguments):
    """torch's module and ours, with one weight."""
    theirs, ours = getattr(nn, name)(5, 3, **arguments), getattr(dnn, name)(5, 3, **arguments)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@EVERY
def test_a_module_is_near_torchs(name, arguments, inputs):
    theirs, ours = pair(name, arguments)
    a, b = theirs(*inputs), ours(*inputs)
    torch.testing.assert_close(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    torch.testing.assert_close(theirs.weight.grad, ours.weight.grad)


@EVERY
def test_a_module_calls_detprobe_forward_and_backward(name, arguments, inputs):
    _, ours = pair(name, arguments)
    with Recorder() as record:
        ours(*inputs).sum().backward()
    op = "embedding" if name == "Embedding" else "embedding_bag"
    assert {op, f"{op}_backward"} <= record.names()


@EVERY
def test_constructor_text_and_state_are_torchs(name, arguments, inputs):
    theirs, ours = pair(name, arguments)
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))
    assert list(inspect.signature(ours.forward).parameters) == list(inspect.signature(theirs.forward).parameters)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert isinstance(ours, getattr(nn, name))


@EVERY
def test_from_pretrained_makes_one_of_ours(name, arguments, inputs):
    weight = torch.randn(5, 3)
    ours = getattr(dnn, name).from_pretrained(weight, **arguments)
    theirs = getattr(nn, name).from_pretrained(weight, **arguments)
    assert type(ours) is getattr(dnn, name)
    assert not ours.weight.requires_grad
    torch.testing.assert_close(ours(*inputs), theirs(*inputs))


@EVERY
def test_copies_and_pickles_give_the_same_bits(name, arguments, inputs):
    _, ours = pair(name, arguments)
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(buffer, weights_only=False)):
        assert type(other) is type(ours)
        assert torch.equal(other(*inputs), ours(*inputs))


@EVERY
def test_a_module_compiles_to_one_graph_of_the_same_bits(name, arguments, inputs):
    torch._dynamo.reset()
    _, ours = pair(name, arguments)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    a, b = compiled(*inputs), ours(*inputs)
    assert torch.equal(a, b)
    gradients = [torch.autograd.grad(y.square().sum(), ours.weight)[0] for y in (a, b)]
    assert torch.equal(*gradients)


@EVERY
def test_convert_swaps_it_and_keeps_the_weight(name, arguments, inputs):
    model = nn.Sequential(getattr(nn, name)(5, 3, **arguments))
    weight = model[0].weight
    result = dnn.convert(model, inplace=True)
    assert result.swapped == [("0", name)]
    assert type(model[0]) is getattr(dnn, name)
    assert model[0].weight is weight
    assert dnn.convert(model).swapped == []


def test_what_would_write_into_the_weight_or_be_sparse_is_refused_and_left():
    options = ({"max_norm": 1.0}, {"sparse": True})
    for name, inputs in (("Embedding", (IDS,)), ("EmbeddingBag", (IDS,))):
        for option in options:
            with pytest.raises(UnsupportedError, match=f"{next(iter(option))}: expected"):
                getattr(dnn, name)(5, 3, **option)(*inputs)
            result = dnn.convert(getattr(nn, name)(5, 3, **option))
            assert result.swapped == []
            assert [(kind, why) for _, kind, why in result.left] == [
                (name, "max_norm writes into its weight on the way, and sparse has another kind of gradient")
            ]
            assert type(result.model) is getattr(nn, name)
