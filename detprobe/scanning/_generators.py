"""Generators: what an op may draw from, saved before its first run and set back for each replay.

torch's ops draw from the generator that they are given, or from the default one of the device. An op from elsewhere may
draw from any generator of the process, so numpy's and Python's global ones are kept for it as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["Draws", "ProcessGenerators"]


class ProcessGenerators:
    """The states of all global generators of the process: torch's on every used device, numpy's and Python's."""

    def __init__(self) -> None:
        self._cpu = torch.default_generator.get_state()
        self._cuda = torch.cuda.get_rng_state_all() if _cuda_in_use() else []
        self._numpy = np.random.get_state()  # noqa: NPY002 - the legacy global one is the one that leaks
        self._python = random.getstate()

    def restore(self) -> None:
        torch.default_generator.set_state(self._cpu)
        for device, state in enumerate(self._cuda):
            torch.cuda.set_rng_state(state, device)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)

    def same(self, other: ProcessGenerators) -> bool:
        return (
            torch.equal(self._cpu, other._cpu)
            and all(torch.equal(a, b) for a, b in zip(self._cuda, other._cuda, strict=True))
            and self._python == other._python
            and _same_numpy(self._numpy, other._numpy)
        )


def _same_numpy(a: Any, b: Any) -> bool:
    return bool(a[0] == b[0] and np.array_equal(a[1], b[1]) and a[2:] == b[2:])


def _cuda_in_use() -> bool:
    """Never the first to start CUDA: a generator that nobody started has no state to keep."""
    return bool(torch.cuda.is_initialized())


class _Generators:
    """The states of some torch generators."""

    def __init__(self, generators: list[torch.Generator]) -> None:
        self._saved = [(generator, generator.get_state()) for generator in generators]

    def restore(self) -> None:
        for generator, state in self._saved:
            generator.set_state(state)

    def same(self, other: _Generators) -> bool:
        return all(torch.equal(a, b) for (_, a), (_, b) in zip(self._saved, other._saved, strict=True))


class Draws:
    """Generators of one call: their state before the first run, and after it."""

    def __init__(
        self, tensors: list[torch.Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, everywhere: bool
    ) -> None:
        given = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Generator)]
        self._everywhere = everywhere
        self._generators = given or _defaults(tensors, kwargs.get("device"))
        self._before = self._save()
        self._after = self._before

    def _save(self) -> Any:
        return ProcessGenerators() if self._everywhere else _Generators(self._generators)

    def mark(self) -> None:
        """The first run is over: its state is the one that the model goes on with."""
        self._after = self._save()

    def moved(self) -> bool:
        return not self._before.same(self._after)

    @contextmanager
    def replay(self) -> Iterator[None]:
        self._before.restore()
        try:
            yield
        finally:
            self._after.restore()


def _defaults(tensors: list[torch.Tensor], device: Any) -> list[torch.Generator]:
    found = [torch.default_generator]
    devices = {t.device for t in tensors} | ({torch.device(device)} if device is not None else set())
    cuda = {torch.cuda.current_device() if d.index is None else d.index for d in devices if d.type == "cuda"}
    found.extend(torch.cuda.default_generators[index] for index in sorted(cuda))
    return found
