"""Checks of arguments that several rooms take."""

from __future__ import annotations

from typing import Any

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["check_callable", "check_number"]


def check_callable(name: str, value: Any, advice: str) -> None:
    if not callable(value):
        kind = "an nn.Module or a callable" if name == "model" else "a callable"
        raise ArgumentTypeError(f"{name}: expected {kind}, got {type(value).__name__}: {advice}")


def check_number(name: str, value: Any, kind: type[int] | type[float], least: float | None, advice: str) -> None:
    kinds: Any = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ArgumentTypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__} ({value!r}): {advice}")
    if least is not None and not value >= least:
        raise ArgumentValueError(f"{name}: expected at least {least}, got {value!r}: {advice}")
    if kind is int and value >= 2**63:
        raise ArgumentValueError(f"{name}: expected less than 2**63, got {value!r}: {advice}")
