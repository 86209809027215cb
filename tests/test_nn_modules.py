"""The modules are drop-in: constructor, state, copies and pickles of torch.nn's, and outputs near theirs."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
from op_cases import Recorder
from torch import nn

import detprobe
from detprobe import nn as dnn

ROWS = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(4, 6, 4, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 11, 3, -100])
# Name, arguments, inputs.
MODULES = [
    ("LayerNorm", {"normalized_shape": 12}, (ROWS,)),
    ("LayerNorm", {"normalized_shape": (4, 5), "eps": 1e-3, "bias": False}, (IMAGES,)),
    ("LayerNorm", {"normalized_shape": 12, "elementwise_affine": False}, (ROWS,)),
    ("RMSNorm", {"normalized_shape": 12}, (ROWS,)),
    ("RMSNorm", {"normalized_shape": (4, 5), "eps": 1e-3, "elementwise_affine": False}, (IMAGES,)),
    ("BatchNorm1d", {"num_features": 12}, (ROWS,)),
    ("BatchNorm1d", {"num_features": 6, "momentum": None}, (IMAGES.flatten(2),)),
    ("BatchNorm1d", {"num_features": 12, "affine": False, "track_running_stats": False}, (ROWS,)),
    ("BatchNorm2d", {"num_features": 6, "momentum": 0.3, "eps": 1e-3}, (IMAGES,)),
    ("BatchNorm2d", {"num_features": 6, "track_running_stats": False}, (IMAGES,)),
    ("Softmax", {"dim": 1}, (ROWS,)),
    ("LogSoftmax", {"dim": -1}, (IMAGES,)),
    ("CrossEntropyLoss", {}, (ROWS, LABELS)),
    ("CrossEntropyLoss", {"weight": torch.linspace(0.5, 2, 12), "label_smoothing": 0.1}, (ROWS, LABELS)),
    ("CrossEntropyLoss", {"reduction": "none", "ignore_index": 3}, (ROWS, LABELS.clamp(min=0))),
    ("CrossEntropyLoss", {"reduction": "sum"}, (ROWS, ROWS.softmax(1))),
]
EVERY = pytest.mark.parametrize(
    ("name", "arguments", "inputs"), MODULES, ids=[f"{name}-{list(a)}" for name, a, _ in MODULES]
)


def pair(name, arguments):
    """torch's module and ours, with the same made-up weights."""
    theirs, ours = getattr(nn, name)(**arguments), getattr(dnn, name)(**arguments)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.linspace(0.5, 1.5, parameter.numel()).reshape(parameter.shape))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def near(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@EVERY
def test_a_module_is_near_torchs_in_training_and_in_evaluation(name, arguments, inputs):
    theirs, ours = pair(name, arguments)
    for training in (True, True, False):
        theirs.train(training)
        ours.train(training)
        leaves = [inputs[0].clone().requires_grad_() for _ in range(2)]
        a, b = theirs(leaves[0], *inputs[1:]), ours(leaves[1], *inputs[1:])
        near(a, b)
        (a.square().sum() + a.sum()).backward()
        (b.square().sum() + b.sum()).backward()
        near(leaves[0].grad, leaves[1].grad)
        for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
            near(mine.grad, their.grad)
        for (key, mine), their in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            near(mine, their)
            assert key != "num_batches_tracked" or torch.equal(mine, their)


@EVERY
def test_a_module_calls_detprobe_and_not_torch(name, arguments, inputs):
    _, ours = pair(name, arguments)
    with Recorder() as record:
        ours(*inputs)
    assert record.names()


@EVERY
def test_constructor_text_and_state_are_torchs(name, arguments, inputs):
    theirs, ours = pair(name, arguments)
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    back = getattr(nn, name)(**arguments)
    back.load_state_dict(ours.state_dict())
    for mine, their in zip(ours.state_dict().values(), back.state_dict().values(), strict=True):
        assert torch.equal(mine, their)
    assert isinstance(ours, getattr(nn, name))


@EVERY
def test_copies_and_pickles_give_the_same_bits(name, arguments, inputs):
    _, ours = pair(name, arguments)
    ours.eval()
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(buffer, weights_only=False)):
        assert type(other) is type(ours)
        assert not other.training
        assert torch.equal(other(*inputs), ours(*inputs))


@EVERY
def test_a_module_compiles_to_one_graph_of_the_same_bits(name, arguments, inputs):
    if arguments.get("momentum", 0) is None:
        pytest.skip("reads a counter on the host, as torch's own module does")
    torch._dynamo.reset()
    _, ours = pair(name, arguments)
    other = copy.deepcopy(ours)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        assert torch.equal(compiled(*inputs), ours(*inputs))
    for mine, their in zip(other.state_dict().values(), ours.state_dict().values(), strict=True):
        assert torch.equal(mine, their)


def test_a_cumulative_average_weighs_every_batch_the_same():
    module = dnn.BatchNorm1d(3, momentum=None)
    batches = [torch.randn(5, 3) for _ in range(4)]
    for batch in batches:
        module(batch)
    near(module.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0))
    assert module.num_batches_tracked.item() == 4


def test_a_batch_norm_of_the_wrong_rank_says_what_torch_says():
    for room in (nn, dnn):
        with pytest.raises(ValueError, match="expected 4D input"):
            room.BatchNorm2d(3)(torch.randn(2, 3))


def test_softmax_without_a_dimension_warns_and_chooses_as_torch_does():
    for x in (torch.randn(3), torch.randn(3, 4), torch.randn(2, 3, 4)):
        for name in ("Softmax", "LogSoftmax"):
            with pytest.warns(UserWarning, match="dim"):
                ours = getattr(dnn, name)()(x)
            with pytest.warns(UserWarning, match="dim"):
                near(ours, getattr(nn, name)()(x))


def test_modules_and_ops_are_reached_from_the_package():
    assert detprobe.nn.LayerNorm is dnn.LayerNorm
    assert detprobe.ops.sum(torch.ones(3)).item() == 3.0
