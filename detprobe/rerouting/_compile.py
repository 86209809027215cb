"""Inductor's graphs: the ops of the family are exchanged for their twins, which inductor calls instead of writing.

A pass over the graph is set in inductor's configuration while a context is open, behind a pass of the user's own. It
asks whether the thread that compiles is in a context, and says so in the key of inductor's cache. Nothing here imports
inductor, which takes seconds: where it is not there yet, the pass is set as soon as somebody imports it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import detprobe.bits  # loads the extension, or says how to build it

__all__ = ["TWINS", "drop", "entered", "left"]

_C: Any = detprobe._C

_CONFIG = "torch._inductor.config"
_PASS = "post_grad_custom_pre_pass"

TWINS = (
    *("index_add.default", "index_copy.default", "index_put.default", "_unsafe_index_put.default", "put.default"),
    *("_unsafe_masked_index_put_accumulate.default", "scatter_add.default", "scatter_reduce.two", "scatter.src"),
    "scatter.reduce",
    *("embedding_dense_backward.default", "_embedding_bag.default", "_embedding_bag_forward_only.default"),
    *("_embedding_bag_dense_backward.default", "bincount.default", "histc.default", "segment_reduce.default"),
)
"""Of torch.ops.aten; the twin has "rerouted_" before its name (csrc/reroute_compiled.cpp)."""

_open = 0  # contexts of all threads


def entered() -> int:
    """A context has been opened in this thread; returns what `left` wants to know."""
    global _open
    _open += 1
    config = sys.modules.get(_CONFIG)
    if config is not None:
        _set(config)
    elif not any(isinstance(finder, _Awaiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Awaiting())
    return _graphs()


def left(graphs: int = sys.maxsize) -> dict[str, int]:
    """A context has been closed in this thread; returns what could not be rewritten, to be reported."""
    global _open
    _open -= 1
    config = sys.modules.get(_CONFIG)
    if config is None:
        return {}
    ours = _ours(getattr(config, _PASS))
    if ours is None:
        compiled = max(0, _graphs() - graphs)
        return {f"torch.compile ({_PASS} was set by another in the context)": compiled} if compiled else {}
    if not _C.reroute_active() and (_open == 0 or _of_thread(config)):
        setattr(config, _PASS, ours.before)
    return {}


def _graphs() -> int:
    """How many graphs dynamo has compiled."""
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


def drop() -> None:
    """Forget what is compiled: other threads have no guard that sees the switch of the process."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _set(config: ModuleType) -> None:
    current = getattr(config, _PASS)
    if _ours(current) is None:
        setattr(config, _PASS, _rewrite(current))


def _ours(value: Any) -> Any:
    """The pass of ours among those that are set."""
    return next((one for one in _passes(value) if getattr(one, "of_detprobe", False)), None)


def _of_thread(config: Any) -> bool:
    """Whether each thread has its own configuration, as from torch 2.12 on."""
    entries = getattr(config, "_config", {})
    return isinstance(getattr(entries.get(_PASS), "user_override", None), ContextVar)


def _rewrite(before: Any) -> Any:
    """What to set in the place of `before`: both."""
    from torch._inductor import custom_graph_pass

    aten, twins = torch.ops.aten, {}
    for name in TWINS:
        op, overload = name.split(".")
        twins[getattr(getattr(aten, op), overload)] = getattr(getattr(torch.ops.detprobe, f"rerouted_{op}"), overload)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    # From torch 2.12 on there may be several, and torch calls each as it wants to be called.
    several = hasattr(custom_graph_pass, "get_custom_graph_passes")
    chained = () if several else _passes(before)

    class Rewrite(custom_graph_pass.CustomGraphPass):
        of_detprobe = True

        def __init__(self) -> None:
            self.before = before

        def __call__(self, graph: torch.fx.Graph) -> None:
            for first in chained:
                first(graph)
            if _C.reroute_active():
                for node in graph.nodes:
                    if node.op == "call_function" and node.target in twins:
                        node.target = twins[node.target]

        def uuid(self) -> Any:
            """None, which keeps a graph out of the cache, where a pass of the user's has no uuid."""
            others = [first.uuid() if hasattr(first, "uuid") else None for first in chained]
            return None if None in others else ("detprobe", version, _C.reroute_active(), *others)

    return (*_passes(before), Rewrite()) if several else Rewrite()


def _passes(given: Any) -> Sequence[Any]:
    if given is None:
        return ()
    return given if isinstance(given, list | tuple) else (given,)


class _Awaiting(MetaPathFinder):
    """Sets the pass when inductor's configuration is imported by a thread that is in a context, then is gone."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _CONFIG:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def then_set(module: ModuleType) -> None:
            execute(module)
            if _C.reroute_active():
                _set(sys.modules[name])

        spec.loader.exec_module = then_set  # type: ignore[method-assign]
        return spec
