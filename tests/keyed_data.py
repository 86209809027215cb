"""Datasets and a collate function that hold generators of every kind, at module level so that spawn can import them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset


class Transform:
    """As torchvision or albumentations have them: it holds its own generator, behind slots."""

    __slots__ = ("rng",)

    def __init__(self) -> None:
        self.rng = random.Random(3)

    def __call__(self, x: float) -> float:
        return x + self.rng.random()


class Held(Dataset[Any]):
    """Every sample: its index, and a draw of each generator there is, the last one made at the first sample."""

    def __init__(self, n: int = 23, *, torch_generator: bool = True) -> None:
        self.n = n
        self.rng = np.random.default_rng(0)
        self.transforms = [Transform()]
        self.cpu = (
            torch.Generator().manual_seed(1) if torch_generator else None
        )  # torch cannot send one to a spawned worker
        self.legacy = np.random.RandomState(2)
        self.philox = np.random.Generator(np.random.Philox(5))
        self.late: Any = None

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.late is None:
            self.late = np.random.default_rng()
        draws = [
            float(index),
            self.rng.random(),
            self.transforms[0](0.0),
            float(torch.rand((), generator=self.cpu)),
            self.legacy.rand(),
            self.philox.random(),
            self.late.random(),
            random.random(),
            float(np.random.rand()),  # noqa: NPY002
            float(torch.rand(())),
        ]
        return torch.tensor(draws, dtype=torch.float64)


class Batched(Dataset[Any]):
    """Fetches whole batches, and has no `__getitem__` of its own."""

    def __len__(self) -> int:
        return 12

    def __getitems__(self, indices: list[int]) -> list[torch.Tensor]:
        return [torch.tensor([float(i), random.random()], dtype=torch.float64) for i in indices]


class Endless(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(5))


class Mixup:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)

    def __call__(self, samples: list[torch.Tensor]) -> torch.Tensor:
        batch = torch.stack(samples)
        other = batch[torch.from_numpy(self.rng.permutation(len(batch)))]
        weight = self.rng.beta(0.4, 0.4) * random.random()
        return weight * batch + (1 - weight) * other


class Reduced(Dataset[torch.Tensor]):
    """A sum of float32 whose last bits depend on the number of threads."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(1_000_000).sum()
