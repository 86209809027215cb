"""A competing load while a pass replays: other work changes when threads and blocks arrive, and where memory lies."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["load"]

_SIZES = (64, 192, 384)  # mixed, so that the load never falls into step with the replays


@contextmanager
def load(device: torch.device) -> Iterator[None]:
    """Matrix products, naps and allocations beside the scan; on CUDA also on a stream of their own."""
    stop = threading.Event()
    # Daemons: a scan that is interrupted must not keep the process alive.
    workers = [
        threading.Thread(target=_work, args=(number, stop, device), daemon=True)
        for number in range(os.cpu_count() or 1)
    ]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _work(number: int, stop: threading.Event, device: torch.device) -> None:
    own = random.Random(number)  # never the global generators: they are the user's
    held: list[torch.Tensor] = []
    matrices = [np.ones((n, n), dtype=np.float32) for n in _SIZES]
    stream = torch.cuda.Stream(device) if device.type == "cuda" and number == 0 else None
    while not stop.is_set():
        if stream is not None:
            n = own.choice(_SIZES) * 4
            with torch.cuda.stream(stream):
                a = torch.ones((n, n), device=device)
                torch.mm(a, a)
            stream.synchronize()
        matrix = own.choice(matrices)
        np.dot(matrix, matrix)
        held.append(torch.empty(own.randrange(1, 1 << 18), dtype=torch.uint8, device=device))
        if len(held) > 32:
            held.pop(own.randrange(len(held)))
        time.sleep(own.random() * 1e-3)
