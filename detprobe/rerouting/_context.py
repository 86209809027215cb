"""`detprobe.deterministic()`: the scatter family, forward and backward, on kernels with a fixed order.

The switch is a dispatch key of the thread (csrc/reroute.h). A context sets it and puts back what was there.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch.utils._contextlib import _wrap_generator

import detprobe.bits  # loads the extension, or says how to build it
from detprobe.errors import ArgumentTypeError, NotAvailableError
from detprobe.rerouting import _compile
from detprobe.rerouting._report import Rerouted

__all__ = ["deterministic"]

_C: Any = detprobe._C

_P = ParamSpec("_P")
_R = TypeVar("_R")


class deterministic:  # noqa: N801 - a class that is used like a function, as torch.no_grad is
    """Within it, ops whose sums race run in a fixed order: scatter, index and embedding ops, and their gradients.

    The model needs no change, and torch's flag is not needed. The results are those of `detprobe.ops`: one set of bits
    on CPU and GPU, whatever the number of threads. What it leaves alone runs as ever, and costs nothing.

    Example:
        >>> with detprobe.deterministic() as report:
        ...     model(batch).sum().backward()
        >>> report.replaced
        {'aten::index_put': 3, 'aten::scatter_add': 2}
        >>> print(report)

        >>> @detprobe.deterministic()
        ... def train_step(batch): ...

        >>> detprobe.deterministic.enable()  # for all threads, until disable()

    It counts where an op runs: a backward() that is called after the context is torch's. As with torch's own modes, it
    belongs to the thread that entered it and to what autograd runs for that thread; a new threading.Thread starts
    without. Contexts nest, and leave what they found when an exception passes.

    torch.compile: entering compiles once more. The backends "eager" and "aot_eager" run what is described here. Of
    inductor's graphs the ops of this family are exchanged while they are compiled in the context; a graph whose forward
    ran outside keeps the backward that was compiled for it.

    Returns:
        From `with`: a `Rerouted`, whose `replaced` and `uncovered` count the calls of each op, also after the end.

    Raises:
        NotAvailableError: this torch does not have the dispatch key that switches.

    Source: the orders are DSEG-1 of csrc/README.md.
    """

    def __init__(self) -> None:
        # By thread: one object may be open in several, as the one of a decorator is.
        self._open: dict[int, list[tuple[Rerouted, int]]] = {}

    def __enter__(self) -> Rerouted:
        _check()
        report = Rerouted(_C.reroute_open())
        self._open.setdefault(threading.get_ident(), []).append((report, _compile.entered()))
        return report

    def __exit__(self, *exception: object) -> None:
        thread = threading.get_ident()
        mine = self._open[thread]
        report, graphs = mine.pop()
        if not mine:
            del self._open[thread]
        _C.reroute_close(report._session)
        report._compiled.update(_compile.left(graphs))

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """As a decorator, of a function or of a generator: a context of its own for every call."""
        if not callable(function) or isinstance(function, type):
            kind = function.__name__ if isinstance(function, type) else type(function).__name__
            raise ArgumentTypeError(
                f"deterministic(): expected a function to decorate, got {kind}: decorate its methods, "
                "or write `with detprobe.deterministic():` around the call"
            )
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ArgumentTypeError(
                f"deterministic(): expected a function that runs in one go, got the coroutine {function.__name__}, "
                "whose thread runs others in between: write `with detprobe.deterministic():` around code without await"
            )
        if inspect.isgeneratorfunction(function):
            return _wrap_generator(type(self), function)  # type: ignore[no-any-return]

        @functools.wraps(function)
        def decorated(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with type(self)():
                return function(*args, **kwargs)

        return decorated

    @staticmethod
    def enable() -> Rerouted:
        """Switch it on for every thread of the process, until `disable()`; contexts go on as they did.

        What torch.compile has compiled is dropped, so that every thread compiles with it.

        Returns:
            A `Rerouted` that counts what all threads run. A second call starts to count anew.
        """
        _check()
        was_on = _C.reroute_disable()
        report = Rerouted(_C.reroute_enable())
        if not was_on:
            _compile.drop()
            _compile.entered()
        return report

    @staticmethod
    def disable() -> None:
        """Undo `enable()`. Does nothing where it is not enabled."""
        if _C.reroute_disable():
            _compile.left()
            _compile.drop()

    @staticmethod
    def active() -> bool:
        """Whether this thread is in a context, or the process is switched on."""
        return bool(_C.reroute_active())


for _method in (deterministic.__enter__, deterministic.__exit__, deterministic.enable, deterministic.disable):
    # What torch.compiler.disable does, which would import dynamo: a graph ends where a context begins.
    setattr(_method, "_torchdynamo_disable", True)  # noqa: B010 - functions have no such attribute


@functools.cache
def _check() -> None:
    """Once: does torch have the key, and do its higher-order ops ignore it as they ignore other such keys?"""
    try:
        key: Any = torch._C._parse_dispatch_key(_C.reroute_key())
    except RuntimeError as error:
        raise NotAvailableError(str(error)) from None
    # flex_attention, cond and their like look for a kernel at every key that is set and not on this list.
    torch._ops._HIGHER_ORDER_OP_DEFAULT_FALLTHROUGH_DISPATCH_KEYS.append(key)
    for op in torch._ops._higher_order_ops.values():
        op.fallthrough(key)
