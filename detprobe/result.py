"""The results of a scan as plain data: frozen dataclasses that go to JSON and come back, and print nothing themselves.

`Report` is what `detprobe.scan` returns.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from detprobe.codec import Document, entries, load, record, strings

__all__ = ["SCHEMA_VERSION", "Finding", "OpRow", "Report", "Trial", "bound"]

SCHEMA_VERSION = 1

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
    verdict: str = field(metadata={"one_of": FINDING_VERDICTS})
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
    verdict: str = field(metadata={"one_of": (*FINDING_VERDICTS, *OTHER_VERDICTS)})
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
class Report(Document):
    """What a scan saw. `str(report)` is the table; `report.ok` says whether anything was found.

    `environment` is what `detprobe.environment.read()` gives; `settings` holds the arguments of the scan (axes,
    replays, seed, budget); `notes` are sentences that limit or explain the result.
    """

    kind: ClassVar[str] = "scan"

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

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` gave back.

        Raises:
            ArgumentValueError: the text is no JSON, no detprobe report, or of a schema this version cannot read.
        """
        raw = load(text, cls, SCHEMA_VERSION)
        findings, ops = entries(raw, "findings"), entries(raw, "ops")
        notes = strings(raw, "notes")
        return record(
            cls,
            {
                **raw,
                "findings": tuple(
                    dataclasses.replace(
                        record(Finding, item), trials=tuple(record(Trial, trial) for trial in entries(item, "trials"))
                    )
                    for item in findings
                ),
                "ops": tuple(record(OpRow, item) for item in ops),
                "notes": notes,
            },
        )
