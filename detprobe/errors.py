"""The errors that detprobe raises: one base class, and for each kind of mistake the type that a user would expect.

A text says what was expected, what was got, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "DetprobeError",
    "NondeterminismError",
    "NotAvailableError",
]


class DetprobeError(Exception):
    """Base class of every error that detprobe raises on purpose."""


class ArgumentTypeError(DetprobeError, TypeError):
    """An argument has the wrong type."""


class ArgumentValueError(DetprobeError, ValueError):
    """An argument has the right type and a value that cannot be used."""


class NotAvailableError(DetprobeError, RuntimeError):
    """What was asked for cannot be had on this machine (no GPU, no second device). The command line exits with 3."""


class NondeterminismError(DetprobeError, AssertionError):
    """`assert_deterministic` found an op that does not repeat; the text holds the findings."""
