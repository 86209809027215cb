"""Timing of functions against each other: interleaved, in the same run, in alternating order."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from detprobe.conditions import deterministic_flag

__all__ = ["Bandwidth", "Timed", "bandwidth", "interleaved", "seconds"]

LEAST_SECONDS = 3e-4  # of one timing: as many calls as that takes
LEAST_ROUNDS, MOST_ROUNDS = 3, 101
SLOW = 0.5  # seconds of one call from which two rounds, one in each order, have to do


@dataclass(frozen=True)
class Timed:
    """Seconds per call, one number for each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)


def seconds(function: Callable[[], Any], calls: int, device: str) -> float:
    """Seconds per call. On CUDA between two events of the stream: gaps between kernels count, the last wait not."""
    repeat = itertools.repeat(None, calls)
    if device == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        for _ in repeat:
            function()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3 / calls
    start = time.perf_counter()
    for _ in repeat:
        function()
    return (time.perf_counter() - start) / calls


def interleaved(functions: dict[str, Callable[[], Any]], device: str, budget: float) -> dict[str, Timed]:
    """Every function in each round, the order turned around from round to round, for about `budget` seconds.

    A function named "deterministic" runs in torch's deterministic mode; one that raises there is left out.
    """
    modes: dict[str, Any] = dict.fromkeys(functions, nullcontext)
    if "deterministic" in functions:
        modes["deterministic"] = deterministic_flag
    once = {}
    for name, function in functions.items():
        with modes[name]():
            try:
                once[name] = seconds(function, 1, device)  # the first call loads code and fills caches
                for calls, limit in ((1, SLOW), (5, LEAST_SECONDS)):
                    if once[name] < limit:
                        once[name] = seconds(function, calls, device)
            except RuntimeError:
                if name != "deterministic":
                    raise
    calls = max(1, round(LEAST_SECONDS / max(1e-7, min(once.values()))))
    rounds = round(budget / (calls * sum(once.values())))
    least = 2 if max(once.values()) > SLOW else LEAST_ROUNDS
    found: dict[str, list[float]] = {name: [] for name in once}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for at in range(min(MOST_ROUNDS, max(least, rounds))):
            for name in once if at % 2 == 0 else reversed(once):
                with modes[name]():
                    found[name].append(seconds(functions[name], calls, device))
    finally:
        if collecting:
            gc.enable()
    return {name: Timed(tuple(times)) for name, times in found.items()}


@dataclass(frozen=True)
class Bandwidth:
    """What memory gave in this run, to tensors that no cache holds. Bytes per second."""

    copy: float
    """Of tensor.copy_, read and written ones together."""
    read: float
    """Of torch.sum, which writes nothing."""

    def share(self, moved: int, seconds: float) -> float:
        """What part of a copy's bandwidth it is to move so many bytes in that time."""
        return moved / seconds / self.copy


def bandwidth(device: str, elements: int) -> Bandwidth:
    """The best of 9 on float32 numbers, each."""
    calls = 10 if device == "cuda" else 1  # the way of one call to a GPU takes a part of its time
    source = torch.ones(elements, device=device)
    into = torch.empty_like(source)

    def best(function: Callable[[], Any]) -> float:
        function()
        return min(seconds(function, calls, device) for _ in range(9))

    return Bandwidth(2 * source.nbytes / best(lambda: into.copy_(source)), source.nbytes / best(source.sum))
