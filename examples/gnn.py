"""Graph networks trained on handwritten digits, as they are and in `detprobe.deterministic()`: which bits, what cost?

    python examples/gnn.py

Nodes are the 1797 images that come with scikit-learn. Each gets messages from the 16 that look most like it, and 8 hubs
exchange messages with all: hot nodes, whose sums have thousands of terms. The task is to name the digits of 60 % of the
nodes by those of the others.

The models are written by hand, as much of such code is: messages are `h[source]`, and they are added up with index_add
or scatter_add. The gradient of `h[source]` adds each message's share to the row that it was read from; on a CPU, stock
torch lets threads do that in the order in which they arrive. Where PyTorch Geometric is installed its layers follow.
They read rows with index_select, whose gradient repeats on a CPU, and not on a GPU.

Each model is trained several times from one seed, and the digests of all trained parameters are counted. Epochs for the
times are taken in turns, stock and in the context; the ratio is of their medians.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph
from torch import Tensor, nn

import detprobe

NEIGHBOURS = 16
HUBS = 8
WIDTH = 64
HEADS = 4
TRAINED_ON = 719  # of 1797 images; the others are for the accuracy


@dataclass(frozen=True)
class Graph:
    """Features [nodes, 64], messages from and to [2, edges], and the digits of the first nodes, which are no hubs."""

    features: Tensor
    edges: Tensor
    classes: Tensor

    def to(self, device: str) -> Graph:
        return Graph(self.features.to(device), self.edges.to(device), self.classes.to(device))


def digits() -> Graph:
    data = load_digits()
    images = torch.from_numpy(data.data).float() / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, classes = images[order], torch.from_numpy(data.target)[order]
    near = torch.from_numpy(kneighbors_graph(images.numpy(), NEIGHBOURS).indices).long()
    nodes = torch.arange(len(images))
    everyone, hubs = nodes.repeat(HUBS), (len(nodes) + torch.arange(HUBS)).repeat_interleave(len(nodes))
    source = torch.cat([near, everyone, hubs])
    target = torch.cat([nodes.repeat_interleave(NEIGHBOURS), hubs, everyone])
    features = torch.cat([images, images.mean(0).expand(HUBS, -1)])
    return Graph(features, torch.stack([source, target]), classes)


class Mean(nn.Module):
    """A layer of GraphSAGE: of each node, itself and the mean of what is sent to it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.own, self.sent = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:  # [nodes, inputs] -> [nodes, outputs]
        source, target = edges
        total = torch.zeros_like(h).index_add(0, target, h[source])
        count = torch.bincount(target, minlength=len(h)).clamp(min=1)
        return self.own(h) + self.sent(total / count[:, None])


class Attention(nn.Module):
    """A layer of GAT: of each node, what is sent to it, weighed by a softmax over its senders, per head."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.map = nn.Linear(inputs, HEADS * outputs, bias=False)
        self.of_source, self.of_target = (nn.Parameter(torch.randn(HEADS, outputs) / outputs) for _ in range(2))

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:  # [nodes, inputs] -> [nodes, HEADS * outputs]
        source, target = edges
        h = self.map(h).unflatten(1, (HEADS, -1))
        scores = (h * self.of_source).sum(-1)[source] + (h * self.of_target).sum(-1)[target]
        scores = F.leaky_relu(scores, 0.2)  # [edges, HEADS]
        to = target[:, None].expand_as(scores)
        most = torch.zeros(len(h), HEADS, device=h.device).scatter_reduce(0, to, scores, "amax", include_self=False)
        powers = (scores - most.detach()[target]).exp()
        sums = torch.zeros_like(most).scatter_add(0, to, powers)
        messages = h[source] * (powers / sums[target])[..., None]
        return torch.zeros_like(h).index_add(0, target, messages).flatten(1)


class Network(nn.Module):
    """Two layers and a classifier."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.classify = first, second, nn.Linear(WIDTH, 10)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        h = F.relu(self.first(features, edges))
        return self.classify(F.relu(self.second(h, edges)))


def models() -> dict[str, Callable[[], nn.Module]]:
    """What there is to train; PyTorch Geometric's layers where it is installed."""
    part = WIDTH // HEADS
    found: dict[str, Callable[[], nn.Module]] = {
        "GraphSAGE": lambda: Network(Mean(64, WIDTH), Mean(WIDTH, WIDTH)),
        "GAT": lambda: Network(Attention(64, part), Attention(WIDTH, part)),
    }
    try:
        from torch_geometric.nn import GATConv, SAGEConv
    except ImportError:
        return found
    found["PyG GraphSAGE"] = lambda: Network(SAGEConv(64, WIDTH), SAGEConv(WIDTH, WIDTH))
    found["PyG GAT"] = lambda: Network(GATConv(64, part, HEADS), GATConv(WIDTH, part, HEADS))
    return found


class Training:
    """A model with its optimizer, from one seed."""

    def __init__(self, make: Callable[[], nn.Module], graph: Graph) -> None:
        torch.manual_seed(0)
        self.graph = graph
        self.model = make().to(graph.features.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)

    def epoch(self) -> None:
        self.optimizer.zero_grad()
        scores = self.model(self.graph.features, self.graph.edges)
        F.cross_entropy(scores[:TRAINED_ON], self.graph.classes[:TRAINED_ON]).backward()
        self.optimizer.step()

    def digest(self) -> str:
        return detprobe.bits.digest(torch.cat([p.detach().flatten() for p in self.model.parameters()]))

    def accuracy(self) -> float:
        classes = self.graph.classes
        with torch.no_grad():
            right = self.model(self.graph.features, self.graph.edges)[: len(classes)].argmax(1) == classes
        return right[TRAINED_ON:].double().mean().item()


Context = Callable[[], AbstractContextManager[Any]]
CONTEXTS: dict[str, Context] = {"stock": nullcontext, "deterministic": detprobe.deterministic}


def train(make: Callable[[], nn.Module], graph: Graph, context: Context, epochs: int) -> tuple[str, float]:
    """Digest of all parameters after training, and the share of right answers on nodes that were not trained on."""
    training = Training(make, graph)
    with context():
        for _ in range(epochs):
            training.epoch()
    return training.digest(), training.accuracy()


def epoch_times(make: Callable[[], nn.Module], graph: Graph, rounds: int) -> dict[str, float]:
    """Median seconds of an epoch, by context, taken in turns."""
    trainings = {name: Training(make, graph) for name in CONTEXTS}
    times: dict[str, list[float]] = {name: [] for name in CONTEXTS}
    for at in range(rounds + 2):
        for name in CONTEXTS if at % 2 else reversed(CONTEXTS):
            with CONTEXTS[name]():
                start = time.perf_counter()
                trainings[name].epoch()
                if graph.features.is_cuda:
                    torch.cuda.synchronize()
            if at > 1:  # the first ones load code and fill caches
                times[name].append(time.perf_counter() - start)
    return {name: median(measured) for name, measured in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    graph = digits().to(options.device)
    print(f"{len(graph.features)} nodes, {graph.edges.shape[1]} messages, {options.epochs} epochs, {options.runs} runs")
    print(f"{'model':<15}{'context':<15}{'accuracy':>8}{'epoch':>10}{'ratio':>7}  digests of the trained parameters")
    fine = True
    for model, make in models().items():
        times = epoch_times(make, graph, options.epochs)
        for name, context in CONTEXTS.items():
            found = [train(make, graph, context, options.epochs) for _ in range(options.runs)]
            digests = list(dict.fromkeys(digest for digest, _ in found))
            ratio = f"{times[name] / times['stock']:>7.2f}"
            shown = f"{len(digests)}: {digests[0][:16]}{' ...' if len(digests) > 1 else ''}"
            print(f"{model:<15}{name:<15}{found[0][1]:>8.1%}{1e3 * times[name]:>7.1f} ms{ratio}  {shown}", flush=True)
            fine &= name == "stock" or len(digests) == 1
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
