"""Everything that a training run draws, printed: the same in every process, and something else with another seed.

    python examples/seeded_run.py [--seed 42]

Draws of random, NumPy and torch, the initial weights of a small net, a shuffled and augmented loader with two workers,
and the losses of a few steps. Beside it the naive recipe (each library seeded once, seed + worker_id in the workers,
PYTHONHASHSEED set by the script), and what the audit and the report say about it. To fix the hashes of strings as well,
start it with `detprobe run --seed 42 -- examples/seeded_run.py`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import detprobe

NAIVE_SEED = 42


class Augmented(Dataset[Any]):
    """24 points; the noise is drawn from NumPy's global generator, and from one that the dataset holds."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Tensor:
        noise = np.random.randn() + self.rng.standard_normal()  # noqa: NPY002 - as many transforms do
        return torch.tensor([index / 24, noise], dtype=torch.float32)


def naive_worker(worker_id: int) -> None:
    np.random.seed(NAIVE_SEED + worker_id)  # noqa: NPY002
    random.seed(NAIVE_SEED + worker_id)


def naive_loader(seed: int, num_workers: int) -> Any:
    """As many recipes have it."""
    os.environ["PYTHONHASHSEED"] = str(seed)  # too late: the interpreter runs
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    return DataLoader(Augmented(), 6, shuffle=True, num_workers=num_workers, worker_init_fn=naive_worker)


def keyed_loader(seed: int, num_workers: int) -> Any:
    run = detprobe.seed_everything(seed, quiet=True)
    return run.loader(Augmented(), name="train", batch_size=6, shuffle=True, num_workers=num_workers)


def draws(seed: int) -> list[str]:
    """What a run draws, as lines."""
    run = detprobe.seed_everything(seed, quiet=True)
    drawn = random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002
    lines = ["random {:.6f}  numpy {:.6f}  torch {:.6f}".format(*drawn)]
    with run.stream("init"):
        model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    lines.append(f"weights {[round(w, 6) for w in model[0].weight.flatten().tolist()[:4]]}")
    loader = run.loader(Augmented(), name="train", batch_size=6, shuffle=True, num_workers=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        run.epoch(epoch)
        for at, batch in enumerate(loader):
            run.step()
            loss = model(batch).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if at < 2:
                order = (batch[:, 0] * 24).round().int().tolist()
                lines.append(f"epoch {epoch} batch {at}: {order} noise {float(batch[0, 1]):.6f} loss {loss.item():.6f}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42)
    seed = parser.parse_args().seed
    torch.set_num_threads(1)
    print("\n".join(draws(seed)))
    print("\nThe naive recipe:")
    print(detprobe.audit_loader(naive_loader))
    row = detprobe.seed_everything(seed, quiet=True).report.row("PYTHONHASHSEED")
    print(f"PYTHONHASHSEED {row.status}: {row.effective}")
    print("\nThe keyed loader:")
    print(detprobe.audit_loader(keyed_loader))
    return 0


if __name__ == "__main__":
    sys.exit(main())
