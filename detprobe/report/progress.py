"""A progress bar on stderr, for what takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from detprobe.report.wording import clean

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(doing: str = "scanning") -> Iterator[Callable[[int, int | None, str], None]]:
    """Gives a callable (steps done, steps in all or None, text): the bar is wiped at the end."""
    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[op]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None, op="")

        def draw(done: int, total: int | None, op: str) -> None:
            bar.update(task, completed=done, total=total, op=clean(op).replace("[", r"\["))

        yield draw
