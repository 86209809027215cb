"""Pieces that every report on a terminal is made of."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from detprobe.report.wording import clean

__all__ = ["marked_line", "note_line", "plain_table"]


def plain_table() -> Table:
    """A table without lines."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=False)


def note_line(note: str) -> Table:
    return marked_line(Text("note:", style="bold yellow"), note)


def marked_line(mark: Text, said: str) -> Table:
    """A sentence that is folded beside its mark, never under it."""
    lines = Table.grid(padding=(0, 1))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row(mark, Text(clean(said)))
    return lines
