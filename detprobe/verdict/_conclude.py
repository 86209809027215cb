"""From runs to a `Comparison`: pairs by seed, what is kept out and why, INERT by the bits, and else the rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from detprobe.errors import ArgumentValueError
from detprobe.verdict import _statistics as statistics
from detprobe.verdict._rule import FEWEST, Decision, decide
from detprobe.verdict_report import Comparison, MetricVerdict, Run, counted, pairs

__all__ = ["chosen_metrics", "conclude"]

_NAMED = 5
"""Runs of one trouble that are named; the others are counted."""


def conclude(
    runs: Sequence[Run],
    *,
    a: str,
    b: str,
    metrics: Sequence[str] = (),
    min_effects: dict[str, float] | None = None,
    lower_better: Sequence[str] = (),
    looks: int = 1,
    environment: dict[str, Any] | None = None,
) -> Comparison:
    """The verdict on runs of A and of B.

    Args:
        runs: in the order in which they ran, failed ones too. A's run with `repeat` shows whether A repeats itself.
        a, b: names of what was run.
        metrics: what to judge; every metric that all runs gave, where it is empty.
        min_effects: per metric the smallest difference that matters.
        lower_better: the metrics that are better when they are lower.
        looks: how many times these runs were judged, this time included.

    Raises:
        ArgumentValueError: a metric has no pair of finite values; the text says what each run had instead.
    """
    names = list(metrics) or chosen_metrics(runs)
    least = {name: (min_effects or {}).get(name) for name in names}
    paired = {name: pairs(runs, name) for name in names}
    troubles = _troubles(runs, names)
    for name in names:
        if not paired[name]:
            said = "; ".join(troubles) or "there is no run of A and B on the same seed"
            raise ArgumentValueError(f"expected a finite {name!r} of A and of B on the same seed, got none: {said}")
    values = [([x for _, x, _ in paired[name]], [y for _, _, y in paired[name]]) for name in names]
    decisions = decide(values, look=looks, min_effects=[least[name] for name in names])
    repeats, bits = _repeats(runs, names), _bits(runs)
    alike = all(x == y for found in paired.values() for _, x, y in found)
    inert = repeats == "bits" and bits == "equal" and alike
    found = tuple(
        _metric(name, decision, *pair, runs, least[name], name in lower_better, inert)
        for name, decision, pair in zip(names, decisions, values, strict=True)
    )
    verdicts = [metric.verdict for metric in found]
    overall = "REAL" if "REAL" in verdicts else verdicts[0] if len(set(verdicts)) == 1 else "UNDECIDED"
    return Comparison(
        a=a,
        b=b,
        verdict=overall,
        repeats=repeats,
        bits=bits,
        metrics=found,
        runs=tuple(runs),
        looks=looks,
        warnings=(
            *_repeat_warnings(runs, names, repeats),
            *troubles,
            *_bit_warnings(repeats, bits, alike),
            *_seed_warnings(runs, found),
            *_rule_warnings(found),
        ),
        environment=environment or {},
    )


def chosen_metrics(runs: Sequence[Run]) -> list[str]:
    """The metrics that all runs gave, in the order of the first."""
    gave = [run.metrics for run in runs if not run.failure]
    if not gave:
        said = "; ".join(_failures(runs)) or "there are none"
        raise ArgumentValueError(f"expected runs of A and of B that end well, got none: {said}")
    names = [name for name in gave[0] if all(name in metrics for metrics in gave)]
    if not names:
        raise ArgumentValueError("expected a metric that every run gives, got none: name one with metric=")
    return names


def _metric(
    name: str,
    decision: Decision,
    a: Sequence[float],
    b: Sequence[float],
    runs: Sequence[Run],
    least: float | None,
    lower_better: bool,
    inert: bool,
) -> MetricVerdict:
    singles = list(counted(runs, "A", name).values())
    return MetricVerdict(
        name=name,
        verdict="INERT" if inert else decision.verdict,
        pairs=len(a),
        effect=decision.effect,
        low=decision.low,
        high=decision.high,
        wide_low=decision.wide_low,
        wide_high=decision.wide_high,
        level=decision.level,
        p_value=decision.p_value,
        superiority=statistics.superiority([y - x for x, y in zip(a, b, strict=True)]),
        correlation=statistics.correlation(a, b),
        noise_floor=statistics.single_run_difference(singles) if len(singles) > 1 else None,
        min_effect=least,
        lower_better=lower_better,
        more_pairs=None if inert else decision.more_pairs,
    )


def _again(runs: Sequence[Run]) -> tuple[Run, Run] | None:
    """A's two runs on one seed, where both ended well."""
    for second in runs:
        if second.side == "A" and second.repeat and not second.failure:
            for first in runs:
                if (first.side, first.seed, first.repeat, first.failure) == ("A", second.seed, False, ""):
                    return first, second
    return None


def _same(x: float | None, y: float | None) -> bool:
    return x == y or (x is not None and y is not None and math.isnan(x) and math.isnan(y))


def _repeats(runs: Sequence[Run], names: Sequence[str]) -> str:
    both = _again(runs)
    if both is None:
        return "unknown"
    first, second = both
    if first.digest != second.digest or not all(_same(first.metrics.get(n), second.metrics.get(n)) for n in names):
        return "no"
    return "bits" if first.digest else "metrics"


def _bits(runs: Sequence[Run]) -> str:
    digests: dict[int, dict[str, str]] = {}
    for run in runs:
        if not run.failure and not run.repeat:
            digests.setdefault(run.seed, {}).setdefault(run.side, run.digest)
    both = [(sides["A"], sides["B"]) for sides in digests.values() if len(sides) == 2]
    if any(a and b and a != b for a, b in both):
        return "different"
    return "equal" if both and all(a and b for a, b in both) else "not compared"


def _repeat_warnings(runs: Sequence[Run], names: Sequence[str], repeats: str) -> list[str]:
    both = _again(runs)
    if repeats != "no" or both is None:
        return []
    first, second = both
    moved = [n for n in names if not _same(first.metrics.get(n), second.metrics.get(n))]
    said = (
        ", ".join(f"{name} was {first.metrics.get(name)}, then {second.metrics.get(name)}" for name in moved)
        or "the final state has other bits the second time"
    )
    return [
        f"A does not repeat itself: on seed {first.seed} {said}. So INERT cannot be said, and a part of the noise is "
        "not the seed's: seed everything, or look for the op with `detprobe scan`."
    ]


def _failures(runs: Sequence[Run]) -> list[str]:
    return _some([f"{_which(run)} failed: {run.failure}" for run in runs if run.failure])


def _which(run: Run) -> str:
    return f"{run.side} on seed {run.seed}{' (the second time)' if run.repeat else ''}"


def _some(said: list[str]) -> list[str]:
    more = len(said) - _NAMED
    return [*said[:_NAMED], f"{more} more runs in the same way"] if more > 0 else said


def _troubles(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """What is kept out, and why: failed runs, metrics that are missing or not finite, seeds without a partner."""
    fine = [run for run in runs if not run.failure]
    missing, broken = [], []
    for run in fine:
        for name in names:
            value = run.metrics.get(name)
            if value is None:
                gave = ", ".join(run.metrics) or "nothing"
                missing.append(f"{_which(run)} gave no {name}, but {gave}: left out")
            elif not math.isfinite(value):
                broken.append(f"{_which(run)} gave {name} = {value}: left out")
    sides = {side: {run.seed for run in runs if run.side == side and not run.repeat} for side in ("A", "B")}
    alone = []
    for side, other in (("A", "B"), ("B", "A")):
        seeds = sorted(sides[side] - sides[other])
        if seeds:
            what = "seed" if len(seeds) == 1 else "seeds"
            alone.append(f"no partner from {other} for {what} {', '.join(map(str, seeds))} of {side}: left out")
    return [*_failures(runs), *_some(missing), *_some(broken), *alone]


def _bit_warnings(repeats: str, bits: str, alike: bool) -> list[str]:
    if bits == "not compared" and alike:
        return ["Metrics are equal, bits were not compared: INERT needs the final state of each run."]
    if bits == "equal" and not alike:
        return ["The final states are equal bit for bit and a metric is not: the difference is in how it is measured."]
    if bits == "equal" and repeats == "unknown":
        return ["The final states are equal bit for bit, but whether A repeats itself is not known: that is not INERT."]
    return []


def _seed_warnings(runs: Sequence[Run], found: Sequence[MetricVerdict]) -> list[str]:
    said = []
    for metric in found:
        singles = list(counted(runs, "A", metric.name).values())
        if len(singles) >= FEWEST and len(set(singles)) == 1:
            said.append(f"{metric.name} of A is the same on all {len(singles)} seeds: does the seed reach the run?")
        if "best" in metric.name.lower():
            said.append(
                f"{metric.name} looks like the best of several epochs: that favours the noisier side. Judge the last."
            )
    seeds = {run.seed for run in runs}
    if len({seed % 2**32 for seed in seeds}) < len(seeds):
        said.append("Some seeds differ by a multiple of 2**32: torch's CPU generator takes them for one seed.")
    return said


def _rule_warnings(found: Sequence[MetricVerdict]) -> list[str]:
    said = []
    fewest = min(metric.pairs for metric in found)
    if fewest < FEWEST and found[0].verdict != "INERT":
        said.append(f"{fewest} of the {FEWEST} pairs below which nothing is decided.")
    if any(metric.verdict == "UNDECIDED" and metric.min_effect is None for metric in found):
        said.append("Without a min_effect NOISE cannot be said: give the smallest difference that would matter.")
    return said
