"""Does an edit that should change nothing change the run? Two recipes, the same edits, 20 seeds.

    python examples/harmless_edit.py [--seeds 20]

A small net is trained on data that is augmented as it is loaded. The edit makes a layer that nothing uses, draws one
number for debugging, peeks at a batch and iterates a validation loader: none of it should matter. With the global
recipe, torch.manual_seed and its sisters once at the start, all draws share one stream, so each of them shifts what
comes after. With keyed streams each use has its own: each part of the model too, hence two streams for the initial
weights. The digest is of the trained parameters; for each seed it is asked whether the edit changed it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import detprobe

EPOCHS = 2


class Noisy(Dataset[Any]):
    """32 points of two classes, with noise that is drawn when a point is fetched."""

    def __init__(self) -> None:
        points = torch.linspace(-1, 1, 32)
        self.x = torch.stack([points, points.square(), points.sin()], dim=1)
        self.y = (points > 0).long()

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = np.random.randn(3).astype(np.float32)  # noqa: NPY002 - as many transforms do
        return self.x[index] + 0.1 * torch.from_numpy(noise), self.y[index]


def body() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def fit(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    x, y = batch
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def digest(model: nn.Module) -> str:
    raw = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return blake2b(raw, digest_size=8).hexdigest()


def with_global_seeds(seed: int, *, edited: bool) -> str:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    spare = nn.Linear(3, 3) if edited else None  # noqa: F841 - nothing uses it
    model = body()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train, validation = DataLoader(Noisy(), batch_size=8, shuffle=True), DataLoader(Noisy(), batch_size=8)
    for _ in range(EPOCHS):
        if edited:
            torch.rand(1)
            next(iter(train))
        for batch in train:
            fit(model, batch, optimizer)
        if edited:
            list(validation)
    return digest(model)


def with_keys(seed: int, *, edited: bool) -> str:
    run = detprobe.seed_everything(seed, quiet=True)
    with run.stream("init of the spare"):
        spare = nn.Linear(3, 3) if edited else None  # noqa: F841
    with run.stream("init of the body"):
        model = body()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train = run.loader(Noisy(), name="train", batch_size=8, shuffle=True)
    validation = run.loader(Noisy(), name="validation", batch_size=8)
    for epoch in range(EPOCHS):
        run.epoch(epoch)
        if edited:
            torch.rand(1)
            next(iter(train))
        for batch in train:
            run.step()
            fit(model, batch, optimizer)
        if edited:
            list(validation)
    return digest(model)


def changed(recipe: Callable[..., str], seeds: int) -> int:
    """For how many seeds the edit changed the trained parameters."""
    return sum(recipe(seed, edited=False) != recipe(seed, edited=True) for seed in range(seeds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    for name, recipe in (("seeded once, globally", with_global_seeds), ("keyed streams", with_keys)):
        print(f"{name:<22} {changed(recipe, seeds):>3} of {seeds} runs changed by the edit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
