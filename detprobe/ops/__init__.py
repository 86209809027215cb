"""Reductions in one written order: the same bits on every CPU and GPU, for any number of threads and any strides.

Each function has torch's own signature, and the gradient of each is deterministic in the same sense. The orders, the
corner cases and the error bounds are in csrc/README.md. Level: device_to_device.

**Gradients.** Reverse mode, also of gradients where torch has them. There is no forward mode (torch.func.jvp).

**torch.compile, export.** The ops are opaque to compilers, so they give the same bits inside of a graph.

**torch.vmap.** Ops with dimensions run as one call. The normalizations and cross_entropy run once for each sample.

**Autocast.** On any device, float16 and bfloat16 inputs of every op but batch_norm are converted to float32 first, and
so the result is float32. batch_norm takes its inputs as they are. `dtype=` is applied after that conversion.
"""

from __future__ import annotations

import torch

from detprobe.ops import _elementwise  # noqa: F401 - registers what the gradients are made of
from detprobe.ops._batch_norm import batch_norm
from detprobe.ops._cross_entropy import cross_entropy
from detprobe.ops._moments import logsumexp, std, var, vector_norm
from detprobe.ops._norms import layer_norm, rms_norm
from detprobe.ops._softmax import log_softmax, softmax
from detprobe.ops._sums import cumsum, dot, exact_sum, mean, sum

__all__ = [
    "batch_norm",
    "cross_entropy",
    "cumsum",
    "dot",
    "exact_sum",
    "layer_norm",
    "log_softmax",
    "logsumexp",
    "mean",
    "rms_norm",
    "softmax",
    "std",
    "sum",
    "var",
    "vector_norm",
]

_WIDENED = "sum exact_sum mean dot var std vector_norm logsumexp cumsum softmax layer_norm cross_entropy".split()
for _name in _WIDENED:
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"detprobe::{_name}", _device, torch.float32)
