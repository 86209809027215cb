"""What keyed samples cost: the time of a sample with `Run.loader` less that of a plain DataLoader, in the same run.

    python -m benchmarks.seeding [--samples 20000] [--rounds 5] [--json F]

Bound that the project sets itself: 15 us a sample. The dataset does next to nothing, so the difference is the overhead.
It is processor time without workers, else wall time. Without workers each batch is isolated and made on one thread;
that is measured too, for batches of 1 and of 64.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import detprobe
from detprobe import environment
from detprobe.conditions import threads

BOUND = 15.0


class Plain(Dataset[int]):
    """Draws nothing, and holds nothing."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> int:
        return index


class Holding(Plain):
    """Holds a default_rng(), which starts anew for each sample too."""

    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        self.rng = np.random.default_rng(0)


def seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started


def fastest(rounds: int, *works: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Of each the fastest round; they take turns."""
    taken = [[seconds(work, clock) for work in works] for _ in range(rounds)]
    return [min(column) for column in zip(*taken, strict=True)]


def overhead(dataset: Plain, rounds: int, **options: Any) -> dict[str, Any]:
    """Microseconds a sample, plain and keyed."""
    run = detprobe.seed_everything(0, quiet=True)
    options = {"collate_fn": len, **options}
    plain, keyed = DataLoader(dataset, **options), run.loader(dataset, name="train", **options)
    clock = time.perf_counter if options["num_workers"] else time.process_time  # other processes do not count
    times = fastest(rounds, lambda: list(plain), lambda: list(keyed), clock=clock)
    plain_us, keyed_us = (1e6 * each / len(dataset) for each in times)
    held = "a default_rng()" if isinstance(dataset, Holding) else "nothing"
    shown = {name: value for name, value in options.items() if name != "collate_fn"}
    return {"held": held, **shown, "plain": plain_us, "keyed": keyed_us, "overhead": keyed_us - plain_us}


def switching(rounds: int) -> dict[str, float]:
    """Microseconds of going to one thread and back, with a sum on all threads after it, less the sum alone."""
    data = torch.rand(1 << 16)

    def alone() -> None:
        for _ in range(200):
            data.sum()

    def switched() -> None:
        for _ in range(200):
            with threads(1):
                pass
            data.sum()

    def bare() -> None:
        for _ in range(200):
            with threads(1):
                pass

    times = fastest(rounds, alone, switched, bare)
    return {"with_a_sum": 1e6 * (times[1] - times[0]) / 200, "alone": 1e6 * times[2] / 200}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="F")
    arguments = parser.parse_args()
    rows = []
    print(f"{'held':<16} {'workers':>7} {'batch':>5} {'plain us':>9} {'keyed us':>9} {'overhead us':>11}")
    for kind in (Plain, Holding):
        for workers, batch in ((0, 64), (0, 1), (2, 64)):
            samples = arguments.samples // (10 if batch == 1 else 1)
            options: dict[str, Any] = {"num_workers": workers, "batch_size": batch}
            row = overhead(kind(samples), arguments.rounds, **options)
            rows.append(row)
            print(
                f"{row['held']:<16} {workers:>7} {batch:>5} {row['plain']:>9.2f} {row['keyed']:>9.2f} "
                f"{row['overhead']:>11.2f}"
            )
    cost = switching(arguments.rounds)
    print(
        f"one thread and back: {cost['alone']:.2f} us; with a sum on {torch.get_num_threads()} threads after it: ",
        end="",
    )
    print(f"{cost['with_a_sum']:.2f} us more than the sum")
    worst = max(row["overhead"] for row in rows if row["batch_size"] == 64)
    print(f"bound: {BOUND} us a sample in batches of 64; measured at most {worst:.2f}")
    if arguments.json:
        found = {"rows": rows, "switching_us": cost, "environment": environment.read()}
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
