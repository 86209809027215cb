"""How far a scan's promise to leave everything as it was reaches: one test per thing that a user can lose.

Each model here changes one thing in an unusual way: below the dispatcher, through a view, in another thread, in an
object that is no module. The flags are every global setting of torch that changes results and that a forward can set.
"""

from __future__ import annotations

import threading
import types
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from snapshot import moved, snapshot
from torch import nn

import detprobe


class Net(nn.Module):
    """A linear layer behind something that the test wants done."""

    def __init__(self, act: Callable[[Net, torch.Tensor], Any], **things: Any) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.act = act
        for name, thing in things.items():
            if isinstance(thing, torch.Tensor):
                self.register_buffer(name, thing)
            else:
                setattr(self, name, thing)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.act(self, x)
        return self.lin(out if isinstance(out, torch.Tensor) else x)


def lost(model: Any, inputs: Any, *others: Any, **options: Any) -> list[str]:
    """What a scan moved. Two passes run on the same objects, so a model that meets its own traces raises here."""
    before = snapshot(model, inputs, *others)
    report = detprobe.scan(model, inputs, replays=2, **options)
    assert report.ok, report.findings
    return moved(before, snapshot(model, inputs, *others))


def rows() -> torch.Tensor:
    return torch.randn(4, 6)


def in_place(*path: str) -> Callable[[Net, torch.Tensor], None]:
    def act(net: Net, x: torch.Tensor) -> None:
        for name in path:
            getattr(net, name).add_(1)

    return act


# (what moves, the model, things to watch besides)
def in_numpy(net: Net, x: torch.Tensor) -> None:
    net.kept.numpy()[0] += 1


def in_thread(net: Net, x: torch.Tensor) -> None:
    thread = threading.Thread(target=lambda: net.kept.add_(1))
    thread.start()
    thread.join()


def with_weight(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.kept.mul_(net.lin.weight.sum())
    return x + net.kept


def data_replaced(net: Net, x: torch.Tensor) -> None:
    net.kept.data = net.kept.double()


def module_to_double_and_back(net: Net, x: torch.Tensor) -> None:
    net.lin.double()
    net.lin.float()


def parameter_replaced(net: Net, x: torch.Tensor) -> None:
    net.lin.weight = nn.Parameter(net.lin.weight.detach().clone())


def backward_inside(net: Net, x: torch.Tensor) -> None:
    net.lin(x).sum().backward()


def gradients_zeroed(net: Net, x: torch.Tensor) -> None:
    net.zero_grad(set_to_none=False)


def hook_on_a_parameter(net: Net, x: torch.Tensor) -> None:
    net.lin.weight.register_hook(lambda gradient: gradient)


ACTS: list[Callable[[Net, torch.Tensor], Any]] = [
    in_place("kept"),
    in_numpy,
    in_thread,
    with_weight,
    data_replaced,
    module_to_double_and_back,
    parameter_replaced,
    backward_inside,
    gradients_zeroed,
]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_buffers_parameters_and_gradients_come_back(act: Callable[[Net, torch.Tensor], Any]) -> None:
    base = torch.randn(3, 6)
    net = Net(act, kept=base[1])
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert lost(net, rows(), base) == []


def test_a_sparse_buffer_that_is_scaled_in_place_comes_back() -> None:
    adjacency = torch.eye(4).to_sparse().coalesce()

    def act(net: Net, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(net.kept.mul_(2), x)

    detprobe.scan(Net(act, kept=adjacency), rows(), replays=2)
    assert torch.equal(adjacency.to_dense(), torch.eye(4))


def test_hooks_on_parameters_come_back() -> None:
    net = Net(hook_on_a_parameter)
    detprobe.scan(net, rows(), replays=2)
    assert not net.lin.weight._backward_hooks


def ordered(net: Net, x: torch.Tensor) -> None:
    net.things["ordered"].move_to_end("x")
    net.things["default"]["new"].append(1)
    net.things["counter"]["k"] += 1
    net.things["set"].discard(1)


def test_containers_of_modules_keep_entries_order_and_identity() -> None:
    things = {
        "ordered": OrderedDict(x=1, y=2),
        "default": defaultdict(list),
        "counter": Counter("ab"),
        "set": {1, 2},
    }
    assert lost(Net(ordered, things=things), rows()) == []
    assert list(things["ordered"]) == ["x", "y"]
    assert things["counter"] == Counter("ab")


def test_numpy_arrays_of_modules_come_back() -> None:
    def act(net: Net, x: torch.Tensor) -> None:
        net.steps[0] += 1

    assert lost(Net(act, steps=np.zeros(3)), rows()) == []


def test_plain_objects_that_modules_hold_come_back() -> None:
    def act(net: Net, x: torch.Tensor) -> None:
        net.config.step += 1
        net.config.log.append(1)

    config = types.SimpleNamespace(step=0, log=[])
    assert lost(Net(act, config=config), rows()) == []
    assert (config.step, config.log) == (0, [])


class Trainer:
    def __init__(self) -> None:
        self.holder = types.SimpleNamespace(net=nn.BatchNorm1d(6))
        self.calls = 0
        self.log: list[int] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.log.append(self.calls)
        self.holder.net.calls = self.calls
        return self.holder.net(x)

    step = __call__


@pytest.mark.parametrize("way", ["object", "bound method"])
def test_a_callable_object_and_the_modules_that_it_holds_come_back(way: str) -> None:
    trainer = Trainer()
    assert lost(trainer if way == "object" else trainer.step, rows(), trainer.holder.net) == []
    assert (trainer.calls, trainer.log) == (0, [])


def test_generators_and_counters_in_a_closure_come_back() -> None:
    generators = [torch.Generator().manual_seed(1), np.random.default_rng(2)]
    log: list[int] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        log.append(1)
        return x * generators[1].random() + torch.randn(x.shape, generator=generators[0])

    assert lost(model, rows(), *generators) == []
    assert log == []


@pytest.mark.parametrize("inside", [False, True], ids=["after", "inside"])
@pytest.mark.parametrize("had", [False, True], ids=["no gradient", "a gradient"])
def test_a_leaf_in_a_closure_keeps_its_gradient(had: bool, inside: bool) -> None:
    weight = torch.randn(6, requires_grad=True)
    weight.grad = torch.ones(6) if had else None

    def model(x: torch.Tensor) -> torch.Tensor:
        if inside:
            (weight * x).sum().backward()
        return weight * x

    assert lost(model, rows(), weight) == []


def pops(batch: dict[str, Any]) -> torch.Tensor:
    batch["log"].append(1)
    return batch.pop("x") * 2


def test_containers_in_the_inputs_come_back() -> None:
    batch = {"x": rows(), "log": [], "y": 1}
    assert lost(pops, (batch,)) == []
    assert list(batch) == ["x", "log", "y"]


def scaled_by_weight(x: torch.Tensor) -> torch.Tensor:
    return x.mul_(WEIGHT)


WEIGHT = torch.full((6,), 2.0, requires_grad=True)
INPUT_CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "in place": lambda x: x.add_(1) * 2,
    "in place with a weight": lambda x: x.mul_(WEIGHT) * 2,
    "requires_grad_": lambda x: x.requires_grad_() * 2,
    "retain_grad": lambda x: (x.requires_grad_().retain_grad(), x * 2)[1],
    "resize_": lambda x: x.resize_(2, 6) * 2,
    "t_": lambda x: x.t_() * 2,
    "unsqueeze_": lambda x: x.unsqueeze_(0) * 2,
    "squeeze_": lambda x: x.squeeze_(0) * 2,
    "set_": lambda x: x.set_(torch.ones(2)) * 2,
    "data": lambda x: (setattr(x, "data", torch.ones(2)), x * 2)[1],
}


@pytest.mark.parametrize("change", sorted(INPUT_CHANGES))
def test_inputs_come_back(change: str) -> None:
    assert lost(INPUT_CHANGES[change], rows(), WEIGHT) == []


def test_an_input_with_a_history_keeps_it() -> None:
    weight = torch.randn(4, 6, requires_grad=True)
    hidden = weight.exp()
    hidden.retain_grad()
    node = hidden.grad_fn
    assert lost(lambda x: x * 2, hidden, weight) == []
    assert hidden.grad is None
    assert hidden.grad_fn is node
    hidden.sum().backward()  # the graph from before the scan is the user's, and still there


def denormals_are_flushed() -> bool:
    return float(torch.tensor([1e-310], dtype=torch.float64).mul(1.0)) == 0.0


BACKENDS = torch.backends
FLAGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Any]] = {
    "grad mode": (torch.is_grad_enabled, torch._C._set_grad_enabled, False),
    "anomaly": (torch.is_anomaly_enabled, torch.set_anomaly_enabled, True),
    "autocast": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda value: torch.set_autocast_enabled("cpu", value),
        True,
    ),
    "autocast cache": (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, False),
    "matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "debug mode": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, "warn"),
    "flash attention": (BACKENDS.cuda.flash_sdp_enabled, BACKENDS.cuda.enable_flash_sdp, False),
    "math attention": (BACKENDS.cuda.math_sdp_enabled, BACKENDS.cuda.enable_math_sdp, False),
    "efficient attention": (BACKENDS.cuda.mem_efficient_sdp_enabled, BACKENDS.cuda.enable_mem_efficient_sdp, False),
    "oneDNN": (lambda: BACKENDS.mkldnn.enabled, lambda value: setattr(BACKENDS.mkldnn, "enabled", value), False),
    "oneDNN deterministic": (
        lambda: BACKENDS.mkldnn.deterministic,
        lambda value: setattr(BACKENDS.mkldnn, "deterministic", value),
        True,
    ),
    "NNPACK": (torch._C._get_nnpack_enabled, torch._C._set_nnpack_enabled, False),
    "denormals": (denormals_are_flushed, torch.set_flush_denormal, True),
}


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_a_flag_that_the_forward_sets_comes_back(flag: str) -> None:
    read, write, value = FLAGS[flag]
    old = read()
    try:
        detprobe.scan(Net(lambda net, x: write(value)), rows(), replays=2)
        assert read() == old
    finally:
        write(old)


def test_a_precision_set_by_torchs_newer_names_stops_no_scan_and_stays() -> None:
    precision = torch.backends.mkldnn.matmul
    before = precision.fp32_precision
    precision.fp32_precision = "bf16"
    try:
        assert detprobe.scan(nn.Linear(6, 6), rows(), replays=2).ok
        assert precision.fp32_precision == "bf16"
    finally:
        precision.fp32_precision = before


def test_a_default_device_that_the_forward_sets_comes_back() -> None:
    def act(net: Net, x: torch.Tensor) -> None:
        torch.set_default_device("meta")

    try:
        detprobe.scan(Net(act), rows(), replays=2)
        assert torch.get_default_device() == torch.device("cpu")
    finally:
        torch.set_default_device(None)


def test_global_module_hooks_come_back() -> None:
    hooks: list[Any] = []

    def act(net: Net, x: torch.Tensor) -> None:
        hooks.append(nn.modules.module.register_module_forward_hook(lambda *ignored: None))

    try:
        assert lost(Net(act), rows()) == []
    finally:
        for hook in hooks:
            hook.remove()


def test_a_scheduled_optimizer_and_one_with_a_closure_come_back() -> None:
    net = nn.Linear(6, 6)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, 1)
    assert lost(net, rows(), sgd, schedule.__dict__, optimizer=sgd) == []
    lbfgs = torch.optim.LBFGS(net.parameters())
    assert lost(net, rows(), lbfgs, optimizer=lbfgs, loss=lambda output: output.square().mean()) == []


def test_an_optimizer_of_other_parameters_than_the_models_comes_back() -> None:
    extra = torch.randn(6, requires_grad=True)
    extra.grad = torch.ones(6)
    adam = torch.optim.Adam([extra], lr=0.1)
    adam.step()
    assert lost(lambda x: x * extra, rows(), adam, extra, optimizer=adam) == []
