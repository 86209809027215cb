"""Results as plain data: frozen dataclasses that go to JSON and come back, and print nothing themselves.

`Report` is what `detprobe.scan` returns. Its `str()`, `_repr_html_()` and `to_html()` import `detprobe.report` lazily:
the one edge that points from data to its views.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from detprobe.errors import ArgumentValueError

__all__ = ["SCHEMA_VERSION", "Finding", "OpRow", "Report", "Trial", "bound"]

SCHEMA_VERSION = 1

_Kind = TypeVar("_Kind")

FINDING_VERDICTS = ("nondeterministic", "uninitialized", "order-sensitive")  # most severe first
OTHER_VERDICTS = ("unreplayed", "random", "stable")


def bound(replays: int) -> float:
    """The largest probability of a different result that `replays` equal results leave open, at 95 % confidence.

    The first result is the reference and the other `replays - 1` agreed with it, so an op that differs with
    probability p stayed unseen with probability (1 - p) ** (replays - 1), which is 0.05 at the returned p.
    """
    return float(1.0 - 0.05 ** (1.0 / (replays - 1)))


@dataclass(frozen=True)
class Trial:
    """One fix that was tried on the frozen inputs of a finding, and what came of it."""

    fix: str
    """What was set, as code: `torch.use_deterministic_algorithms(True)`."""
    result: str
    """"identical" (all replays agree), "refuses" (torch raises) or "still differs"."""
    cost: float | None = None
    """Time with the fix divided by time without it; None where it was refused."""
    detail: str = ""
    """The first line of torch's refusal; empty otherwise."""


@dataclass(frozen=True)
class Finding:
    """An op at a place that does not give the same bits, with its evidence.

    All measures are over the replays of one call on identical inputs; where a place ran several times they are the
    largest seen in any of its calls.
    """

    op: str
    """The op without its overload: "aten::index_put"."""
    phase: str
    """"forward", "backward" or "optimizer"."""
    module: str
    """Dotted path of the module that made the call; empty outside of any module."""
    location: str
    """"file.py:line" of the forward line, for backward ops too; empty where there is none."""
    verdict: str
    """"nondeterministic", "order-sensitive" or "uninitialized"."""
    axis: str
    """What the replay changed when the bits moved: "rerun" (nothing), "threads", "stress", "batch", ..."""
    calls: int
    """How many calls at this place gave different bits."""
    distinct: int
    """Distinct results among `replays` (the first run counts as one of them)."""
    replays: int
    changed: float
    """Share of the elements that differ from the first result, 0 to 1."""
    max_ulp: int | None
    """Largest difference in units in the last place; None where no two numbers can be compared (NaN against one)."""
    max_abs: float | None
    """Largest absolute difference; None as for max_ulp."""
    cause: str
    fix: str = ""
    """The best fix that was tried, as code; empty where none was tried."""
    fix_result: str = "not tried"
    """"identical", "refuses", "still differs" or "not tried"."""
    fix_cost: float | None = None
    """Time with the fix divided by time without it."""
    trials: tuple[Trial, ...] = ()
    """Every fix that was tried, the best one first."""
    shapes: str = ""
    """Types and shapes of the tensors of the worst call: "float32[300, 3], int64[11980]"."""
    call_site: str = ""
    """Where the op itself was called when that is another line than `location` (a custom Function's backward)."""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes two findings the same one in two scans: op, phase, module, location, verdict."""
        return (self.op, self.phase, self.module, self.location, self.verdict)


@dataclass(frozen=True)
class OpRow:
    """One op at one place, whatever its verdict."""

    op: str
    phase: str
    module: str
    location: str
    verdict: str
    """A finding's verdict, or "random", "stable", "unreplayed"."""
    calls: int
    replays: int
    """Results compared per call, the first run included; 0 where nothing was replayed."""
    bound: float | None
    """For "stable" and "random": the op differs with at most this probability, at 95 % confidence (see `bound`)."""
    reason: str = ""
    """Why it was not replayed; what made it random."""
    shapes: str = ""
    """Types and shapes of the tensors of the largest call."""


@dataclass(frozen=True)
class Report:
    """What a scan saw. `str(report)` is the table; `report.ok` says whether anything was found.

    `environment` is what `detprobe.environment.read()` gives; `settings` holds the arguments of the scan (axes,
    replays, seed, budget); `notes` are sentences that limit or explain the result.
    """

    model: str
    findings: tuple[Finding, ...]
    ops: tuple[OpRow, ...]
    environment: dict[str, Any]
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    """Wall time of the scan, s."""
    schema: int = field(default=SCHEMA_VERSION)

    @property
    def ok(self) -> bool:
        """True when there is no finding. Never a proof: see each op's bound."""
        return not self.findings

    def __str__(self) -> str:
        from detprobe.report.terminal import render_text

        return render_text(self)

    def _repr_html_(self) -> str:
        from detprobe.report.html import render_fragment

        return render_fragment(self)

    def to_html(self, path: str | Path) -> None:
        """Write one offline HTML file. The same report gives the same bytes."""
        from detprobe.report.html import render_page

        Path(path).write_text(render_page(self), encoding="utf-8", newline="\n")

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as strict JSON text (infinities and NaN as strings); also written to `path` when given."""
        text = json.dumps(_encode(dataclasses.asdict(self)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8", newline="\n")
        return text

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` gave back.

        Raises:
            ArgumentValueError: the text is no JSON, no detprobe report, or of a schema this version cannot read.
        """
        raw = _load(text)
        lists = {name: _entries(raw, name) for name in ("findings", "ops", "notes")}
        if not all(isinstance(note, str) for note in lists["notes"]):
            raise ArgumentValueError("not a detprobe report: notes: expected strings")
        findings = tuple(
            dataclasses.replace(
                _record(Finding, item), trials=tuple(_record(Trial, trial) for trial in _entries(item, "trials"))
            )
            for item in lists["findings"]
        )
        ops = tuple(_record(OpRow, item) for item in lists["ops"])
        return _record(cls, {**raw, "findings": findings, "ops": ops, "notes": tuple(lists["notes"])})


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "int | None": (int, NoneType),
    "float | None": (float, int, NoneType),
    "dict[str, Any]": (dict,),
}
_VERDICTS = {"Finding": FINDING_VERDICTS, "OpRow": (*FINDING_VERDICTS, *OTHER_VERDICTS)}
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _record(kind: type[_Kind], raw: Any) -> _Kind:
    """One dataclass from the object that `to_json` made of it; a report from elsewhere may hold anything."""
    where = f"not a detprobe report: {kind.__name__}"
    if not isinstance(raw, dict):
        raise ArgumentValueError(f"{where}: expected an object, got {type(raw).__name__}")
    values = dict(raw)
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        if entry.name not in values:
            if entry.default is dataclasses.MISSING:
                raise ArgumentValueError(f"{where}.{entry.name} is missing")
            continue
        value = values[entry.name]
        if str(entry.type).startswith("float") and isinstance(value, str) and value in _NON_FINITE:
            value = values[entry.name] = _NON_FINITE[value]
        allowed = _TYPES.get(str(entry.type))
        if allowed is not None and (not isinstance(value, allowed) or isinstance(value, bool)):
            raise ArgumentValueError(f"{where}.{entry.name}: expected {entry.type}, got {value!r:.80}")
    known = _VERDICTS.get(kind.__name__)
    if known is not None and values["verdict"] not in known:
        raise ArgumentValueError(f"{where}.verdict: expected one of {', '.join(known)}, got {values['verdict']!r:.80}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ArgumentValueError(f"{where}: {error}") from None


def _entries(raw: Any, name: str) -> list[Any]:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, list):
        raise ArgumentValueError(f"not a detprobe report: {name}: expected a list, got {type(value).__name__}")
    return value


def _load(text: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentValueError(f"expected the JSON text of a detprobe report, got something else: {error}") from None
    if not isinstance(raw, dict) or "schema" not in raw:
        raise ArgumentValueError("expected the JSON text of a detprobe report: an object with a 'schema' entry")
    if raw["schema"] != SCHEMA_VERSION:
        raise ArgumentValueError(
            f"expected schema {SCHEMA_VERSION}, got {raw['schema']!r}: read it with the detprobe that wrote it"
        )
    return raw


def _encode(value: Any) -> Any:
    """Non-finite floats become strings: JSON has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value
