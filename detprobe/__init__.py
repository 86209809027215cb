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
    from detprobe.seeding import (
        LoaderAudit,
        Run,
        SettingsReport,
        audit_loader,
        isolate_rng,
        register_rng,
        seed_everything,
        seed_worker,
    )
    from detprobe.verdict import Comparison, compare

__version__ = "0.1.0"

_ROOMS = ("nn", "ops", "probes")

_HOMES = {
    "Comparison": "detprobe.verdict",
    "DetprobeError": "detprobe.errors",
    "Finding": "detprobe.result",
    "LoaderAudit": "detprobe.seeding",
    "NondeterminismError": "detprobe.errors",
    "NotAvailableError": "detprobe.errors",
    "OpRow": "detprobe.result",
    "Report": "detprobe.result",
    "Rerouted": "detprobe.rerouting",
    "Run": "detprobe.seeding",
    "SettingsReport": "detprobe.seeding",
    "Trial": "detprobe.result",
    "audit_loader": "detprobe.seeding",
    "assert_deterministic": "detprobe.scanning",
    "compare": "detprobe.verdict",
    "deterministic": "detprobe.rerouting",
    "isolate_rng": "detprobe.seeding",
    "register_rng": "detprobe.seeding",
    "scan": "detprobe.scanning",
    "seed_everything": "detprobe.seeding",
    "seed_worker": "detprobe.seeding",
}

__all__ = [
    "Comparison",
    "DetprobeError",
    "Finding",
    "LoaderAudit",
    "NondeterminismError",
    "NotAvailableError",
    "OpRow",
    "Report",
    "Rerouted",
    "Run",
    "SettingsReport",
    "Trial",
    "assert_deterministic",
    "audit_loader",
    "compare",
    "deterministic",
    "isolate_rng",
    "nn",
    "ops",
    "probes",
    "register_rng",
    "scan",
    "seed_everything",
    "seed_worker",
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
