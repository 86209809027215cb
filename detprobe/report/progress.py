"""A progress bar on stderr, for what takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console

from detprobe.report.wording import clean

__all__ = ["Progress", "progress_bar", "ticking"]

Progress = Callable[[int, int | None, str], None]
"""(steps done, steps in all or None, text)"""


@contextmanager
def progress_bar(doing: str = "scanning") -> Iterator[Progress]:
    """Gives a callable (steps done, steps in all or None, text): the bar is wiped at the end."""
    columns = (
        rich_progress.TextColumn(doing),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[op]}"),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None, op="")

        def draw(done: int, total: int | None, op: str) -> None:
            bar.update(task, completed=done, total=total, op=clean(op).replace("[", r"\["))

        yield draw


@contextmanager
def ticking(progress: bool | Progress | None, doing: str) -> Iterator[Progress]:
    """What is called as the work goes on: a bar on stderr, the caller's own callable, or nothing."""
    if progress is True:
        with progress_bar(doing) as draw:
            yield draw
    else:
        yield progress if callable(progress) else lambda done, total, text: None
