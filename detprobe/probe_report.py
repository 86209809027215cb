"""What a probe saw, as plain data: one shape for all probes, which `detprobe.report` shows and JSON keeps."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from detprobe.codec import Document, encode, entries, load, record, strings
from detprobe.errors import ArgumentValueError
from detprobe.sum_tree import SumTree

__all__ = ["Bars", "Cell", "Column", "Figure", "Histogram", "ProbeReport", "ProbeReports", "Table", "TreeFigure"]

SCHEMA_VERSION = 1

Cell = float | int | str | bool | None
"""None: there is no such number. Shown as a dash."""


@dataclass(frozen=True)
class Column:
    """The head of a column, and how its numbers are printed."""

    name: str
    unit: str = ""
    """"ms", "ULP", "MiB"; empty for names and counts."""
    digits: int = 3
    """Significant digits of a float: no more than were measured. Integers are printed whole."""


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ArgumentValueError(
                    f"table {self.title!r:.80}: expected {len(self.columns)} cells in each row, got {len(row)}"
                )


@dataclass(frozen=True)
class Histogram:
    """How often a measured value fell between `edges[i]` and `edges[i + 1]`; the last edge belongs to the last bin."""

    title: str
    unit: str
    """What the horizontal axis is: "ULP from the exact sum"."""
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    marks: tuple[tuple[str, float], ...] = ()
    """Values to compare with, by name: ("fixed order", 0.0)."""

    def __post_init__(self) -> None:
        fits = len(self.edges) == len(self.counts) + 1 > 1 and min(self.counts) >= 0
        finite = all(map(math.isfinite, (*self.edges, *(at for _, at in self.marks))))
        if not fits or not finite or not _rising(self.edges):
            raise ArgumentValueError(
                f"histogram {self.title!r:.80}: expected finite, rising edges, one more than counts, and finite marks, "
                f"got {len(self.edges)} edges and {len(self.counts)} counts"
            )

    @classmethod
    def of(
        cls,
        title: str,
        values: Iterable[float],
        *,
        unit: str,
        bins: int = 16,
        marks: Sequence[tuple[str, float]] = (),
    ) -> Histogram:
        """Count finite values, at least one. Few whole numbers get a bin each, centred; others `bins` equal ones."""
        found = [float(value) for value in values]
        if not found or not all(map(math.isfinite, found)):
            raise ArgumentValueError(f"histogram {title!r:.80}: expected at least one value, all of them finite")
        low, high = min(found), max(found)
        whole = all(value.is_integer() for value in found)
        if whole and high - low < bins:
            edges = [low - 0.5 + i for i in range(int(high - low) + 2)]
        else:
            step = (high - low) / bins
            edges = [low + i * step for i in range(bins)] + [high]
        if not _rising(edges):  # equal, or too close to be split
            edges = [math.nextafter(low, -math.inf), math.nextafter(high, math.inf)]
        places = Counter(max(0, sum(value >= edge for edge in edges[:-1]) - 1) for value in found)
        counts = tuple(places[i] for i in range(len(edges) - 1))
        return cls(title, unit, tuple(edges), counts, tuple(marks))


def _rising(edges: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(edges))


@dataclass(frozen=True)
class Bars:
    """One number per name, drawn from zero on; no number is negative."""

    title: str
    unit: str
    labels: tuple[str, ...]
    values: tuple[float | None, ...]
    digits: int = 3

    def __post_init__(self) -> None:
        bad = [value for value in self.values if value is not None and not 0 <= value < math.inf]
        if len(self.labels) != len(self.values) or bad:
            raise ArgumentValueError(
                f"bars {self.title!r:.80}: expected a label for each number, all finite and none negative, got "
                f"{len(self.labels)} labels and {self.values!r:.80}"
            )


@dataclass(frozen=True)
class TreeFigure:
    """The order of additions of a sum."""

    title: str
    tree: SumTree


Figure = Histogram | Bars | TreeFigure
_FIGURES: dict[str, type[Figure]] = {"histogram": Histogram, "bars": Bars, "tree": TreeFigure}


@dataclass(frozen=True)
class ProbeReport(Document):
    """What one probe saw on one device. `str(report)` is what a person wants to read.

    `environment` is what `detprobe.environment.read()` gives; `settings` holds the arguments of the probe.
    """

    kind: ClassVar[str] = "probe"

    name: str
    """The probe: "atomic_add"."""
    question: str
    """What it answers, in one sentence."""
    device: str
    """"cpu", "cuda:0" or "emulator"."""
    environment: dict[str, Any]
    settings: dict[str, Any]
    free: bool
    """True where the order of additions, and with it the bits, was seen to move."""
    findings: tuple[str, ...] = ()
    """What this shows, as sentences; the most important one first."""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not available, and why; what limits the result."""
    seconds: float = 0.0
    """Wall time of the probe, s."""
    schema: int = field(default=SCHEMA_VERSION)

    @property
    def ok(self) -> bool:
        """True where no float-ordering freedom was seen. Never a proof: what was tried is in the tables."""
        return not self.free

    @property
    def tree(self) -> SumTree | None:
        """The summation tree that was recovered, where the probe recovers one."""
        return next((figure.tree for figure in self.figures if isinstance(figure, TreeFigure)), None)

    def _plain(self) -> dict[str, Any]:
        plain = dataclasses.asdict(self)
        for table in plain["tables"]:
            table["rows"] = [[_plain_cell(cell) for cell in row] for row in table["rows"]]
        for raw, figure in zip(plain["figures"], self.figures, strict=True):
            raw["figure"] = next(name for name, kind in _FIGURES.items() if isinstance(figure, kind))
        return plain

    @classmethod
    def from_json(cls, text: str) -> ProbeReport:
        """Read what `to_json` gave back.

        Raises:
            ArgumentValueError: the text is no JSON, no report of a probe, or of a schema this version cannot read.
        """
        return _probe_report(load(text, cls, SCHEMA_VERSION))


@dataclass(frozen=True)
class ProbeReports(Document):
    """The reports of several probes, and the probes that could not run."""

    kind: ClassVar[str] = "probes"

    device: str
    """Where they were asked to run: "cpu", "cuda:0", or "cpu and emulator"."""
    reports: tuple[ProbeReport, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    """Name of a probe, and the sentence that says why it did not run."""
    seconds: float = 0.0
    schema: int = field(default=SCHEMA_VERSION)

    @property
    def ok(self) -> bool:
        """True where no probe that ran saw float-ordering freedom."""
        return all(report.ok for report in self.reports)

    def __getitem__(self, name: str) -> ProbeReport:
        """The report of one probe, by its name; where it ran on two devices, the first."""
        for report in self.reports:
            if report.name == name:
                return report
        raise KeyError(name)

    def _plain(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "reports": [report._plain() for report in self.reports]}

    @classmethod
    def from_json(cls, text: str) -> ProbeReports:
        """Read what `to_json` gave back.

        Raises:
            ArgumentValueError: the text is no JSON, no reports of probes, or of a schema this version cannot read.
        """
        raw = load(text, cls, SCHEMA_VERSION)
        reports = tuple(_probe_report(item) for item in entries(raw, "reports"))
        skipped = tuple(_pair(item, "skipped", str) for item in entries(raw, "skipped"))
        return record(cls, {**raw, "reports": reports, "skipped": skipped})


def _probe_report(raw: Any) -> ProbeReport:
    return record(
        ProbeReport,
        {
            **(raw if isinstance(raw, dict) else {}),
            "findings": strings(raw, "findings"),
            "tables": tuple(_table(item) for item in entries(raw, "tables")),
            "figures": tuple(_figure(item) for item in entries(raw, "figures")),
            "notes": strings(raw, "notes"),
        },
    )


def _table(raw: Any) -> Table:
    columns = tuple(record(Column, item) for item in entries(raw, "columns"))
    rows = tuple(tuple(_cell(cell) for cell in entries({"row": row}, "row")) for row in entries(raw, "rows"))
    return record(Table, {**raw, "columns": columns, "rows": rows})


def _figure(raw: Any) -> Figure:
    name = raw.get("figure") if isinstance(raw, dict) else None
    if not isinstance(name, str) or name not in _FIGURES:
        raise ArgumentValueError(
            f"not a detprobe report: figure: expected one of {', '.join(_FIGURES)}, got {name!r:.80}"
        )
    values = {key: value for key, value in raw.items() if key != "figure"}
    if name == "histogram":
        values["edges"], values["counts"] = _numbers(raw, "edges", float, int), _numbers(raw, "counts", int)
        values["marks"] = tuple(_pair(item, "marks", float, int) for item in entries(raw, "marks"))
    elif name == "bars":
        values["labels"], values["values"] = strings(raw, "labels"), _numbers(raw, "values", float, int, type(None))
    else:
        values["tree"] = SumTree.from_plain(raw.get("tree"))
    return record(_FIGURES[name], values)


def _numbers(raw: Any, name: str, *kinds: type) -> tuple[Any, ...]:
    values = entries(raw, name)
    if any(type(value) not in kinds for value in values):
        raise ArgumentValueError(f"not a detprobe report: {name}: expected numbers, got {values!r:.80}")
    return tuple(values)


def _pair(raw: Any, name: str, *kinds: type) -> tuple[str, Any]:
    if not isinstance(raw, list) or len(raw) != 2 or not isinstance(raw[0], str) or type(raw[1]) not in kinds:
        raise ArgumentValueError(
            f"not a detprobe report: {name}: expected pairs that start with a name, got {raw!r:.80}"
        )
    return raw[0], raw[1]


def _plain_cell(cell: Cell) -> Any:
    """A float that JSON has no word for is marked: a text "nan" is a text."""
    return {"float": encode(cell)} if isinstance(cell, float) and not math.isfinite(cell) else cell


def _cell(raw: Any) -> Cell:
    if isinstance(raw, dict) and raw.get("float") in ("inf", "-inf", "nan") and len(raw) == 1:
        return float(raw["float"])
    if raw is None or isinstance(raw, float | int | str):
        return raw
    raise ArgumentValueError(f"not a detprobe report: a cell: expected a number, a text or null, got {raw!r:.80}")
