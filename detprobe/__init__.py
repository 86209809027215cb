"""detprobe: find, explain, fix and prove nondeterminism in PyTorch.

The public names. They are imported when they are first used, so that `import detprobe` costs nothing by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detprobe import nn, ops, probes
    from detprobe.errors import DetprobeError, NondeterminismError, NotAvailableError
    from detprobe.rerouting import Rerouted, deterministic
    from detprobe.result import Finding, OpRow, Report, Trial
    from detprobe.scanning import assert_deterministic, scan
    from detprobe.verdict import Comparison, compare

__version__ = "0.1.0"

_ROOMS = ("nn", "ops", "probes")

_HOMES = {
    "Comparison": "detprobe.verdict",
    "DetprobeError": "detprobe.errors",
    "Finding": "detprobe.result",
    "NondeterminismError": "detprobe.errors",
    "NotAvailableError": "detprobe.errors",
    "OpRow": "detprobe.result",
    "Report": "detprobe.result",
    "Rerouted": "detprobe.rerouting",
    "Trial": "detprobe.result",
    "assert_deterministic": "detprobe.scanning",
    "compare": "detprobe.verdict",
    "deterministic": "detprobe.rerouting",
    "scan": "detprobe.scanning",
}

__all__ = [
    "Comparison",
    "DetprobeError",
    "Finding",
    "NondeterminismError",
    "NotAvailableError",
    "OpRow",
    "Report",
    "Rerouted",
    "Trial",
    "assert_deterministic",
    "compare",
    "deterministic",
    "nn",
    "ops",
    "probes",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"detprobe.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'detprobe' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
