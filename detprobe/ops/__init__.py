"""Reductions and scatters in one written order: the same bits on every CPU and GPU, for any threads and any strides.

Each function has torch's own signature, and the gradient of each is deterministic in the same sense. The orders, the
corner cases and the error bounds are in csrc/README.md. Level: device_to_device.

**Gradients.** Reverse mode, also of gradients where torch has them. There is no forward mode (torch.func.jvp).

**torch.compile, export.** The ops are opaque to compilers, so they give the same bits inside of a graph.

**torch.vmap.** Ops with dimensions run as one call; those with an index do where the index is the same for all samples.
The normalizations, cross_entropy and what has no dimension (put, take, index, index_put, embedding_bag) run once for
each sample.

**Autocast.** On any device, float16 and bfloat16 inputs of every reduction but batch_norm are converted to float32
first, and so the result is float32. `dtype=` is applied after that conversion. batch_norm and the scatter family take
their inputs as they are; only where the input and what goes into it are floats of two dtypes, which is an error
elsewhere, both are converted to the wider one.

**Plans.** Of an index that stays the same, `index_plan` makes what stands in its place and is faster.
"""

from __future__ import annotations

import torch

from detprobe.ops import _elementwise  # noqa: F401 - registers what the gradients are made of
from detprobe.ops._batch_norm import batch_norm
from detprobe.ops._cross_entropy import cross_entropy
from detprobe.ops._embedding import embedding
from detprobe.ops._embedding_bag import embedding_bag
from detprobe.ops._gather import gather, index, index_select, take
from detprobe.ops._histograms import Histogram, bincount, histc, histogram
from detprobe.ops._moments import logsumexp, std, var, vector_norm
from detprobe.ops._norms import layer_norm, rms_norm
from detprobe.ops._plan import IndexPlan, index_plan
from detprobe.ops._put import index_copy, index_put, put, scatter
from detprobe.ops._scatter import index_add, scatter_add, scatter_reduce
from detprobe.ops._segments import segment_max, segment_mean, segment_sum
from detprobe.ops._softmax import log_softmax, softmax
from detprobe.ops._sums import cumsum, dot, exact_sum, mean, sum

__all__ = [
    "Histogram",
    "IndexPlan",
    "batch_norm",
    "bincount",
    "cross_entropy",
    "cumsum",
    "dot",
    "embedding",
    "embedding_bag",
    "exact_sum",
    "gather",
    "histc",
    "histogram",
    "index",
    "index_add",
    "index_copy",
    "index_plan",
    "index_put",
    "index_select",
    "layer_norm",
    "log_softmax",
    "logsumexp",
    "mean",
    "put",
    "rms_norm",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "segment_max",
    "segment_mean",
    "segment_sum",
    "softmax",
    "std",
    "sum",
    "take",
    "var",
    "vector_norm",
]

_WIDENED = "sum exact_sum mean dot var std vector_norm logsumexp cumsum softmax layer_norm cross_entropy".split()
for _name in _WIDENED:
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"detprobe::{_name}", _device, torch.float32)
