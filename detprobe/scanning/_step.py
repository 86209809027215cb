"""One step of the user's training as the scan runs it: forward, loss, backward, optimizer, under a dispatch mode."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.scanning._inputs import Arguments
from detprobe.scanning._places import ModuleStack, Places
from detprobe.scanning._state import State
from detprobe.scanning._tree import tensors_in

__all__ = ["Outcome", "Step", "seed_everywhere"]


@dataclass
class Outcome:
    """What a step handed out."""

    outputs: list[torch.Tensor]
    gradients: list[torch.Tensor]
    notes: list[str] = field(default_factory=list)


def seed_everywhere(seed: int) -> None:
    """Seed the global generators, and start no device for it."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - models draw from the global one
    random.seed(seed)


@dataclass
class Step:
    """The user's step."""

    model: Callable[..., Any]
    arguments: Arguments
    loss: Callable[[Any], Any] | None
    backward: bool
    optimizer: Any
    seed: int
    lenient: bool = False
    """Without anything to differentiate, leave the backward out instead of refusing."""

    def run(self, mode: AbstractContextManager[Any], places: Places, modules: ModuleStack, state: State) -> Outcome:
        """Run it once, every op under `mode`. Gradients start from None, as after zero_grad()."""
        seed_everywhere(self.seed)
        places.phase = "forward"
        if self.backward:
            for leaf in state.leaves():
                leaf.grad = None
        with modules, torch.set_grad_enabled(self.backward or torch.is_grad_enabled()):
            with mode:
                output = self.model(*self.arguments.args, **self.arguments.kwargs)
                value = self.loss(output) if self.loss is not None else None
            outputs = list(tensors_in(output))
            outcome = Outcome(outputs, [])
            if self.backward:
                starts, cotangents = self._starts(outputs, value, outcome)
                state.keep_leaves_of(starts)
                if starts:
                    self._backward(mode, places, starts, cotangents, outcome)
                outcome.gradients = [leaf.grad for leaf in state.leaves() if leaf.grad is not None]
            if self.optimizer is not None:
                places.phase = "optimizer"
                with mode:
                    self._optimize(output)
        return outcome

    def _starts(
        self, outputs: list[torch.Tensor], value: Any, outcome: Outcome
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """Where the backward starts, and from which cotangent: the loss, or a seeded random one per output."""
        if self.loss is not None:
            return [_scalar(value)], [None]
        floating = [t for t in outputs if t.is_floating_point() or t.is_complex()]
        if not floating and not self.lenient:
            kinds = sorted({str(t.dtype).removeprefix("torch.") for t in outputs})
            raise ArgumentValueError(
                "the backward needs a floating tensor in the model's output, and it has "
                f"{'only ' + ', '.join(kinds) if kinds else 'no tensor'}: pass a loss, or backward=False"
            )
        starts = [t for t in floating if t.requires_grad]
        if not starts:
            if not self.lenient:
                outcome.notes.append("No output requires a gradient: the backward was not scanned.")
            return [], []
        # Ones would hide atomics: sums of 1.0 are exact in any order.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        return starts, [_cotangent(t, generator) for t in starts]

    def _backward(
        self,
        mode: AbstractContextManager[Any],
        places: Places,
        starts: list[torch.Tensor],
        cotangents: list[torch.Tensor | None],
        outcome: Outcome,
    ) -> None:
        places.phase = "backward"
        try:
            with mode:
                torch.autograd.backward(starts, cotangents)
        except RuntimeError as error:
            if "backward through the graph a second time" not in str(error) or self.loss is not None:
                raise
            outcome.notes.append(
                "The model used up the graph of its own output (it differentiates inside of its forward): the backward "
                "from the output was not scanned. Keep it with create_graph=True, or pass backward=False."
            )

    def _optimize(self, output: Any) -> None:
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            value = torch.zeros((), device="cpu") if self.loss is None else self.loss(output).detach()
            self.optimizer.step(lambda: value)
        else:
            self.optimizer.step()


def _scalar(value: Any) -> torch.Tensor:
    advice = "return one floating number that depends on the output, as in lambda output: output.square().mean()"
    if not isinstance(value, torch.Tensor):
        raise ArgumentTypeError(f"loss: expected a scalar tensor, got {type(value).__name__}: {advice}")
    if value.numel() != 1:
        raise ArgumentValueError(f"loss: expected a scalar tensor, got shape {tuple(value.shape)}: {advice}")
    if not value.is_floating_point() or not value.requires_grad:
        raise ArgumentValueError(
            f"loss: expected a floating scalar with a gradient, got {str(value.dtype).removeprefix('torch.')} "
            f"with requires_grad={value.requires_grad}: {advice}"
        )
    return value


def _cotangent(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal numbers, drawn on the CPU: the same for every device."""
    kind = torch.complex64 if tensor.is_complex() else torch.float32
    return torch.randn(tensor.shape, generator=generator, dtype=kind, device="cpu").to(tensor.device, tensor.dtype)
