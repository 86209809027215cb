"""The definition of detprobe's native ops in numpy: slow, plain, and a witness of its own.

Nothing here imports the extension, torch or the rest of detprobe. The text that it follows is csrc/README.md; the CPU
kernels, the emulated CUDA kernels and the CUDA kernels have to give the same bits.

The reductions work on rows: an op takes [rows, n] arrays of acc, which `widen` makes of stored elements, and gives acc
before its one rounding, which is `narrow`:

    narrow(softmax(widen(bits, "bfloat16")), "bfloat16")

The scatter ops take torch's arguments as arrays of acc; `store` rounds and keeps the bits of what no record touched.
"""

from detprobe.reference.arithmetic import fma
from detprobe.reference.backward import (
    batch_norm_inference_backward,
    batch_norm_training_backward,
    cumsum_backward,
    dot_backward,
    layer_norm_backward,
    log_softmax_backward,
    logsumexp_backward,
    mean_backward,
    rms_norm_backward,
    softmax_backward,
    std_backward,
    sum_backward,
    var_backward,
    vector_norm_backward,
)
from detprobe.reference.compare import Format, Kind, Record, compare
from detprobe.reference.digest import digest
from detprobe.reference.embeddings import embedding, embedding_backward, embedding_bag, embedding_bag_backward
from detprobe.reference.exact import exact_sum_rows
from detprobe.reference.formats import acc_dtype, narrow, widen
from detprobe.reference.functions import exp, log
from detprobe.reference.histograms import bincount, histc, histogram, histogram_edges
from detprobe.reference.losses import CrossEntropy, cross_entropy, cross_entropy_backward
from detprobe.reference.ops import (
    Normalized,
    batch_norm_inference,
    batch_norm_training,
    dot,
    layer_norm,
    log_softmax,
    logsumexp,
    mean,
    rms_norm,
    running_average,
    softmax,
    std,
    var,
    vector_norm,
)
from detprobe.reference.order import largest_rows, max_rows, min_rows, sum_products, sum_rows
from detprobe.reference.scan import cumsum_rows
from detprobe.reference.scatter import (
    Scattered,
    gather,
    index_add,
    index_copy,
    index_put,
    index_put_accumulate,
    put,
    put_accumulate,
    scatter_add,
    scatter_reduce,
    store,
)
from detprobe.reference.scatter_backward import (
    gather_backward,
    index_add_backward,
    index_backward,
    index_copy_backward,
    index_put_backward,
    index_select_backward,
    put_backward,
    scatter_reduce_backward,
    take_backward,
)
from detprobe.reference.segments import (
    segment_max,
    segment_max_backward,
    segment_mean,
    segment_mean_backward,
    segment_offsets,
    segment_sum,
    segment_sum_backward,
    segment_tree,
)

__all__ = [
    "CrossEntropy",
    "Format",
    "Kind",
    "Normalized",
    "Record",
    "Scattered",
    "acc_dtype",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "batch_norm_training",
    "batch_norm_training_backward",
    "bincount",
    "compare",
    "cross_entropy",
    "cross_entropy_backward",
    "cumsum_backward",
    "cumsum_rows",
    "digest",
    "dot",
    "dot_backward",
    "embedding",
    "embedding_backward",
    "embedding_bag",
    "embedding_bag_backward",
    "exact_sum_rows",
    "exp",
    "fma",
    "gather",
    "gather_backward",
    "histc",
    "histogram",
    "histogram_edges",
    "index_add",
    "index_add_backward",
    "index_backward",
    "index_copy",
    "index_copy_backward",
    "index_put",
    "index_put_accumulate",
    "index_put_backward",
    "index_select_backward",
    "largest_rows",
    "layer_norm",
    "layer_norm_backward",
    "log",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "logsumexp_backward",
    "max_rows",
    "mean",
    "mean_backward",
    "min_rows",
    "narrow",
    "put",
    "put_accumulate",
    "put_backward",
    "rms_norm",
    "rms_norm_backward",
    "running_average",
    "scatter_add",
    "scatter_reduce",
    "scatter_reduce_backward",
    "segment_max",
    "segment_max_backward",
    "segment_mean",
    "segment_mean_backward",
    "segment_offsets",
    "segment_sum",
    "segment_sum_backward",
    "segment_tree",
    "softmax",
    "softmax_backward",
    "std",
    "std_backward",
    "store",
    "sum_backward",
    "sum_products",
    "sum_rows",
    "take_backward",
    "var",
    "var_backward",
    "vector_norm",
    "vector_norm_backward",
    "widen",
]
