"""A scan leaves everything of the user's bit for bit as it was, whatever the model does and wherever it raises.

`snapshot` reads all that a user has: tensors with their gradients, module attributes, the optimizer, generators, global
flags, the thread count. Hypothesis composes models of blocks that each change some of it; bombs go off at every op of
the forward, the loss, the backward and the optimizer's step, in each of the scan's passes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot import moved, snapshot
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import detprobe

WIDTH = 6
ROWS = 4


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    """What a failing test leaves behind must not fail the others."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = False
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.set_autocast_cache_enabled(True)


class Adds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.tensor([0, 1, 1, 2]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros_like(x).index_add_(0, self.rows, x)


class Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table(torch.arange(ROWS) % 2)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.shapes: list[Any] = []
        self.last: deque[Any] = deque(maxlen=3)
        self.kinds: set[Any] = set()
        self.history: dict[str, Any] = {"nested": [[0]]}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.shapes.append(x)
        self.last.append(float(x.detach().sum()))
        self.kinds.add(self.calls)
        self.history["nested"][0][0] += 1
        self.history["new"] = x.detach()
        return x


class WritesBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.randn(3, WIDTH)[1])
        self.plain = torch.randn(WIDTH)
        self.kept = [torch.randn(WIDTH), {"inner": torch.randn(WIDTH)}]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.detach().mean(0)
        self.total.mul_(0.9).add_(mean)
        self.plain[1:] = mean[1:]
        self.kept[0].copy_(mean)
        self.kept[1]["inner"].zero_()
        return x + self.total.clone()


class ReplacesBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("latest", torch.randn(ROWS, WIDTH))
        self.register_buffer("absent", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.latest = self.latest + x.detach()
        self.absent = x.detach()
        return x * 1.5


class ChangesItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(self.inner(x))
        self.train(not self.training)
        self.inner.bias.requires_grad_(not self.inner.bias.requires_grad)
        self.inner.register_forward_hook(lambda *ignored: None)
        return y


class Lazy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "weight"):
            self.weight = nn.Parameter(torch.randn(WIDTH))
            self.later = nn.Linear(WIDTH, WIDTH)
            self.register_buffer("mean", x.detach().mean(0))
        return self.later(x * self.weight) + self.mean


class SwapsData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH))
        self.register_buffer("grown", torch.randn(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.weight.data = self.weight.data * 2
        self.weight.data[0] = 7.0
        self.grown.resize_(4).fill_(1.0)
        return x * self.weight


class Seeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)
        self.numpy = np.random.default_rng(3)
        self.python = random.Random(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(11)
        np.random.seed(12)  # noqa: NPY002
        random.seed(13)
        noise = torch.rand(x.shape, generator=self.generator)
        return x * noise + self.numpy.random() + self.python.random() + torch.rand(1)


class Switches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = True
        torch.autograd.set_detect_anomaly(False)
        return x * 2


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "norm": lambda: nn.BatchNorm1d(WIDTH),
    "dropout": lambda: nn.Dropout(0.3),
    "relu": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True)),
    "adds": Adds,
    "embeds": Embeds,
    "counts": Counts,
    "writes buffer": WritesBuffer,
    "replaces buffer": ReplacesBuffer,
    "changes itself": ChangesItself,
    "lazy": Lazy,
    "swaps data": SwapsData,
    "seeds": Seeds,
    "switches": Switches,
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer] | None] = {
    "none": None,
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, foreach=False),
    "adam foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True, amsgrad=True),
}
AXES = ("rerun", "flag", "threads", "layout", "batch", "stress")


class World:
    """A user's model, optimizer and inputs in the middle of a training run."""

    def __init__(self, names: list[str], optimizer: str, *, trained: bool = True) -> None:
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(WIDTH, WIDTH), *(BLOCKS[name]() for name in names))
        self.inputs = torch.randn(ROWS, WIDTH, requires_grad=True)
        make = OPTIMIZERS[optimizer]
        self.optimizer = None if make is None else make(self.model.parameters())
        for p in [*self.model.parameters(), self.inputs]:
            p.grad = torch.randn_like(p)
        if trained and self.optimizer is not None:
            self.optimizer.step()

    def owned(self) -> tuple[Any, ...]:
        return self.model, self.inputs, self.optimizer


@given(
    names=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    axes=st.sets(st.sampled_from(AXES), min_size=1, max_size=3),
    trained=st.booleans(),
    backward=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_scan_of_any_model_leaves_everything_as_it_was_and_repeats(
    names: list[str], optimizer: str, axes: set[str], trained: bool, backward: bool, seed: int
) -> None:
    world = World(names, optimizer, trained=trained)
    before = snapshot(*world.owned())

    def scan() -> detprobe.Report:
        return detprobe.scan(
            world.model,
            world.inputs,
            optimizer=world.optimizer,
            replays=2,
            axes=axes,
            backward=backward,
            seed=seed,
        )

    first = scan()
    assert moved(before, snapshot(*world.owned())) == []
    second = scan()
    assert moved(before, snapshot(*world.owned())) == []
    assert not [f for f in first.findings if f.axis in ("rerun", "stress")]
    assert first.findings == second.findings
    assert first.ops == second.ops


class BangError(Exception):
    """A user's own exception, that nothing else raises."""


class Fuse:
    """Counts ops over all passes of a scan and raises at the k-th."""

    __slots__ = ("error", "left")  # attributes in a dictionary would be put back between the passes

    def __init__(self, at: int, error: BaseException) -> None:
        self.left = at
        self.error = error

    def __call__(self, *ignored: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


class Bomb(TorchDispatchMode):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.fuse()
        return func(*args, **(kwargs or {}))


def armed_forward(world: World, fuse: Fuse) -> dict[str, Any]:
    inner = world.model.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        with Bomb(fuse):
            return inner(x)

    world.model.forward = forward
    return {}


def armed_loss(world: World, fuse: Fuse) -> dict[str, Any]:
    def loss(output: torch.Tensor) -> torch.Tensor:
        with Bomb(fuse):
            return output.sin().square().mean()

    return {"loss": loss}


def armed_backward(world: World, fuse: Fuse) -> dict[str, Any]:
    def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.grad_fn.register_prehook(fuse)
            output.grad_fn.register_hook(fuse)

    for module in world.model.modules():
        module.register_forward_hook(hook)
    return {}


def armed_optimizer(world: World, fuse: Fuse) -> dict[str, Any]:
    inner = world.optimizer.step

    def step() -> None:
        with Bomb(fuse):
            inner()

    world.optimizer.step = step
    return {}


PLACES = {"forward": armed_forward, "loss": armed_loss, "backward": armed_backward, "optimizer": armed_optimizer}
EVERYTHING = ["norm", "relu", "counts", "writes buffer", "replaces buffer", "lazy", "seeds", "switches"]


@pytest.mark.parametrize("kind", [BangError, KeyboardInterrupt, RuntimeError], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("place", sorted(PLACES))
def test_whatever_is_raised_at_any_op_reaches_the_user_and_nothing_moves(place: str, kind: type[BaseException]) -> None:
    raised = 0
    for at in range(1, 1000):
        world = World(EVERYTHING, "adam foreach" if at % 2 else "sgd")
        error = kind("at last")
        fuse = Fuse(at, error)
        options = PLACES[place](world, fuse)
        before = snapshot(*world.owned())
        caught: BaseException | None = None
        try:
            detprobe.scan(world.model, world.inputs, optimizer=world.optimizer, replays=2, **options)
        except BaseException as problem:
            caught = problem
        assert moved(before, snapshot(*world.owned())) == []
        if fuse.left > 0:
            assert caught is None
            break
        assert caught is error
        assert caught.args == ("at last",)
        raised += 1
    assert raised >= 4  # both passes went off at least at two ops


FUSES: list[Fuse] = []


@torch.library.custom_op("detprobe_test::fragile", mutates_args={"total"})
def fragile(x: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    total.add_(1.0)
    torch.rand(3)
    random.random()
    FUSES[-1]()
    return x * 2


@pytest.mark.parametrize("kind", [BangError, KeyboardInterrupt], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at", range(1, 9))
def test_an_op_that_raises_in_a_replay_moves_nothing(at: int, kind: type[BaseException]) -> None:
    world = World(["norm", "writes buffer", "switches"], "sgd")
    total = torch.zeros(3)
    before = snapshot(*world.owned(), total)
    FUSES.append(Fuse(at, kind("in a replay")))
    caught: BaseException | None = None
    try:
        detprobe.scan(lambda x: fragile(world.model(x), total), world.inputs, backward=False, replays=6)
    except BaseException as problem:
        caught = problem
    assert moved(before, snapshot(*world.owned(), total)) == []
    assert caught is None or caught is FUSES[-1].error
    if kind is KeyboardInterrupt and at <= 6:
        assert caught is FUSES[-1].error


def test_a_progress_callable_that_raises_moves_nothing() -> None:
    world = World(EVERYTHING, "sgd")
    before = snapshot(*world.owned())

    def progress(done: int, total: int | None, text: str) -> None:
        raise BangError

    with pytest.raises(BangError):
        detprobe.scan(world.model, world.inputs, optimizer=world.optimizer, progress=progress)
    assert moved(before, snapshot(*world.owned())) == []
    detprobe.scan(world.model, world.inputs, replays=2)  # and the next scan may run


def test_a_budget_that_is_spent_at_once_moves_nothing() -> None:
    world = World(EVERYTHING, "adam")
    before = snapshot(*world.owned())
    report = detprobe.scan(world.model, world.inputs, optimizer=world.optimizer, budget=0.0)
    assert moved(before, snapshot(*world.owned())) == []
    assert any("The budget of 0 s was spent" in note for note in report.notes)
    assert not [row for row in report.ops if row.verdict == "stable" and row.bound]
