"""What a callable can reach by name: the modules whose state a scan must keep, and what of it is compiled."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CodeType, ModuleType
from typing import Any

import torch

__all__ = ["is_compiled", "modules_behind"]

_DEPTH = 5
_LARGE = 10_000  # a longer list holds data, not structure


def modules_behind(value: Any) -> list[torch.nn.Module]:
    """The modules that a callable reaches: itself, bound self, partial, closure, defaults, globals that it uses."""
    return [item for item in _reached(value) if isinstance(item, torch.nn.Module)]


def is_compiled(value: Any) -> bool:
    """True when torch.compile made any of what a callable reaches, or of the modules inside of that."""
    for item in _reached(value):
        parts = item.modules() if isinstance(item, torch.nn.Module) else (item,)
        if any(_compiled(part) for part in parts):
            return True
    return False


def _compiled(item: Any) -> bool:
    marks = ("_orig_mod", "_torchdynamo_orig_callable", "_compiled_call_impl")
    return any(getattr(item, mark, None) is not None for mark in marks)


def _reached(value: Any) -> Iterator[Any]:
    """Every callable and module, once."""
    seen: set[int] = set()
    todo = [(value, _DEPTH)]
    while todo:
        item, depth = todo.pop()
        if id(item) in seen or isinstance(item, type | ModuleType | CodeType):
            continue
        seen.add(id(item))
        if callable(item):
            yield item
        if depth > 1 and not isinstance(item, torch.nn.Module):
            todo.extend((inner, depth - 1) for inner in reversed(_within(item)))


def _within(item: Any) -> list[Any]:
    if isinstance(item, functools.partial):
        return [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, list | tuple | set):
        return list(item) if len(item) <= _LARGE else []
    if isinstance(item, dict):
        return list(item.values()) if len(item) <= _LARGE else []
    inner = [getattr(item, name, None) for name in ("__self__", "__wrapped__", "__func__")]
    code = getattr(item, "__code__", None)
    if isinstance(code, CodeType):
        for cell in getattr(item, "__closure__", None) or ():
            try:
                inner.append(cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                continue
        inner.extend(getattr(item, "__defaults__", None) or ())
        names = getattr(item, "__globals__", {})
        inner.extend(names[name] for name in code.co_names if name in names)
    elif hasattr(item, "__dict__") and callable(item):
        inner.extend(vars(item).values())
    return [i for i in inner if i is not None]
