"""Conditions under which the same computation may give other bits: threads, torch's flag, where memory lies, a load."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["deterministic_flag", "load", "shifted", "threads"]

_SIZES = (64, 192, 384)  # mixed, so that the load never falls into step with what it is beside


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's CPU thread count, and after it what it was."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic_flag() -> Iterator[None]:
    """torch.use_deterministic_algorithms(True), and after it what was there."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def shifted(tensor: torch.Tensor, elements: int) -> torch.Tensor:
    """The same values, contiguous, in memory that starts `elements` after where an allocation of its own would."""
    room = torch.empty(tensor.numel() + elements, dtype=tensor.dtype, device=tensor.device)
    return room[elements:].view(tensor.shape).copy_(tensor.detach())


@contextmanager
def load(device: torch.device) -> Iterator[None]:
    """Matrix products, naps and allocations beside what runs; on CUDA also on a stream of their own.

    Other work changes when threads and blocks arrive, and where memory lies.
    """
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
