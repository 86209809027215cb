"""Tables as a picture: a panel for each op, speed and share of the bandwidth over size, a colour for each layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from detprobe.bench._run import Row
from detprobe.errors import ArgumentValueError, NotAvailableError

__all__ = ["check", "write"]

COLOURS = {
    "full": "#0072b2",
    "inner": "#d55e00",
    "outer": "#009e73",
    "middle": "#cc79a7",
    "step": "#56b4e9",
    "step rows": "#999999",
    "transposed": "#000000",
    "random exponents": "#e69f00",
    "training": "#882255",
    "eval": "#999933",
    "unique": "#56b4e9",
    "uniform": "#009e73",
    "Zipf": "#e69f00",
    "one hot": "#d55e00",
}
SHAPES = {"float16": "^", "bfloat16": "v", "float64": "s"}
COLUMNS = 4
WIDTH, HEIGHT, MARGIN = 3.4, 2.2, 1.0  # inches of a panel, and what head and legend of a suite take
OVER = {"reductions": "elements", "scatter": "columns"}
SPANS = {"elements": (50, 3e8), "columns": (0.7, 370)}


@dataclass(frozen=True)
class Quantity:
    """What is drawn, from `low` to `high`: what lies outside is drawn at the edge, with its number."""

    key: str
    title: str
    low: float
    high: float
    ticks: tuple[float, ...]

    def of(self, row: Row) -> float:
        return float(min(self.high, max(self.low, row[self.key])))


SPEED = Quantity(
    "speed", "speed of detprobe / torch (above 1: detprobe is faster)", 0.1, 20, (0.1, 0.25, 0.5, 1, 2, 4, 8, 16)
)
SHARE = Quantity(
    "share",
    "share of the bandwidth of a copy (bytes moved / time of detprobe / bandwidth in this run)",
    0.001,
    20,
    (0.001, 0.01, 0.1, 1, 10),
)


def check(path: str) -> None:
    """Before the work: whether `write` could write this file.

    Raises:
        ArgumentValueError: matplotlib cannot write this kind of file.
        NotAvailableError: there is no matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        raise NotAvailableError("--plot needs matplotlib: pip install 'matplotlib>=3.8'") from None
    kinds = sorted(FigureCanvasAgg.get_supported_filetypes())
    if Path(path).suffix[1:].lower() not in kinds:
        raise ArgumentValueError(f"--plot {path}: expected a name that ends in one of .{', .'.join(kinds)}")


def write(tables: Mapping[str, Sequence[Row]], title: str, path: str) -> None:
    """Draw the rows of each suite, by its name: first all speeds, then all shares."""
    from matplotlib.figure import Figure

    parts = [(name, rows, quantity) for name, rows in tables.items() if rows for quantity in (SPEED, SHARE)]
    panels = [len({row["op"] for row in rows}) for _, rows, _ in parts]
    heights = [HEIGHT * -(-count // COLUMNS) + MARGIN for count in panels]
    figure = Figure(figsize=(WIDTH * min(COLUMNS, max(2, *panels)), sum(heights) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    places = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for place, (name, rows, quantity) in zip(places, parts, strict=True):
        _part(place, name, rows, quantity)
    figure.savefig(path, dpi=130)


def _part(place: Any, suite: str, rows: Sequence[Row], quantity: Quantity) -> None:
    """All panels of one quantity, with their legend."""
    over, names = OVER[suite], list(dict.fromkeys(row["op"] for row in rows))
    columns = min(COLUMNS, max(2, len(names)))
    axes = place.subplots(-(-len(names) // columns), columns, sharex=True, sharey=True, squeeze=False)
    axes[0, 0].set_xlim(*SPANS[over])
    for axis, name in zip(axes.flat, names, strict=False):
        _panel(axis, name, [row for row in rows if row["op"] == name], over, quantity)
        axis.set_ylim(quantity.low / 1.2, quantity.high * 1.2)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, len(names) - columns) : len(names)]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
        axis.set_xlabel(over, fontsize=8)
    place.suptitle(f"{suite}: {quantity.title}", fontsize=9)
    place.legend(handles=_marks(rows, quantity), loc="outside lower center", ncols=6, frameon=False, fontsize=8)


def _marks(rows: Sequence[Row], quantity: Quantity) -> list[Any]:
    from matplotlib.lines import Line2D

    used = {row["layout"] for row in rows}
    marks = [Line2D([], [], color=COLOURS[name], marker="o", ms=4, label=name) for name in COLOURS if name in used]
    marks += [
        Line2D([], [], color="0.4", marker=shape, ls="", ms=5, label=dtype)
        for dtype, shape in SHAPES.items()
        if any(row["dtype"] == dtype for row in rows)
    ]
    if quantity is SPEED:
        marks.append(Line2D([], [], color="0.4", marker="_", ls="", ms=9, mew=1.5, label="target"))
    return marks


def _panel(axis: Any, name: str, rows: Sequence[Row], over: str, quantity: Quantity) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.axhline(1, color="0.3", lw=0.8)
    for layout in dict.fromkeys(row["layout"] for row in rows):
        for dtype in dict.fromkeys(row["dtype"] for row in rows):
            chosen = [row for row in rows if (row["layout"], row["dtype"]) == (layout, dtype)]
            at = sorted({row[over] for row in chosen})
            marker = SHAPES.get(dtype, "o")
            if len(at) > 1:  # several shapes of one size: the line goes through their geometric mean
                middle = [geometric_mean(quantity.of(row) for row in chosen if row[over] == size) for size in at]
                axis.plot(at, middle, color=COLOURS[layout], lw=0.9, alpha=0.7)
            places = [row[over] for row in chosen], [quantity.of(row) for row in chosen]
            axis.plot(*places, marker, color=COLOURS[layout], ms=3.5)
    for row in rows:
        if quantity.of(row) != row[quantity.key]:
            where = row[over], quantity.of(row)
            beside = (3, 3) if row[quantity.key] < quantity.low else (3, -7)
            axis.annotate(f"{row[quantity.key]:.2g}", where, beside, textcoords="offset points", fontsize=6)
    for row in rows if quantity is SPEED else ():
        if row["target"] is not None:
            axis.plot(row[over], row["target"], "_", color="0.4", ms=9, mew=1.2, zorder=0)
    axis.yaxis.set_major_locator(FixedLocator(quantity.ticks))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(LogLocator(base=10 if over == "elements" else 4, numticks=8))
    axis.xaxis.set_minor_locator(NullLocator())
    if over == "columns":
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(color="0.9", lw=0.6)
    axis.set_title(name, fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
