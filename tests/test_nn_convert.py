"""convert: what is swapped, what is left and why, in place and as a copy."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detprobe import nn as dnn
from detprobe.errors import ArgumentTypeError, ArgumentValueError


class Attention(nn.Module):
    """Attention whose softmax is a module."""

    def __init__(self, width):
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        q, k, v = self.project(x).chunk(3, -1)
        return self.softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2, self.feed = nn.RMSNorm(width), nn.Sequential(nn.Linear(width, width), nn.GELU())

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def transformer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 8), Block(8), Block(8), nn.LayerNorm(8), nn.Linear(8, 11))
    return model, torch.arange(6)[None]


def resnet():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), Residual(6), Residual(6)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 4), nn.LogSoftmax(1)),
    )
    return model, torch.randn(5, 3, 8, 8)


@pytest.mark.parametrize(("build", "swapped"), [(transformer, 8), (resnet, 7)])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_converted_model_is_near_the_old_one_and_has_its_state(build, swapped, inplace):
    model, x = build()
    stock = copy.deepcopy(model)
    result = dnn.convert(model, inplace=inplace)
    assert (result.model is model) is inplace
    assert len(result.swapped) == swapped
    assert result.left == []
    for training in (True, False):
        a, b = stock.train(training)(x), result.model.train(training)(x)
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert list(stock.state_dict()) == list(result.model.state_dict())
    stock.load_state_dict(result.model.state_dict())
    stock.zero_grad()
    result.model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in result.model.parameters())


def test_a_copy_leaves_the_model_alone():
    model, _ = transformer()
    before = [type(module) for module in model.modules()]
    dnn.convert(model)
    assert [type(module) for module in model.modules()] == before


def test_in_place_every_object_stays_itself():
    model, x = resnet()
    model.eval()
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append("hook"))
    model[1].note = "kept"
    parameters, buffers, modules = list(model.parameters()), list(model.buffers()), list(model.modules())
    result = dnn.convert(model, inplace=True)
    for before, after in ((parameters, model.parameters()), (buffers, model.buffers()), (modules, model.modules())):
        assert all(a is b for a, b in zip(before, after, strict=True))
    assert not model[1].training
    assert model[1].note == "kept"
    result.model(x)
    assert calls == ["hook"]


@pytest.mark.parametrize("inplace", [False, True])
def test_a_shared_module_stays_shared_and_is_named_once(inplace):
    norm = nn.LayerNorm(4)
    result = dnn.convert(nn.Sequential(norm, nn.Linear(4, 4), norm), inplace=inplace)
    assert result.model[0] is result.model[2]
    assert type(result.model[0]) is dnn.LayerNorm
    assert result.swapped == [("0", "LayerNorm")]


def test_what_is_not_swapped_is_named_with_a_reason():
    class Mine(nn.LayerNorm):
        pass

    model = nn.Sequential(
        *(Mine(4), nn.GroupNorm(2, 4), nn.BatchNorm3d(4), nn.InstanceNorm1d(4), nn.NLLLoss(), nn.Softmin(1)),
        *(nn.MultiheadAttention(4, 2), nn.Linear(4, 4), nn.LazyBatchNorm1d(), nn.Softmax(1), dnn.LayerNorm(4)),
    )
    result = dnn.convert(model, inplace=True)
    assert result.swapped == [("9", "Softmax")]
    assert [(name, kind) for name, kind, _ in result.left] == [
        *(("0", "Mine"), ("1", "GroupNorm"), ("2", "BatchNorm3d"), ("3", "InstanceNorm1d"), ("4", "NLLLoss")),
        *(("5", "Softmin"), ("6", "MultiheadAttention"), ("8", "LazyBatchNorm1d")),
    ]
    reasons = {name: why for name, _, why in result.left}
    assert reasons["0"] == "a subclass of LayerNorm, which may compute something else"
    assert reasons["1"] == "detprobe has no order for it"
    assert "run the model once" in reasons["8"]
    assert dnn.convert(model, inplace=True).swapped == []


def test_a_model_that_is_itself_a_norm_or_a_loss_is_converted():
    for module in (nn.LayerNorm(3), nn.CrossEntropyLoss()):
        for inplace in (False, True):
            result = dnn.convert(module, inplace=inplace)
            assert type(result.model) is getattr(dnn, result.swapped[0][1])


def test_the_text_of_a_result_is_a_table():
    result = dnn.convert(nn.Sequential(nn.LayerNorm(4), nn.GroupNorm(2, 4)))
    assert str(result) == (
        "swapped 1, left 1\n"
        "  0  LayerNorm  -> detprobe.nn.LayerNorm\n"
        "  1  GroupNorm  left: detprobe has no order for it"
    )
    assert str(dnn.convert(nn.LayerNorm(4))).splitlines()[1] == "  (the model)  LayerNorm  -> detprobe.nn.LayerNorm"
    assert str(dnn.convert(nn.Linear(2, 2))) == "swapped 0, left 0"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.model = None


def test_torchs_own_transformer_layer_is_named_since_it_goes_around_its_norms():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    result = dnn.convert(layer)
    assert {name for name, _ in result.swapped} == {"norm1", "norm2"}
    assert {kind for _, kind, _ in result.left} == {"TransformerEncoderLayer", "MultiheadAttention"}


def test_bad_arguments_are_refused_with_a_sentence():
    with pytest.raises(ArgumentTypeError, match=r"expected a torch\.nn\.Module, got function"):
        dnn.convert(lambda x: x)
    with pytest.raises(ArgumentTypeError, match="expected True or False, got 1"):
        dnn.convert(nn.LayerNorm(3), inplace=1)
    with pytest.raises(ArgumentValueError, match="inplace=True"):
        dnn.convert(nn.Sequential(nn.LazyBatchNorm1d()))
