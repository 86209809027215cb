"""The arguments of a scan, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.scanning._axes import AXES
from detprobe.scanning._tree import map_tensors, tensors_in

__all__ = [
    "Arguments",
    "check_axes",
    "check_device",
    "check_optimizer",
    "split_inputs",
]


class Arguments(NamedTuple):
    """How the model is called: `model(*args, **kwargs)`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def from_leaves(self) -> Arguments:
        """The same, where the step starts at the inputs: a graph behind them is the user's, and is left alone."""
        if all(t.is_leaf for t in self.tensors()):
            return self

        def leaf(tensor: torch.Tensor) -> torch.Tensor:
            return tensor if tensor.is_leaf else tensor.detach().requires_grad_()

        return Arguments(map_tensors(leaf, self.args), map_tensors(leaf, self.kwargs))

    def tensors(self) -> list[torch.Tensor]:
        return list(tensors_in((self.args, self.kwargs)))


def split_inputs(inputs: Any) -> Arguments:
    """A tensor, a tuple (positional), a dict (keywords) or (tuple, dict), as the model is called with it."""
    if isinstance(inputs, torch.Tensor):
        return Arguments((inputs,), {})
    if isinstance(inputs, Mapping):
        return Arguments((), _keywords(inputs))
    if isinstance(inputs, tuple):
        if len(inputs) == 2 and isinstance(inputs[0], tuple) and isinstance(inputs[1], Mapping):
            return Arguments(inputs[0], _keywords(inputs[1]))
        return Arguments(inputs, {})
    raise ArgumentTypeError(
        "inputs: expected a tensor, a tuple (positional arguments), a dict (keyword arguments) or (tuple, dict), "
        f"got {type(inputs).__name__}: wrap it in a tuple, as in scan(model, (inputs,))"
    )


def _keywords(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    for key in mapping:
        if not isinstance(key, str):
            raise ArgumentTypeError(
                f"inputs: a dict holds keyword arguments, so its keys must be strings; got the key {key!r}: "
                "to pass a dict as one argument, wrap it in a tuple, as in scan(model, (inputs,))"
            )
    return dict(mapping)


def check_optimizer(value: Any) -> None:
    if not callable(getattr(value, "step", None)) or not isinstance(getattr(value, "param_groups", None), list):
        raise ArgumentTypeError(
            f"optimizer: expected a torch.optim.Optimizer, got {type(value).__name__}: "
            "make one, as in torch.optim.Adam(model.parameters())"
        )


def check_axes(axes: Any) -> tuple[str, ...]:
    """The axes in their own order, "rerun" always among them: the others are judged against it."""
    known = ", ".join(repr(axis) for axis in AXES)
    if isinstance(axes, str) or not isinstance(axes, tuple | list | set | frozenset):
        raise ArgumentTypeError(f"axes: expected a tuple of names out of {known}; got {axes!r}")
    unknown = [axis for axis in axes if axis not in AXES]
    if unknown:
        raise ArgumentValueError(f"axes: expected names out of {known}; got {unknown[0]!r}")
    if not axes:
        raise ArgumentValueError(f"axes: expected at least one of {known}; got none: ('rerun', 'flag') is the default")
    return tuple(axis for axis in AXES if axis == "rerun" or axis in axes)


def check_device(arguments: Arguments, parameters: list[torch.Tensor], *, need_tensor: bool) -> torch.device:
    """The device of the step.

    Raises:
        ArgumentValueError: there is no tensor, or one without data, or inputs and parameters live apart.
    """
    inputs = arguments.tensors()
    if not inputs and need_tensor:
        raise ArgumentValueError(
            "inputs: expected at least one tensor, got none: pass what the model is called with, "
            "as a tensor, a tuple, a dict or (tuple, dict)"
        )
    for what, tensors in (("inputs", inputs), ("the model's parameters and buffers", parameters)):
        for tensor in tensors:
            if is_lazy(tensor):
                raise ArgumentValueError(
                    f"{what}: expected tensors with data, got an uninitialized parameter of a lazy module: "
                    "run the model once before the scan"
                )
            if tensor.is_meta:
                raise ArgumentValueError(
                    f"{what}: expected tensors with data, got a meta tensor of shape {tuple(tensor.shape)}: "
                    "make it on a real device first (module.to_empty and initialise it, or torch.randn)"
                )
    for tensor in inputs:
        if tensor.layout is not torch.strided or tensor.is_nested:
            kind = "a nested one" if tensor.is_nested else f"one with the layout {tensor.layout}"
            raise ArgumentValueError(
                f"inputs: expected strided tensors, got {kind}: replay compares plain "
                "memory; pass .to_dense() (nested: .to_padded_tensor(0)), or build it inside of the model"
            )
    homes = {t.device.type for t in inputs if t.dim() > 0} or {t.device.type for t in inputs}
    if len(homes) > 1:
        raise ArgumentValueError(
            f"inputs: expected tensors on one device, got {', '.join(sorted(homes))}: move them with .to(device)"
        )
    owners = {t.device.type for t in parameters}
    if homes and owners and not homes & owners:
        raise ArgumentValueError(
            f"inputs are on {homes.pop()} and the model's parameters on {', '.join(sorted(owners))}: "
            "move one of them with .to(device)"
        )
    for tensor in (*inputs, *parameters):
        if isinstance(tensor, FakeTensor):
            raise ArgumentValueError("inputs and model: expected tensors with data, got a FakeTensor: it holds none")
    for tensor in (*inputs, *parameters):
        return tensor.device
    return torch.device("cpu")
