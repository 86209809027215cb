"""The table of a benchmark as a picture: a panel for each op, speed over size, a colour for each layout."""

from __future__ import annotations

from pathlib import Path
from statistics import geometric_mean
from typing import Any

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
SPANS = {"elements": (50, 3e8), "columns": (0.7, 370)}
LOWEST, HIGHEST = 0.1, 20.0  # a speed outside is drawn at the edge, with its number


def write(rows: list[dict[str, Any]], title: str, file: Path, over: str = "elements") -> str:
    """Writes the picture and returns a sentence about it, also where matplotlib is missing.

    `over` is the key of what the speed is drawn over, one of SPANS.
    """
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError:
        return f"no plot: matplotlib is not installed (pip install 'matplotlib>=3.8'), {file} was not written"
    names = list(dict.fromkeys(row["op"] for row in rows))
    lines = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(3.4 * min(COLUMNS, len(names)), 2.3 * lines + 1.3), layout="constrained")
    axes = figure.subplots(lines, min(COLUMNS, len(names)), sharex=True, sharey=True, squeeze=False)
    axes[0, 0].set_xlim(*SPANS[over])
    for axis, name in zip(axes.flat, names, strict=False):
        _panel(axis, name, [row for row in rows if row["op"] == name], over)
        axis.set_ylim(LOWEST / 1.2, HIGHEST * 1.2)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, len(names) - COLUMNS) : len(names)]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
        axis.set_xlabel(over, fontsize=8)
    used = {row["layout"] for row in rows}
    marks = [Line2D([], [], color=COLOURS[name], marker="o", ms=4, label=name) for name in COLOURS if name in used]
    marks += [
        Line2D([], [], color="0.4", marker=shape, ls="", ms=5, label=dtype)
        for dtype, shape in SHAPES.items()
        if any(row["dtype"] == dtype for row in rows)
    ]
    marks.append(Line2D([], [], color="0.4", marker="_", ls="", ms=9, mew=1.5, label="target"))
    figure.legend(handles=marks, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    figure.suptitle(f"Speed of detprobe / torch (above 1: detprobe is faster)\n{title}", fontsize=10)
    figure.savefig(file, dpi=130)
    return f"plot: {file}"


def _drawn(row: dict[str, Any]) -> float:
    return min(HIGHEST, max(LOWEST, row["speed"]))


def _panel(axis: Any, name: str, rows: list[dict[str, Any]], over: str) -> None:
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
                middle = [geometric_mean(_drawn(row) for row in chosen if row[over] == size) for size in at]
                axis.plot(at, middle, color=COLOURS[layout], lw=0.9, alpha=0.7)
            places = [row[over] for row in chosen], [_drawn(row) for row in chosen]
            axis.plot(*places, marker, color=COLOURS[layout], ms=3.5)
    for row in rows:
        if _drawn(row) != row["speed"]:
            where = row[over], _drawn(row)
            beside = (3, 3) if row["speed"] < LOWEST else (3, -7)
            axis.annotate(f"{row['speed']:.2g}", where, beside, textcoords="offset points", fontsize=6)
    for row in rows:
        if row["target"] is not None:
            axis.plot(row[over], row["target"], "_", color="0.4", ms=9, mew=1.2, zorder=0)
    axis.yaxis.set_major_locator(FixedLocator([0.1, 0.25, 0.5, 1, 2, 4, 8, 16]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(LogLocator(base=10 if over == "elements" else 4, numticks=8))
    axis.xaxis.set_minor_locator(NullLocator())
    if over == "columns":
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(color="0.9", lw=0.6)
    axis.set_title(name, fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
