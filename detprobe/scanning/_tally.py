"""What the passes of a scan saw, gathered per op and place, and turned into the rows of a report."""

from __future__ import annotations

from dataclasses import dataclass

from detprobe.result import FINDING_VERDICTS, OTHER_VERDICTS, Finding, OpRow, Trial, bound
from detprobe.scanning._compare import Measure
from detprobe.scanning._places import Place

__all__ = ["Evidence", "Key", "Tally"]

Key = tuple[str, str, str, str]  # op, phase, module, location

_SEVERITY = {verdict: rank for rank, verdict in enumerate((*FINDING_VERDICTS, *OTHER_VERDICTS))}


@dataclass(slots=True)
class _Seen:
    """One op at one place."""

    verdict: str
    calls: int = 0
    replays: int | None = None
    reason: str = ""
    shapes: str = ""
    elements: int = -1
    exact: bool = True
    """Nothing was computed in any call: there is nothing to bound."""


@dataclass(slots=True)
class Evidence:
    """What one call showed."""

    axis: str
    distinct: int
    replays: int
    measure: Measure
    cause: str
    trials: tuple[Trial, ...] = ()
    shapes: str = ""
    site: str = ""
    calls: int = 1

    def add(self, other: Evidence) -> None:
        """Another call at the same place: the most telling numbers of both, and one explanation."""
        self.calls += other.calls
        if other.distinct > self.distinct:
            self.distinct, self.replays, self.shapes = other.distinct, other.replays, other.shapes
        self.measure = self.measure.worst(other.measure)
        self.cause = self.cause or other.cause
        self.trials = self.trials or other.trials


class Tally:
    """Rows and findings of one scan."""

    def __init__(self) -> None:
        self._seen: dict[Key, _Seen] = {}
        self._found: dict[tuple[Key, str], Evidence] = {}
        self._accused: dict[Key, set[str]] = {}
        self.calls = 0
        self.largest = 0
        """Elements of the largest tensor that an op computed with."""

    def saw(
        self, key: Key, verdict: str, *, replays: int = 0, reason: str = "", shapes: str = "", elements: int = 0
    ) -> None:
        """One call of an op, and what its replays showed."""
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(verdict)
        self.calls += 1
        seen.calls += 1
        if replays:
            seen.exact = False
            seen.replays = replays if seen.replays is None else min(seen.replays, replays)
        if _SEVERITY[verdict] < _SEVERITY[seen.verdict]:
            seen.verdict = verdict
            seen.reason = reason
        seen.reason = seen.reason or reason
        if elements > seen.elements:
            seen.elements, seen.shapes = elements, shapes
            self.largest = max(self.largest, elements)
        self._mark(key)

    def wants_shapes(self, key: Key, elements: int) -> bool:
        """True when this call is the largest at its place so far (a description costs more than a comparison)."""
        seen = self._seen.get(key)
        return seen is None or elements > seen.elements

    def found(self, key: Key, verdict: str, evidence: Evidence, row: Key | None = None) -> None:
        """One call that did not give the same bits. `row` is the op's own place, where the finding names another."""
        known = self._found.get((key, verdict))
        if known is None:
            self._found[key, verdict] = evidence
        else:
            known.add(evidence)
        self._accused.setdefault(row or key, set()).add(verdict)
        self._mark(row or key)

    def _mark(self, key: Key) -> None:
        """Give the row of a place the verdict of its worst finding."""
        seen = self._seen.get(key)
        for verdict in self._accused.get(key, ()):
            if seen is not None and _SEVERITY[verdict] < _SEVERITY[seen.verdict]:
                seen.verdict, seen.reason = verdict, ""

    def accused(self, key: Key, verdict: str = "nondeterministic") -> bool:
        return (key, verdict) in self._found

    def explained(self, key: Key, verdict: str) -> bool:
        """True when a cause is known and fixes were tried: one call of a place is enough for that."""
        return (key, verdict) in self._found and bool(self._found[key, verdict].cause)

    def findings(self) -> tuple[Finding, ...]:
        """The findings, most severe first, then the largest difference."""
        rows = [_finding(key, verdict, evidence) for (key, verdict), evidence in self._found.items()]
        rows.sort(key=lambda f: (_SEVERITY[f.verdict], -(f.max_ulp or 0), f.location, f.op))
        return tuple(rows)

    def rows(self) -> tuple[OpRow, ...]:
        """Every op and place, in the order in which they first ran."""
        return tuple(
            OpRow(
                op=op,
                phase=phase,
                module=module,
                location=location,
                verdict=seen.verdict,
                calls=seen.calls,
                replays=seen.replays or 0,
                bound=_bound(seen),
                reason=seen.reason,
                shapes=seen.shapes,
            )
            for (op, phase, module, location), seen in self._seen.items()
        )


def _bound(seen: _Seen) -> float | None:
    if seen.verdict not in ("stable", "random"):
        return None
    if seen.exact:
        return 0.0
    return bound(seen.replays) if seen.replays is not None and seen.replays > 1 else None


def _finding(key: Key, verdict: str, evidence: Evidence) -> Finding:
    op, phase, module, location = key
    best = evidence.trials[0] if evidence.trials else None
    return Finding(
        op=op,
        phase=phase,
        module=module,
        location=location,
        verdict=verdict,
        axis=evidence.axis,
        calls=evidence.calls,
        distinct=evidence.distinct,
        replays=evidence.replays,
        changed=evidence.measure.changed,
        max_ulp=evidence.measure.max_ulp,
        max_abs=evidence.measure.max_abs,
        cause=evidence.cause,
        fix=best.fix if best else "",
        fix_result=best.result if best else "not tried",
        fix_cost=best.cost if best else None,
        trials=evidence.trials,
        shapes=evidence.shapes,
        call_site=evidence.site,
    )


def key_of(op: str, place: Place) -> Key:
    return (op, place.phase, place.module, place.location)
