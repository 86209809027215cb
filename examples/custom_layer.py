"""A user's own layer, attention pooling, trained on handwritten digits: do the bits depend on the number of threads?

    python examples/custom_layer.py

The layer is written once and takes its functions as an argument: torch's, or detprobe's of the same signatures. The
same model is trained from the same seed with 1, 2 and 4 threads (and on a GPU where there is one), and the digest of
all trained parameters is printed.

Nothing else may depend on the threads, or the comparison would say nothing. So the rest of the model is the same in
both cases, and made of two kinds of operations only:

- operations that round each element once, wherever it is computed: products, ReLU, the update of a parameter;
- sums, which detprobe.ops takes: those of the linear maps, of the loss, and of the gradients.

There is no torch.matmul, because its order of additions is the library's affair and may change with the threads. A
linear map as a sum of products is slower than a matmul: it is here to have a model in which every bit is accounted for.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import detprobe

WIDTH = 32
HEADS = 4
BATCH = 64
RATE = 0.2
TRAINED_ON = 1437  # of 1797; the others are for the accuracy


class _Times(torch.autograd.Function):
    """a * b of equally many dimensions. A broadcast's gradient is a sum, and autograd would leave it to torch.sum."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return _fold(g * b, a.shape) if wanted[0] else None, _fold(g * a, b.shape) if wanted[1] else None


def _fold(gradient: Tensor, shape: torch.Size) -> Tensor:
    dims = [at for at, size in enumerate(shape) if size != gradient.shape[at]]
    return detprobe.ops.sum(gradient, dim=dims, keepdim=True) if dims else gradient


times = _Times.apply


@dataclass(frozen=True)
class Functions:
    """What the layer is made of."""

    sum: Any
    softmax: Any
    layer_norm: Any


TORCH = Functions(torch.sum, torch.softmax, nn.functional.layer_norm)
DETPROBE = Functions(detprobe.ops.sum, detprobe.ops.softmax, detprobe.ops.layer_norm)


def initial(outputs: int, inputs: int) -> nn.Parameter:
    """Uniform numbers of variance 1 / inputs. Not torch.randn, whose numbers are others on other CPUs."""
    return nn.Parameter((torch.rand(outputs, inputs) - 0.5) * (12 / inputs) ** 0.5)


class AttentionPool(nn.Module):
    """Weighs the patches of an image by a learned query per head, adds them up and normalizes the result."""

    def __init__(self, width: int, heads: int, functions: Functions) -> None:
        super().__init__()
        self.functions = functions
        self.query = initial(heads, width)
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, patches: Tensor) -> Tensor:  # [n, patches, width] -> [n, heads * width]
        f = self.functions
        each = patches[:, None]  # [n, 1, patches, width]
        scores = f.sum(times(each, self.query[None, :, None]), dim=-1)  # [n, heads, patches]
        shares = f.softmax(scores, dim=-1)
        pooled = f.sum(times(each, shares[..., None]), dim=2)  # [n, heads, width]
        return f.layer_norm(pooled, self.weight.shape, self.weight, self.bias).flatten(1)


class Linear(nn.Module):
    """A linear map as one sum of products per output."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = initial(outputs, inputs)

    def forward(self, x: Tensor) -> Tensor:  # [n, inputs] -> [n, outputs]
        return detprobe.ops.sum(times(x[:, None], self.weight[None]), dim=-1)


class Model(nn.Module):
    """Patches, each with its place, embedded; pooled by attention; classified."""

    def __init__(self, functions: Functions) -> None:
        super().__init__()
        self.embed = Linear(8 + 8, WIDTH)
        self.pool = AttentionPool(WIDTH, HEADS, functions)
        self.classify = Linear(HEADS * WIDTH, 10)

    def forward(self, patches: Tensor) -> Tensor:  # [n, 8, 8 + 8] -> [n, 10]
        embedded = torch.relu(self.embed(patches.flatten(0, 1))).unflatten(0, (-1, 8))
        return self.classify(self.pool(embedded))


def digits() -> tuple[Tensor, Tensor]:
    """Patches [1797, 8, 8 + 8] and classes [1797]. A patch is a row of an image of 8 x 8 pixels, and which row."""
    data = load_digits()
    images = torch.from_numpy(data.images).float() / 16
    places = torch.eye(8).expand(len(images), -1, -1)
    return torch.cat([images, places], dim=-1), torch.from_numpy(data.target)


def train(functions: Functions, *, threads: int, epochs: int, device: str = "cpu") -> tuple[str, float]:
    """Digest of all parameters after training, and the share of right answers on images that were not trained on."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Model(functions).to(device)
    patches, classes = (data.to(device) for data in digits())
    for _ in range(epochs):
        for batch in torch.randperm(TRAINED_ON).split(BATCH):
            batch = batch.to(device)
            model.zero_grad()
            detprobe.ops.cross_entropy(model(patches[batch]), classes[batch]).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= RATE * parameter.grad  # two operations, two roundings; an optimizer may fuse them
    with torch.no_grad():
        right = model(patches[TRAINED_ON:]).argmax(dim=1) == classes[TRAINED_ON:]
        everything = torch.cat([parameter.flatten() for parameter in model.parameters()])
    return detprobe.bits.digest(everything), right.double().mean().item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    places = [("cpu", threads) for threads in (1, 2, 4)] + [("cuda", 1)] * torch.cuda.is_available()
    print(f"{'layer of':<10}{'trained on':<16}{'accuracy':<10}digest of the trained parameters")
    found = {}
    for name, functions in (("torch", TORCH), ("detprobe", DETPROBE)):
        digests = set()
        for device, threads in places:
            digest, accuracy = train(functions, threads=threads, epochs=options.epochs, device=device)
            place = device if device == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
            print(f"{name:<10}{place:<16}{accuracy:<10.1%}{digest}", flush=True)
            digests.add(digest)
        found[name] = len(digests)
    print(", ".join(f"{name}: {count} result{'s' * (count > 1)}" for name, count in found.items()))
    return 0 if found["detprobe"] == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
