"""The errors that detprobe raises: one base class, and for each kind of mistake the type that a user would expect.

A text says what was expected, what was got, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ArgumentIndexError",
    "ArgumentRuntimeError",
    "ArgumentTypeError",
    "ArgumentValueError",
    "DetprobeError",
    "NondeterminismError",
    "NotAvailableError",
    "UnsupportedError",
]


class DetprobeError(Exception):
    """Base class of every error that detprobe raises on purpose."""


class ArgumentTypeError(DetprobeError, TypeError):
    """An argument has the wrong type."""


class ArgumentValueError(DetprobeError, ValueError):
    """An argument has the right type and a value that cannot be used."""


class ArgumentIndexError(DetprobeError, IndexError):
    """A dimension or a class is out of range, where torch raises IndexError."""


class ArgumentRuntimeError(DetprobeError, RuntimeError):
    """Arguments that do not fit together (shapes, dtypes, devices), where torch raises RuntimeError."""


class UnsupportedError(DetprobeError, NotImplementedError):
    """A dtype, layout or variant for which there is no kernel, where torch raises NotImplementedError."""


class NotAvailableError(DetprobeError, RuntimeError):
    """What was asked for cannot be had on this machine (no GPU, no second device). The command line exits with 3."""


class NondeterminismError(DetprobeError, AssertionError):
    """`assert_deterministic` found an op that does not repeat; the text holds the findings."""
