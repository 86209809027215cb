"""The settings that a run depends on, as plain rows: what was wanted, what is in effect, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

__all__ = ["FREE", "LATE", "NOT_REQUESTED", "OK", "OVERRIDDEN", "RANDOM", "UNSUPPORTED", "Setting", "SettingsReport"]

OK, LATE, OVERRIDDEN = "OK", "LATE", "OVERRIDDEN"
RANDOM, UNSUPPORTED, NOT_REQUESTED = "RANDOM", "UNSUPPORTED", "NOT REQUESTED"
FREE = "FREE"


@dataclass(frozen=True)
class Setting:
    """One source of randomness or freedom."""

    name: str
    wanted: str
    """What the run asked for; empty where it asked for nothing."""
    effective: str
    """What is in effect now."""
    status: str
    """OK; LATE: set after it could have an effect; OVERRIDDEN: something else was set since, or by the user before;
    RANDOM: differs from process to process; UNSUPPORTED: not on this machine or build; NOT REQUESTED: left as it is;
    FREE: seen to differ by `Run.check`."""
    fix: str = ""


@dataclass(frozen=True)
class SettingsReport:
    """The table; `str()` of it is what a person wants to read."""

    seed: int
    mode: str | None
    rows: tuple[Setting, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for is in effect."""
        return not any(row.status in (LATE, OVERRIDDEN, RANDOM, FREE) for row in self.rows)

    def row(self, name: str) -> Setting:
        """The row of that name, or KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> str:
        """The rows as JSON text."""
        return json.dumps({"schema": 1, **dataclasses.asdict(self)}, indent=1) + "\n"

    def __str__(self) -> str:
        from detprobe.report.table import render_table

        cells = [(row.name, row.wanted or "-", row.effective, row.status, row.fix) for row in self.rows]
        title = f"seed {self.seed}, mode {self.mode}"
        return render_table(title, ("setting", "wanted", "effective", "status", "fix"), cells, notes=self.notes)
