"""Convolutions as plain data, and the table of real ones that `conv` looks at by default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["OPERATIONS", "PROBLEMS", "ConvProblem"]

OPERATIONS = ("forward", "data gradient", "weight gradient")


@dataclass(frozen=True)
class ConvProblem:
    """One convolution layer and its input.

    Example:
        >>> ConvProblem("mine", batch=8, channels=64, filters=128, size=(56, 56), kernel=(3, 3), padding=1)

    `stride`, `padding`, `dilation` and `output_padding` hold for every dimension; channels are those of the input,
    filters those of the output.
    """

    name: str
    batch: int
    channels: int
    filters: int
    size: tuple[int, ...]
    """Of the input, without batch and channels: one to three dimensions."""
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    output_padding: int = 0
    """Of a transposed one."""

    def __post_init__(self) -> None:
        for name in ("size", "kernel"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not 1 <= len(value) <= 3:
                raise ArgumentTypeError(f"{self._called}: {name}: expected a tuple of 1 to 3 sizes, got {value!r:.80}")
        if len(self.size) != len(self.kernel):
            raise ArgumentValueError(f"{self._called}: size {self.size} and kernel {self.kernel} differ in dimensions")
        least = {"padding": 0, "output_padding": 0}
        for name in ("batch", "channels", "filters", "stride", "padding", "dilation", "groups", "output_padding"):
            self._check(name, getattr(self, name), least.get(name, 1))
        for name in ("size", "kernel"):
            for value in getattr(self, name):
                self._check(name, value, 1)
        if self.channels % self.groups or self.filters % self.groups:
            raise ArgumentValueError(
                f"{self._called}: groups: expected a divisor of {self.channels} channels and {self.filters} filters, "
                f"got {self.groups}"
            )
        if min(self.output) < 1:
            raise ArgumentValueError(f"{self._called}: the output would have the size {self.output}: enlarge the input")

    @property
    def _called(self) -> str:
        return f"ConvProblem {self.name!r:.40}"

    def _check(self, name: str, value: Any, least: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ArgumentTypeError(f"{self._called}: {name}: expected an integer, got {value!r:.80}")
        if value < least:
            raise ArgumentValueError(f"{self._called}: {name}: expected at least {least}, got {value}")

    @property
    def output(self) -> tuple[int, ...]:
        """Size of the output, without batch and filters."""
        reach = [self.dilation * (k - 1) + 1 for k in self.kernel]
        if self.transposed:
            free = self.output_padding - 2 * self.padding
            return tuple((n - 1) * self.stride + r + free for n, r in zip(self.size, reach, strict=True))
        return tuple((n + 2 * self.padding - r) // self.stride + 1 for n, r in zip(self.size, reach, strict=True))

    def with_batch(self, batch: int) -> ConvProblem:
        return replace(self, batch=batch)

    def __str__(self) -> str:
        text = f"{self.batch}x{self.channels}x{'x'.join(map(str, self.size))} -> {self.filters}"
        text += f", kernel {'x'.join(map(str, self.kernel))}"
        for name, plain in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
            value = getattr(self, name)
            text += f", {name} {value}" if value != plain else ""
        return text + (", transposed" if self.transposed else "")

    def tensors(self, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Input, weight and gradient of the output: normally distributed, float32, on the CPU, the same everywhere."""
        source = torch.Generator().manual_seed(seed)
        first, second = (self.channels, self.filters) if self.transposed else (self.filters, self.channels)
        shapes = (
            (self.batch, self.channels, *self.size),
            (first, second // self.groups, *self.kernel),
            (self.batch, self.filters, *self.output),
        )
        x, w, g = (torch.randn(shape, generator=source) for shape in shapes)
        return x, w, g

    def run(self, operation: str, x: torch.Tensor, w: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """One of OPERATIONS by torch, and nothing else beside it."""
        dims = len(self.size)
        where = [[self.stride] * dims, [self.padding] * dims, [self.dilation] * dims]
        rest = (self.transposed, [self.output_padding] * dims, self.groups)
        if operation == "forward":
            return torch.ops.aten.convolution(x, w, None, *where, *rest)  # type: ignore[no-any-return]
        data = operation == "data gradient"
        found = torch.ops.aten.convolution_backward(g, x, w, None, *where, *rest, [data, not data, False])
        return found[0 if data else 1]  # type: ignore[no-any-return]


def _image(name: str, channels: int, filters: int, size: int, kernel: int, **more: Any) -> ConvProblem:
    return ConvProblem(name, 16, channels, filters, (size, size), (kernel, kernel), **more)


PROBLEMS: tuple[ConvProblem, ...] = (
    _image("ResNet-50 stem", 3, 64, 224, 7, stride=2, padding=3),
    _image("ResNet-50 conv2 3x3", 64, 64, 56, 3, padding=1),
    _image("ResNet-50 conv3 1x1", 256, 128, 56, 1),
    _image("ResNet-50 conv4 3x3", 256, 256, 28, 3, stride=2, padding=1),
    _image("ResNet-50 conv5 3x3", 512, 512, 7, 3, padding=1),
    _image("depthwise 3x3", 144, 144, 56, 3, padding=1, groups=144),
    _image("dilated 3x3", 256, 256, 28, 3, padding=2, dilation=2),
    _image("transposed 4x4", 256, 128, 16, 4, stride=2, padding=1, transposed=True),
    ConvProblem("3-D 3x3x3", 2, 16, 32, (16, 56, 56), (3, 3, 3), padding=1),
)
"""A stem and blocks of ResNet-50, a block of MobileNetV2, a dilated one of DeepLab, a decoder's, a video net's."""
