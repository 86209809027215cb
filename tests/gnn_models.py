"""Models whose sums meet in a few rows, for the tests of the context: builders, each with inputs, and one step of them.

Two kinds. Those that read rows as `h[source]` race on a CPU, in the backward, where threads add to one row; the layers
of PyTorch Geometric read them by index_select, and race on a GPU alone. The former are those of examples/gnn.py. Every
builder seeds torch.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import detprobe

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "gnn.py"
NODES = 600
HUBS = 4  # nodes that exchange messages with all
EDGES = 4000  # between the others
WIDTH = 16
HEADS = 4

Built = tuple[nn.Module, tuple[Tensor, ...]]


def graph() -> tuple[Tensor, Tensor]:
    """Features [nodes, WIDTH], and where messages come from and go to: [2, edges]."""
    generator = torch.Generator().manual_seed(0)
    between = torch.randint(0, NODES, (2, EDGES), generator=generator)
    everyone, hubs = torch.arange(NODES).repeat(HUBS), torch.arange(HUBS).repeat_interleave(NODES)
    to_hubs = torch.stack([everyone, hubs])
    edges = torch.cat([between, to_hubs, to_hubs.flip(0)], dim=1)
    edges = edges[:, torch.randperm(edges.shape[1], generator=generator)]
    return torch.randn(NODES, WIDTH, generator=generator).requires_grad_(), edges


@functools.cache
def example() -> Any:
    """examples/gnn.py as a module."""
    models.optional("sklearn")
    spec = importlib.util.spec_from_file_location("gnn", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gnn"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Table(nn.Module):
    """Rows of a small table, read by many indices."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(500, 3))

    def forward(self, index: Tensor, factors: Tensor) -> Tensor:
        return self.table[index] * factors


class Two(nn.Module):
    """Two layers, the second of which hands gradients on to the rows that were read."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = make(), make()

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        return self.second(F.relu(self.first(features, edges)), edges)


def table() -> Built:
    torch.manual_seed(0)
    return Table(), (torch.randint(0, 500, (38000,)), torch.randn(3, 38000).t())


def sage() -> Built:
    layers = example()
    torch.manual_seed(0)
    return Two(lambda: layers.Mean(WIDTH, WIDTH)), graph()


def gat() -> Built:
    layers = example()
    torch.manual_seed(0)
    return Two(lambda: layers.Attention(WIDTH, WIDTH // HEADS)), graph()


def geometric_sage() -> Built:
    layers = models.optional("torch_geometric.nn")
    torch.manual_seed(0)
    return Two(lambda: layers.SAGEConv(WIDTH, WIDTH)), graph()


def geometric_gat() -> Built:
    layers = models.optional("torch_geometric.nn")
    torch.manual_seed(0)
    return Two(lambda: layers.GATConv(WIDTH, WIDTH // HEADS, HEADS)), graph()


def on(device: str, built: Built) -> Built:
    model, inputs = built
    moved = tuple(t.detach().to(device).requires_grad_(t.requires_grad) for t in inputs)
    return model.to(device), moved


def loss(output: Tensor) -> Tensor:
    return output.square().sum()


def step(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Digests of the output and of all gradients; for SchNet those are of the energy, and minus the forces."""
    leaves = [t for t in (*model.parameters(), *inputs) if t.requires_grad]
    output = model(*inputs)
    gradients = torch.autograd.grad(loss(output), leaves, allow_unused=True)
    return tuple(detprobe.bits.digest(t) for t in (output, *gradients) if t is not None)
