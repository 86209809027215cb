"""One digest for the final state of a run: tensors by their bits, everything else by type and value."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["state_digest"]


def state_digest(state: Any) -> str:
    """32 hexadecimal digits that tell two states apart; the order of a dictionary's entries does not count.

    Example:
        >>> state_digest(model) == state_digest(model.state_dict())
        True

    Args:
        state: tensors, arrays, numbers, strings, whatever has a state_dict(), and lists, tuples and dictionaries of
            these.

    Raises:
        ArgumentTypeError: something else is in it; the text says where.
        ArgumentValueError: a tensor or an array without bits of its own, or a state that holds itself.
    """
    hasher = hashlib.blake2b(digest_size=16)
    try:
        for line in _lines(state, "state"):
            coded = line.encode("utf-8", "surrogatepass")
            hasher.update(len(coded).to_bytes(8, "little") + coded)
    except RecursionError:
        raise ArgumentValueError("state: expected a finite one, got one that holds itself") from None
    return hasher.hexdigest()


def _lines(value: Any, where: str) -> Iterator[str]:
    if value is None or isinstance(value, bool | int | str | bytes):
        yield f"{where} {type(value).__name__} {value!r}"
    elif isinstance(value, torch.Tensor):
        from detprobe.bits import digest

        yield f"{where} {value.dtype} {tuple(value.shape)} {digest(value)}"
    elif isinstance(value, np.ndarray | np.generic):
        yield f"{where} array {_array(np.asarray(value), where)}"
    elif isinstance(value, float):
        yield f"{where} float {'nan' if math.isnan(value) else value.hex()}"
    elif callable(getattr(value, "state_dict", None)):
        yield from _lines(value.state_dict(), where)
    elif isinstance(value, Mapping):
        yield f"{where} entries {len(value)}"
        for key in sorted(value, key=repr):
            if not isinstance(key, str | int | tuple):
                raise ArgumentTypeError(f"{where}: expected keys that are strings or integers, got {key!r:.80}")
            yield from _lines(value[key], f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        yield f"{where} items {len(value)}"
        for at, item in enumerate(value):
            yield from _lines(item, f"{where}[{at}]")
    else:
        raise ArgumentTypeError(
            f"{where}: expected tensors, arrays, numbers, strings, or lists and dictionaries of them, got "
            f"{type(value).__name__}: return the parameters, or a state_dict()"
        )


def _array(array: np.ndarray[Any, Any], where: str) -> str:
    if array.dtype.hasobject:
        raise ArgumentValueError(f"{where}: expected an array of numbers, got one of Python objects: it holds no bits")
    data = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
    return f"{array.dtype.str} {array.shape} {data}"
