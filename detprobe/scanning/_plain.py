"""One op for the step and nothing else: what passes do that repeat the step, or look at it in another way."""

from __future__ import annotations

from typing import Any

import torch

from detprobe.scanning._freeze import fresh_in
from detprobe.scanning._poison import fill_with_poison
from detprobe.scanning._schema import ALLOCATES, COMPUTES, facts_of
from detprobe.scanning._state import Undo

__all__ = ["run_plainly"]


def run_plainly(undo: Undo, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an op, keep what it overwrites, and fill what it allocates as the first pass did.

    Without the filling, a model that reads unwritten memory would meet other bytes than in the first pass: an index out
    of range, say.
    """
    if not isinstance(func, torch._ops.OpOverload):
        return func(*args, **kwargs)
    facts = facts_of(func)
    held = args[0].untyped_storage().nbytes() if facts.kind is ALLOCATES and facts.written else 0
    undo.protect_written(facts, args, kwargs)
    output = func(*args, **kwargs)
    if facts.kind is COMPUTES:
        undo.made(fresh_in(facts, output))
    elif facts.kind is ALLOCATES:
        if not facts.written:
            undo.made([output])
        fill_with_poison(output, held)
    return output
