"""Finds the generators that objects hold: a dataset's default_rng(), a transform's random.Random, a collate's own.

torch seeds the global generators of its workers and knows nothing of these, so they are copied with the dataset: every
worker draws the same, and so does every epoch. Each is found by its path, which is its name in the key.
"""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from detprobe.seeding import _keys

__all__ = ["find", "rekeyer"]

_LONGEST = 1000  # elements of a container that are looked at: longer ones are data
_MOST = 100_000  # objects
_LEAVES = (str, bytes, int, float, complex, type(None), torch.Tensor, np.ndarray, type, types.ModuleType)
_CODE = ("__getitem__", "__getitems__", "__iter__", "__call__", "forward")  # of a class: where it draws
_KINDS = (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random, torch.Generator)


def find(roots: dict[str, Any]) -> dict[str, Any]:
    """The generators reachable from the roots, by path, without the global ones."""
    # The queue keeps what is visited alive: an id means nothing once its object is gone.
    found: dict[str, Any] = {}
    legacy: Any = np.random.mtrand._rand
    seen = {id(random._inst), id(legacy), id(legacy._bit_generator), id(torch.default_generator)}
    queue: list[tuple[str, Any]] = list(roots.items())
    at = 0
    while at < len(queue) and len(queue) < _MOST:
        path, value = queue[at]
        at += 1
        if isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _KINDS) and not isinstance(value, random.SystemRandom):
            found[path] = value
            if isinstance(value, np.random.Generator):
                seen.add(id(value.bit_generator))
            continue
        queue.extend((f"{path}{step}", part) for step, part in _parts(value))
    return found


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, in an order that does not depend on hashes or addresses."""
    if isinstance(value, dict):
        for at, (key, part) in zip(range(_LONGEST), list(value.items()), strict=False):
            yield f"[{key!r}]" if isinstance(key, str | int) else f"[#{at}]", part
    elif isinstance(value, list | tuple):
        for at, part in enumerate(value[:_LONGEST]):
            yield f"[{at}]", part
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield ".self", value.__self__
        yield from _parts_of_code(value.__func__)
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_code(value)
    else:
        yield from ((f".{name}", part) for name, part in list(getattr(value, "__dict__", {}).items()))
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else tuple(slots):
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    yield f".{name}", getattr(value, name)
        for name in _CODE:
            function = getattr(type(value), name, None)
            if isinstance(function, types.FunctionType):
                yield from ((f".{name}{step}", part) for step, part in _parts_of_code(function))


def _parts_of_code(function: Any) -> Iterator[tuple[str, Any]]:
    """A function's closure and defaults, and the generators among the globals that it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f":{name}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for at, default in enumerate(function.__defaults__ or ()):
        yield f":default{at}", default
    yield from ((f":default {name}", default) for name, default in (function.__kwdefaults__ or {}).items())
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, _KINDS):
            yield f":{name}", value


def rekeyer(path: str, generator: Any) -> Callable[[int], object]:
    """A function that starts this generator anew from a key; its path makes it differ from all others."""
    salt = _keys.derive(0, "held", path)
    if isinstance(generator, torch.Generator):
        return lambda key: generator.manual_seed(_keys.derive(key, salt))
    if isinstance(generator, random.Random):
        return lambda key: generator.seed(_keys.derive(key, salt))
    if isinstance(generator, np.random.RandomState):
        return lambda key: generator.seed(_keys.derive(key, salt) >> 32)
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator
    if isinstance(bits, np.random.PCG64):
        return functools.partial(_rekey_pcg64, bits, salt.to_bytes(8, "little"))
    return functools.partial(_rekey_bits, bits, salt)


def _rekey_pcg64(bits: Any, salt: bytes, key: int) -> None:
    """numpy's default, by its state, without the SeedSequence. Any state and any odd increment are a stream."""
    raw = blake2b(key.to_bytes(8, "little"), key=salt, digest_size=32).digest()
    state = {"state": int.from_bytes(raw[:16], "little"), "inc": int.from_bytes(raw[16:], "little") | 1}
    bits.state = {"bit_generator": "PCG64", "state": state, "has_uint32": 0, "uinteger": 0}


def _rekey_bits(bits: Any, salt: int, key: int) -> None:
    bits.state = type(bits)(_keys.derive(key, salt)).state
