"""Python objects of the user's that a step can change: their contents, kept and put back in place.

Containers keep their identity and get their old entries; arrays get their bytes; generators their state.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np

from detprobe.scanning._reach import GENERATORS

__all__ = ["Kept"]

_ARRAY_LIMIT = 1 << 20  # bytes: a larger array is data, which models read


class Kept:
    """Contents of containers, numpy arrays and generators."""

    def __init__(self) -> None:
        self._saved: dict[int, tuple[Any, Any]] = {}

    def keep(self, item: Any) -> None:
        """Keep one object, not what is inside of it; others than those named above are left alone."""
        if id(item) in self._saved:
            return
        if isinstance(item, dict | list | set | deque):
            self._saved[id(item)] = (item, item.copy())
        elif isinstance(item, np.ndarray):
            if item.nbytes <= _ARRAY_LIMIT and item.flags.writeable:
                self._saved[id(item)] = (item, item.copy())
        elif isinstance(item, GENERATORS):
            self._saved[id(item)] = (item, _state_of(item))

    def restore(self) -> None:
        for item, saved in self._saved.values():
            if isinstance(item, np.ndarray):
                item[...] = saved
            elif isinstance(item, GENERATORS):
                _set_state(item, saved)
            elif not _same_entries(item, saved):
                _refill(item, saved)


def _refill(item: Any, saved: Any) -> None:
    item.clear()
    if isinstance(item, list | deque):
        item.extend(saved)
    elif isinstance(item, dict):
        for key, value in saved.items():  # not update(): a Counter's adds
            item[key] = value
    else:
        item.update(saved)


def _same_entries(item: Any, saved: Any) -> bool:
    """The same objects in the same order; nothing is compared by value, which tensors do not allow."""
    if len(item) != len(saved):
        return False
    if isinstance(item, dict):
        pairs = zip(item.items(), saved.items(), strict=True)
        return all(a is c and b is d for (a, b), (c, d) in pairs)
    return all(a is b for a, b in zip(item, saved, strict=True))


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
