"""Is it my change or the randomness? A small CNN on handwritten digits, three changes, three verdicts.

    python examples/change_or_noise.py

Each change is compared with the same training on the same seeds:

- a refactoring: the layers are called in a loop and the batches are cut by another expression. Not a bit may move.
- ten times the learning rate.
- nothing but other seeds: what is left is the randomness, so this must not be called a difference.

Three quarters of a percentage point of accuracy is the smallest difference that is taken to matter.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import detprobe

BATCH = 64
RATE = 0.05
EPOCHS = 10
MATTERS = 0.75  # percentage points
TRAINED_ON = 1000  # of 1797; the others are for the accuracy

Data = tuple[Tensor, Tensor, Tensor, Tensor]


def digits() -> Data:
    """Images [n, 1, 8, 8] in 0 .. 1 and labels [n], for training and for the accuracy."""
    raw = load_digits()
    images = torch.tensor(raw.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(raw.target)
    return images[:TRAINED_ON], labels[:TRAINED_ON], images[TRAINED_ON:], labels[TRAINED_ON:]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(256, 10),
    )


def train(seed: int, *, data: Data, rate: float = RATE, refactored: bool = False) -> tuple[dict[str, float], Any]:
    """Accuracy in percent, and the trained parameters."""
    images, labels, new_images, new_labels = data
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)

    def forward(x: Tensor) -> Tensor:
        if not refactored:
            return model(x)
        for layer in model:
            x = layer(x)
        return x

    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        chunks = order.split(BATCH)
        if refactored:
            chunks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        for chunk in chunks:
            optimizer.zero_grad()
            F.cross_entropy(forward(images[chunk]), labels[chunk]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = (model(new_images).argmax(dim=1) == new_labels).float().mean()
    return {"acc": 100 * float(right)}, model


def changes(data: Data) -> dict[str, Callable[[int], Any]]:
    def with_other_seeds(seed: int) -> tuple[dict[str, float], Any]:
        return train(seed + 1000, data=data)

    return {
        "a refactoring": partial(train, data=data, refactored=True),
        "ten times the learning rate": partial(train, data=data, rate=10 * RATE),
        "other seeds": with_other_seeds,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Three changes to a small CNN, and what detprobe.compare says of them."
    )
    parser.add_argument("--runs", type=int, default=8, help="seeds (default %(default)s)")
    runs = parser.parse_args(argv).runs
    torch.set_num_threads(1)  # so small a network gains nothing from more
    data = digits()
    for name, changed in changes(data).items():
        found = detprobe.compare(
            partial(train, data=data),
            changed,
            runs=runs,
            metric="acc",
            min_effect=MATTERS,
            progress=sys.stderr.isatty(),
        )
        print(f"=== {name}\n{found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
