"""`assert_deterministic`: a scan as one line of a test suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detprobe.errors import ArgumentTypeError, NondeterminismError
from detprobe.scanning._scan import run_scan

__all__ = ["assert_deterministic"]


def assert_deterministic(
    fn: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, *, replays: int = 8
) -> None:
    """Fail when an op of `fn(*args, **kwargs)`, or of its backward, does not give the same bits twice.

    Example:
        >>> def test_my_layer_repeats():
        ...     detprobe.assert_deterministic(MyLayer(), (torch.randn(64, 1024),))

    Args:
        fn: an nn.Module or any callable. Its backward is replayed too where its output requires a gradient.
        args: positional arguments.
        kwargs: keyword arguments.
        replays: results to compare per op call; at least 2.

    Raises:
        NondeterminismError: an AssertionError; its text is the report with the findings.
        ArgumentTypeError, ArgumentValueError: an argument cannot be used.
    """
    if not isinstance(args, tuple | list):
        raise ArgumentTypeError(
            f"args: expected a tuple of positional arguments, got {type(args).__name__}: write (argument,)"
        )
    report = run_scan(
        fn,
        (tuple(args), dict(kwargs or {})),
        loss=None,
        backward=True,
        optimizer=None,
        replays=replays,
        axes=("rerun", "flag"),
        budget=None,
        seed=0,
        progress=None,
        lenient=True,
    )
    if not report.ok:
        raise NondeterminismError(f"not deterministic:\n{report}")
