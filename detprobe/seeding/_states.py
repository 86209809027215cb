"""The default generators of the process: rekeyed, saved and put back together.

Python's random, NumPy's legacy global, torch's on the CPU and on every accelerator that runs, and the registered ones.
No accelerator is ever started for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

from detprobe.errors import ArgumentValueError
from detprobe.seeding import _keys
from detprobe.seeding._registry import registered

__all__ = ["PARTS", "WORDS", "Snapshot", "accelerators", "follows", "isolate_rng", "rekey", "rekey_host"]

PARTS = ("python", "numpy", "cpu", "devices", "registered")
"""What `Snapshot.plain` holds."""
_LAZY = ("cuda", "xpu")


def accelerators() -> dict[str, torch.Generator]:
    """The default generators of the accelerators that run, by device."""
    found: dict[str, torch.Generator] = {}
    for kind in _LAZY:
        module = getattr(torch, kind)
        if module.is_initialized():
            found.update({f"{kind}:{index}": generator for index, generator in enumerate(module.default_generators)})
    if torch.backends.mps.is_built() and torch.backends.mps.is_available():
        found["mps"] = torch.mps._get_default_mps_generator()
    return found


def rekey(key: int) -> None:
    """Every default generator starts anew from the key."""
    rekey_host(key)
    for generator in accelerators().values():
        generator.manual_seed(key)
    for other in registered():
        other.seed(_keys.derive(key, "registered", other.name))


def rekey_host(key: int) -> None:
    """Those of Python, NumPy and torch's CPU: what a data loader's worker has. torch.manual_seed would format a
    traceback each time, and draws the same."""
    random.seed(key)
    np.random.seed(key >> 32)  # noqa: NPY002 - the legacy global is the one that has to be covered
    torch.default_generator.manual_seed(key)


_BLOCK = 624  # words of the Mersenne twister's state, which it replaces together
_BLOCKS, _ROUNDS = 100, 40
WORDS = _BLOCK * _BLOCKS * _ROUNDS
"""How many drawn words `follows` looks through."""


def follows(key: int) -> dict[str, bool]:
    """Whether Python's and NumPy's generators are where draws from the key lead, within WORDS of them."""
    python = random.Random(key).getstate()[1][:-1], random.getstate()[1][:-1]
    legacy: Any = np.random.RandomState(key >> 32), np.random.mtrand._rand
    return {
        "random": _leads(*(np.array(words, dtype=np.uint32) for words in python)),
        "numpy.random": _leads(*(one.get_state()[1] for one in legacy)),
    }


def _leads(start: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> bool:
    """Whether drawing from the one state comes to the other; both generators are the same twister."""
    if np.array_equal(start, now):
        return True
    block = _twister(now, 0).random_raw(_BLOCK)  # what comes out while the state is this one
    walk = _twister(start, _BLOCK)
    for _ in range(_ROUNDS):
        if (walk.random_raw(_BLOCK * _BLOCKS).reshape(_BLOCKS, _BLOCK) == block).all(1).any():
            return True
    return False


def _twister(words: np.ndarray[Any, Any], position: int) -> Any:
    bits: Any = np.random.MT19937()
    bits.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": position}}
    return bits


class Snapshot:
    """The states of all default generators, as they were when it was made."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy = np.random.get_state()  # noqa: NPY002
        self._cpu = torch.default_generator.get_state()
        self._devices = {name: generator.get_state() for name, generator in accelerators().items()}
        self._others = [(other, other.get_state()) for other in registered()]

    def restore(self) -> None:
        """Put them back. An accelerator that was started since goes back to its first state."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002
        torch.default_generator.set_state(self._cpu)
        for name, generator in accelerators().items():
            state = self._devices.get(name)
            if state is None:
                generator.manual_seed(generator.initial_seed())
            else:
                generator.set_state(state)
        for other, state in self._others:
            other.set_state(state)

    def plain(self) -> dict[str, Any]:
        """The states as ints, strings and uint8 CPU tensors: what torch.load reads with weights_only=True."""
        version, words, gauss = self._python
        kind, keys, position, has_gauss, cached = self._numpy
        return {
            "python": {"version": version, "words": _as_bytes(words), "gauss": gauss},
            "numpy": {
                "kind": str(kind),
                "words": _as_bytes(keys),
                "position": int(position),
                "has_gauss": int(has_gauss),
                "gauss": float(cached),
            },
            "cpu": self._cpu.clone(),
            "devices": {name: state.cpu() for name, state in self._devices.items()},
            "registered": {other.name: state for other, state in self._others},
        }

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Snapshot:
        """What `plain` wrote. A registered generator that is missing, here or there, is an error."""
        made: Any = cls()  # the types of the states are those of the libraries
        python, legacy = raw["python"], raw["numpy"]
        made._python = (python["version"], tuple(int(word) for word in _as_words(python["words"])), python["gauss"])
        made._numpy = (
            legacy["kind"],
            _as_words(legacy["words"]),
            legacy["position"],
            legacy["has_gauss"],
            legacy["gauss"],
        )
        made._cpu = raw["cpu"]
        made._devices = dict(raw["devices"])
        here, there = {other.name for other in registered()}, set(raw["registered"])
        if here != there:
            raise ArgumentValueError(
                f"load_state_dict: the state holds the registered generators {sorted(there)}, and here are "
                f"{sorted(here)}: register the same ones before loading"
            )
        made._others = [(other, raw["registered"][other.name]) for other in registered()]
        return cast(Snapshot, made)


def _as_bytes(words: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(words, dtype="<u4").view(np.uint8).copy())


def _as_words(raw: torch.Tensor) -> np.ndarray[Any, Any]:
    return raw.numpy().view("<u4").astype(np.uint32)


@contextmanager
def isolate_rng() -> Iterator[None]:
    """What is drawn within shifts nothing outside: all default generators are put back, also after an exception.

    Example:
        >>> with detprobe.isolate_rng():
        ...     evaluate(model)

        >>> @detprobe.isolate_rng()
        ... def evaluate(model): ...  # returns what it returns

    Covers Python's random, NumPy's legacy global, torch's CPU and accelerators, and what `register_rng` knows. CUDA is
    not started; where it starts within, its generators go back to the state that they started with.
    """
    before = Snapshot()
    try:
        yield
    finally:
        before.restore()
