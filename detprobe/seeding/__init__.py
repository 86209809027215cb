"""Make a run repeatable: derived keys for every use of randomness, and a report of what really took effect."""

from detprobe.seeding._audit import AuditRow, LoaderAudit, audit_loader
from detprobe.seeding._registry import register_rng
from detprobe.seeding._report import Setting, SettingsReport
from detprobe.seeding._run import Run, seed_everything
from detprobe.seeding._samples import seed_worker
from detprobe.seeding._states import isolate_rng

__all__ = [
    "AuditRow",
    "LoaderAudit",
    "Run",
    "Setting",
    "SettingsReport",
    "audit_loader",
    "isolate_rng",
    "register_rng",
    "seed_everything",
    "seed_worker",
]
