"""The modules. Each is a subclass of torch.nn's and adds nothing to its state: `convert` turns one into the other."""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from detprobe import ops
from detprobe.ops._autograd import acc

__all__ = [
    *("BatchNorm1d", "BatchNorm2d", "CrossEntropyLoss", "Embedding", "EmbeddingBag"),
    *("LayerNorm", "LogSoftmax", "RMSNorm", "Softmax"),
]


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm on `detprobe.ops.layer_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """torch.nn.RMSNorm on `detprobe.ops.rms_norm`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class Softmax(nn.Softmax):
    """torch.nn.Softmax on `detprobe.ops.softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.softmax(input, _chosen(self.dim, input))


class LogSoftmax(nn.LogSoftmax):
    """torch.nn.LogSoftmax on `detprobe.ops.log_softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.log_softmax(input, _chosen(self.dim, input))


def _chosen(dim: int | None, input: Tensor) -> int:
    """The dimension, or torch's old choice where a module was built without one."""
    if dim is not None:
        return dim
    chosen = 0 if input.dim() in (0, 1, 3) else 1
    warnings.warn(f"softmax without dim: {chosen} is taken, as torch does; pass dim={chosen}", stacklevel=3)
    return chosen


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """torch.nn.CrossEntropyLoss on `detprobe.ops.cross_entropy`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, float(self.label_smoothing)
        )


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, input: Tensor) -> Tensor:
    module._check_input_dim(input)
    tracked = module.training and module.track_running_stats
    momentum = 0.0 if module.momentum is None else module.momentum
    if tracked and module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        if module.momentum is None:
            # Read on the host, as torch's own module does: the one place here that waits for a GPU.
            momentum = 1.0 / float(module.num_batches_tracked.to(acc(input.dtype)))
    running = (module.running_mean, module.running_var) if tracked or not module.training else (None, None)
    of_batch = module.training or (module.running_mean is None and module.running_var is None)
    return ops.batch_norm(input, *running, module.weight, module.bias, of_batch, momentum, module.eps)


class BatchNorm1d(nn.BatchNorm1d):
    """torch.nn.BatchNorm1d on `detprobe.ops.batch_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        return _batch_norm(self, input)


class BatchNorm2d(nn.BatchNorm2d):
    """torch.nn.BatchNorm2d on `detprobe.ops.batch_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        return _batch_norm(self, input)


class Embedding(nn.Embedding):
    """torch.nn.Embedding on `detprobe.ops.embedding`; max_norm and sparse are refused when it runs."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )


class EmbeddingBag(nn.EmbeddingBag):
    """torch.nn.EmbeddingBag on `detprobe.ops.embedding_bag`; max_norm and sparse are refused when it runs."""

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return ops.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )
