"""A table of plain rows with a coloured status: what the settings report and the loader's audit look like."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from detprobe.report.wording import clean

__all__ = ["render_table"]

_GOOD, _BAD = ("OK", "PASS"), ("FAIL", "OVERRIDDEN", "LATE", "RANDOM", "FREE")


def render_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, notes: Iterable[str] = (), width: int = 120
) -> str:
    """Title, table and notes as plain text, at most `width` columns wide."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, no_wrap=name == "status", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell), style=_style(cell)) for cell in row))
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(Text(clean(title)), table)
    for note in notes:
        console.print(Text(f"note: {clean(note)}"))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _style(cell: str) -> str:
    return "green" if cell in _GOOD else "bold red" if cell in _BAD else ""
