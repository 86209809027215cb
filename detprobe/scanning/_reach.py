"""What a model and its inputs reach by name: all that a scan has to keep.

Followed are a module's and an optimizer's attributes, containers, a callable's bound self, closure and defaults, and
plain objects of the user's own classes. Of a function's globals, which it uses and does not own, only modules, tensors,
generators and other functions are.
"""

from __future__ import annotations

import functools
import random
import sys
from collections import deque
from collections.abc import Iterator
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

__all__ = ["GENERATORS", "is_compiled", "modules_behind", "reached"]

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_OWNERS = (torch.nn.Module, torch.optim.Optimizer)
_ENDS = (torch.Tensor, np.ndarray, *GENERATORS)
_PLAIN = (str, bytes, int, float, complex, type, ModuleType, CodeType, torch.dtype, torch.device, type(None))

_DEPTH = 6  # from the nearest module: an optimizer's state needs three
_LARGE = 10_000  # a longer list holds data, not structure


def modules_behind(value: Any) -> list[torch.nn.Module]:
    """The outermost modules that a callable reaches; itself, if it is one."""
    return [item for item in reached(value, inside=False) if isinstance(item, torch.nn.Module)]


def is_compiled(value: Any) -> bool:
    """True when torch.compile made any of what a callable reaches."""
    marks = ("_orig_mod", "_torchdynamo_orig_callable", "_compiled_call_impl")
    return any(
        (isinstance(item, torch.nn.Module) or hasattr(item, "__code__"))
        and any(getattr(item, mark, None) is not None for mark in marks)
        for item in reached(value)
    )


def reached(value: Any, *, inside: bool = True) -> Iterator[Any]:
    """Every object but plain values, once, outer before inner. `inside`: also what modules and optimizers hold."""
    seen: dict[int, Any] = {}  # keeps what it has seen alive, so that an id stays taken
    todo: list[tuple[Any, int]] = [(value, _DEPTH)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, _PLAIN) or id(item) in seen:
            continue
        seen[id(item)] = item
        yield item
        if isinstance(item, _OWNERS):
            if inside:
                todo.append((item.__dict__, _DEPTH))
        elif depth > 0 and not isinstance(item, _ENDS):
            todo.extend((inner, depth - 1) for inner in reversed(_within(item)))


def _within(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values()) if len(item) <= _LARGE else []
    if isinstance(item, list | tuple | set | frozenset | deque):
        return list(item) if len(item) <= _LARGE else []
    if isinstance(item, functools.partial):
        return [item.func, item.args, item.keywords]
    found = [getattr(item, name, None) for name in ("__self__", "__wrapped__", "__func__")]
    code = getattr(item, "__code__", None)
    if isinstance(code, CodeType):
        for cell in getattr(item, "__closure__", None) or ():
            try:
                found.append(cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                continue
        found += [getattr(item, "__defaults__", None), getattr(item, "__kwdefaults__", None)]
        names = getattr(item, "__globals__", {})
        found += [names[name] for name in code.co_names if _may_be_used(names.get(name))]
    elif _users_own(type(item)) and isinstance(getattr(item, "__dict__", None), dict):
        found.append(item.__dict__)
        found.append(vars(type(item)).get("__call__"))
    return found


def _may_be_used(item: Any) -> bool:
    return isinstance(item, (*_OWNERS, *_ENDS)) or hasattr(item, "__code__") or isinstance(item, functools.partial)


def _users_own(kind: type) -> bool:
    """Objects of libraries have threads, files and caches of their own: nothing to put back."""
    library = kind.__module__.split(".")[0]
    return kind is SimpleNamespace or (library not in sys.stdlib_module_names and library not in ("torch", "numpy"))
