"""What a comparison of A and B found, as plain data: its runs, a verdict per metric, and what limits it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from detprobe.codec import Document, encode, entries, load, record, strings
from detprobe.errors import ArgumentValueError

__all__ = ["BITS", "REPEATS", "VERDICTS", "Comparison", "MetricVerdict", "Run"]

SCHEMA_VERSION = 1

VERDICTS = ("INERT", "REAL", "NOISE", "UNDECIDED")
REPEATS = ("bits", "metrics", "no", "unknown")
BITS = ("equal", "different", "not compared")


@dataclass(frozen=True)
class Run:
    """One run of A or of B."""

    side: str = field(metadata={"one_of": ("A", "B")})
    seed: int
    metrics: dict[str, float]
    """By name, as the run gave them; also those that are not finite."""
    digest: str = ""
    """Of the final state; empty where the run gave none."""
    failure: str = ""
    """Why the run gave nothing to compare, in one line; empty where it did."""
    repeat: bool = False
    """True for the second run of A on one seed: it is compared with the first, and not counted."""
    seconds: float = 0.0


@dataclass(frozen=True)
class MetricVerdict:
    """What the pairs of one metric say. Differences are B - A, in units of the metric."""

    name: str
    verdict: str = field(metadata={"one_of": VERDICTS})
    pairs: int
    effect: float
    """Mean difference."""
    low: float | None
    high: float | None
    """The 95 % interval of the effect, for reading; None from one pair."""
    wide_low: float | None
    wide_high: float | None
    """The interval at `level`: the one that decides."""
    level: float
    """What the p-value is compared with; the looks at the same runs share 5 %."""
    p_value: float | None
    """The larger p-value of the paired t and the sign-flip test, after Holm for several metrics; None below 3 pairs."""
    superiority: float
    """P(B > A): the share of pairs where B is larger; a tie counts for half."""
    correlation: float | None
    """Of A and B within pairs; None below 3 pairs and where one side does not vary."""
    noise_floor: float | None
    """What a difference of one run each, on different seeds, would have to exceed; None from one run of A."""
    min_effect: float | None = None
    """The smallest difference that matters, as the caller gave it."""
    lower_better: bool = False
    more_pairs: int | None = None
    """Pairs to add that would settle an UNDECIDED; None where it is settled or nothing sensible can be said."""


@dataclass(frozen=True)
class Comparison(Document):
    """Is it the change or the randomness? `str(comparison)` is what a person wants to read."""

    kind: ClassVar[str] = "comparison"

    a: str
    b: str
    """What was run: names of functions, or commands."""
    verdict: str = field(metadata={"one_of": VERDICTS})
    """INERT: the change did nothing, bit for bit. Else REAL where a metric is, NOISE where all are, or UNDECIDED."""
    repeats: str = field(metadata={"one_of": REPEATS})
    """Whether A gave the same again on the same seed: "bits", "metrics" (bits not known), "no", "unknown"."""
    bits: str = field(metadata={"one_of": BITS})
    """The final states of B against those of A on the same seeds."""
    metrics: tuple[MetricVerdict, ...] = ()
    runs: tuple[Run, ...] = ()
    """In the order in which they ran, those that are kept out included."""
    looks: int = 1
    """How many times these runs were judged as they grew; each look has a smaller share of the 5 %."""
    warnings: tuple[str, ...] = ()
    """What limits the verdict, as sentences; the most important one first."""
    environment: dict[str, Any] = field(default_factory=dict)
    schema: int = field(default=SCHEMA_VERSION)

    @property
    def real(self) -> bool:
        """True where the change moved a metric by more than the randomness does."""
        return self.verdict == "REAL"

    def pairs(self, metric: str) -> list[tuple[int, float, float]]:
        """Seed, value of A and value of B, for each seed where both are finite."""
        return pairs(self.runs, metric)

    def __getitem__(self, metric: str) -> MetricVerdict:
        """The verdict of one metric."""
        for found in self.metrics:
            if found.name == metric:
                return found
        raise KeyError(metric)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """Read what `to_json` gave back.

        Raises:
            ArgumentValueError: the text is no JSON, no comparison, or of a schema this version cannot read.
        """
        raw = load(text, cls, SCHEMA_VERSION)
        metrics = tuple(record(MetricVerdict, item) for item in entries(raw, "metrics"))
        runs = tuple(run_from_plain(item) for item in entries(raw, "runs"))
        return record(cls, {**raw, "metrics": metrics, "runs": runs, "warnings": strings(raw, "warnings")})


def counted(runs: Iterable[Run], side: str, metric: str) -> dict[int, float]:
    """The values that count, by seed: of runs that did not fail, finite. The first run of a seed counts."""
    found: dict[int, float] = {}
    for run in runs:
        value = run.metrics.get(metric)
        if run.side == side and not run.failure and not run.repeat and value is not None and math.isfinite(value):
            found.setdefault(run.seed, value)
    return found


def pairs(runs: Iterable[Run], metric: str) -> list[tuple[int, float, float]]:
    """Seed, value of A and value of B, in the order of A's runs."""
    runs = tuple(runs)
    b = counted(runs, "B", metric)
    return [(seed, value, b[seed]) for seed, value in counted(runs, "A", metric).items() if seed in b]


def run_to_plain(run: Run) -> dict[str, Any]:
    plain: dict[str, Any] = encode(dataclasses.asdict(run))
    return plain


def run_from_plain(raw: Any) -> Run:
    """A run from the object that `run_to_plain` made of it."""
    metrics = raw.get("metrics") if isinstance(raw, dict) else None
    if not isinstance(metrics, dict):
        raise ArgumentValueError("not a detprobe report: Run.metrics: expected an object of numbers by name")
    return record(Run, {**raw, "metrics": {name: _number(name, value) for name, value in metrics.items()}})


def _number(name: str, value: Any) -> float:
    if isinstance(value, str) and value in ("inf", "-inf", "nan"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, float | int):
        where = f"not a detprobe report: Run.metrics[{name!r:.80}]"
        raise ArgumentValueError(f"{where}: expected a number, got {value!r:.80}")
    try:
        return float(value)
    except OverflowError:
        raise ArgumentValueError(f"not a detprobe report: Run.metrics[{name!r:.80}]: the number is too large") from None
