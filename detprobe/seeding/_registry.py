"""Generators that detprobe does not know by itself: registered by name, seeded and restored with the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Registered", "load_entry_points", "register_rng", "registered"]

GROUP = "detprobe.rng"


@dataclass(frozen=True)
class Registered:
    """A generator of someone else: how to seed it, and how to keep its state."""

    name: str
    seed: Callable[[int], Any]
    get_state: Callable[[], Any]
    set_state: Callable[[Any], Any]


_known: dict[str, Registered] = {}
_loaded: dict[str, str] = {}
"""Of each entry point that was tried what it raised, or nothing."""


def register_rng(
    name: str,
    *,
    seed: Callable[[int], Any],
    get_state: Callable[[], Any],
    set_state: Callable[[Any], Any],
) -> None:
    """Have another generator seeded, isolated and saved as the standard ones are; a known name is replaced.

    A package does it for its users by an entry point of the group "detprobe.rng": a function without arguments, which
    calls this.

    Example:
        >>> detprobe.register_rng("sim", seed=sim.seed, get_state=sim.get_state, set_state=sim.set_state)

    Args:
        name: the row in the report; its key differs from that of every other name.
        seed: takes an int from 0 to 2**64 - 1.
        get_state: returns the state: tensors, ints, strings and containers of them, which torch.load reads with
            weights_only=True. Later draws must not change what was returned.
        set_state: takes what get_state returned.

    Raises:
        ArgumentTypeError: the name is no string, or one of the others cannot be called.
        ArgumentValueError: the name is empty.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"register_rng: name: expected a string, got {type(name).__name__}")
    if not name:
        raise ArgumentValueError("register_rng: name: expected a name, got an empty string")
    for what, function in (("seed", seed), ("get_state", get_state), ("set_state", set_state)):
        if not callable(function):
            raise ArgumentTypeError(f"register_rng: {what}: expected a function, got {type(function).__name__}")
    _known[name] = Registered(name, seed, get_state, set_state)


def registered() -> tuple[Registered, ...]:
    """What is registered, in the order of registration."""
    return tuple(_known.values())


def load_entry_points() -> dict[str, str]:
    """Call each entry point of the group once. Returns what failed, by name: a row of the report, not a crash."""
    for entry in entry_points(group=GROUP):
        if entry.name in _loaded:
            continue
        try:
            entry.load()()
            _loaded[entry.name] = ""
        except Exception as error:  # a package that we do not know must not stop the run
            _loaded[entry.name] = f"{type(error).__name__}: {error}"
    return {name: error for name, error in _loaded.items() if error}
