"""Swapping torch.nn's modules for detprobe's, and saying what was swapped and what was left."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _LazyNormBase, _NormBase
from torch.nn.modules.loss import _Loss

from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.nn import _modules

__all__ = ["Conversion", "convert"]

_SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    getattr(nn, name): getattr(_modules, name) for name in _modules.__all__
}
_OURS = tuple(_SWAPS.values())
# What a reader would look for in the list of what was swapped: norms, softmax and losses without an order here.
_KIN = (
    *(_NormBase, nn.GroupNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d, nn.Softmin, nn.Softmax2d),
    *(nn.AdaptiveLogSoftmaxWithLoss, nn.TripletMarginWithDistanceLoss, _Loss),
)
_INSIDE = {
    nn.TransformerEncoderLayer: "without gradients, in eval mode, torch goes around its norms: "
    "torch.backends.mha.set_fastpath_enabled(False)",
    nn.MultiheadAttention: "its softmax is inside of torch's attention kernel",
}


@dataclass(frozen=True, eq=False)
class Conversion:
    """What `convert` did."""

    model: nn.Module = field(repr=False)
    """The converted model: the one that was passed, or the copy."""
    swapped: list[tuple[str, str]]
    """Qualified name and old class of each module that was swapped; a module in two places stands here once."""
    left: list[tuple[str, str, str]]
    """Qualified name, class and reason of each norm, softmax and loss that is still torch's."""

    def __str__(self) -> str:
        lines = [f"swapped {len(self.swapped)}, left {len(self.left)}"]
        rows = [("", name, old, f"detprobe.nn.{old}") for name, old in self.swapped]
        rows += [("left", name, old, why) for name, old, why in self.left]
        if rows:
            name_width = max(len(_shown(name)) for _, name, _, _ in rows)
            old_width = max(len(old) for _, _, old, _ in rows)
            lines += [
                f"  {_shown(name):<{name_width}}  {old:<{old_width}}  {'left: ' if mark else '-> '}{what}"
                for mark, name, old, what in rows
            ]
        return "\n".join(lines)


def _shown(name: str) -> str:
    return name or "(the model)"


def convert(model: nn.Module, *, inplace: bool = False) -> Conversion:
    """Swap every LayerNorm, RMSNorm, BatchNorm1d, BatchNorm2d, Softmax, LogSoftmax, CrossEntropyLoss, Embedding and
    EmbeddingBag of torch.nn.

    Only modules of exactly these types are swapped: a subclass may compute something else. A swapped module is the
    same object with another class, so its parameters, buffers, hooks and every reference to it stay what they were.

    Example:
        >>> print(detprobe.nn.convert(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))))
        swapped 1, left 0
          1  LayerNorm  -> detprobe.nn.LayerNorm

    Args:
        model: any module; also one that is itself of a type above.
        inplace: change `model` itself instead of a deep copy.

    Returns:
        Conversion: the model, what was swapped and what was left, with the reason.

    Raises:
        ArgumentTypeError: not a module.
        ArgumentValueError: a model that copy.deepcopy refuses.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"convert: model: expected a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(inplace, bool):
        raise ArgumentTypeError(f"convert: inplace: expected True or False, got {inplace!r}")
    if not inplace:
        try:
            model = copy.deepcopy(model)
        except Exception as error:
            raise ArgumentValueError(
                f"convert: model: it cannot be copied ({error}): pass inplace=True, or run lazy modules once before"
            ) from error
    swapped: list[tuple[str, str]] = []
    left: list[tuple[str, str, str]] = []
    for name, module in model.named_modules():
        old = type(module)
        if old in _SWAPS and not _refused(module):
            module.__class__ = _SWAPS[old]
            swapped.append((name, old.__name__))
        elif why := _why_left(module, old):
            left.append((name, old.__name__, why))
    return Conversion(model=model, swapped=swapped, left=left)


def _refused(module: nn.Module) -> bool:
    """Tables that are written to on the way, or have another kind of gradient."""
    return isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and (module.max_norm is not None or module.sparse)


def _why_left(module: nn.Module, kind: type[Any]) -> str | None:
    if kind in _OURS:
        return None
    if _refused(module):
        return "max_norm writes into its weight on the way, and sparse has another kind of gradient"
    if isinstance(module, _LazyNormBase):
        return "it has no shape yet: run the model once, then convert"
    for stock in _SWAPS:
        if isinstance(module, stock):
            return f"a subclass of {stock.__name__}, which may compute something else"
    for stock, why in _INSIDE.items():
        if isinstance(module, stock):
            return why
    return "detprobe has no order for it" if isinstance(module, _KIN) else None
