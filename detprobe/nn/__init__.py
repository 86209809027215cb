"""Modules in one written order, drop-in for those of torch.nn: same constructor, same state_dict, detprobe.ops inside.

`convert` swaps them into a model.
"""

from __future__ import annotations

from detprobe.nn._convert import Conversion, convert
from detprobe.nn._modules import (
    BatchNorm1d,
    BatchNorm2d,
    CrossEntropyLoss,
    Embedding,
    EmbeddingBag,
    LayerNorm,
    LogSoftmax,
    RMSNorm,
    Softmax,
)

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Conversion",
    "CrossEntropyLoss",
    "Embedding",
    "EmbeddingBag",
    "LayerNorm",
    "LogSoftmax",
    "RMSNorm",
    "Softmax",
    "convert",
]
