"""`compare`: two callables on the same seeds, and a verdict on what they gave."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from detprobe.checks import check_callable, check_number
from detprobe.errors import ArgumentTypeError, ArgumentValueError, DetprobeError
from detprobe.report.progress import Progress, ticking
from detprobe.report.wording import clean
from detprobe.verdict._conclude import chosen_metrics, conclude
from detprobe.verdict._schedule import looks_after, run_missing
from detprobe.verdict._state import state_digest
from detprobe.verdict_report import Comparison, Run, pairs

__all__ = ["asked", "compare"]


def compare(
    fn_a: Callable[[int], Any],
    fn_b: Callable[[int], Any],
    *,
    seeds: Iterable[int] | None = None,
    runs: int | None = None,
    metric: str | Sequence[str] | None = None,
    min_effect: float | Mapping[str, float] | None = None,
    lower_better: bool | Sequence[str] = False,
    earlier: Comparison | None = None,
    progress: bool | Progress | None = None,
) -> Comparison:
    """Is it the change or the randomness? Run A and B on the same seeds and say INERT, REAL, NOISE or UNDECIDED.

    Example:
        >>> def train(seed, rate=0.1):
        ...     torch.manual_seed(seed)
        ...     ...
        ...     return {"acc": accuracy}, model
        >>> found = detprobe.compare(train, lambda seed: train(seed, rate=0.2), runs=10, metric="acc")
        >>> print(found)
        >>> found.verdict
        'REAL'
        >>> more = detprobe.compare(train, train_b, runs=17, metric="acc", earlier=found)  # 7 pairs more

    Args:
        fn_a, fn_b: called with a seed, which they apply themselves. They return a number, a dict of numbers by name,
            or (one of these, state), where the state is what training left: a model, a state_dict, tensors, arrays,
            numbers, lists and dicts of them. Only with a state can INERT be said. Names are a part of it: after
            renaming a layer return list(model.parameters()). A run that raises is left out, and named.
        seeds: integers from 0 on, each once.
        runs: that many seeds, from 0 on, instead of `seeds`.
        metric: name or names of what to judge; every metric that all runs gave, by default.
        min_effect: the smallest difference that matters, in units of the metric; by name for several metrics. NOISE
            can only be said with it.
        lower_better: True for a loss; the names of such metrics where there are several.
        earlier: what an earlier call gave. Its runs are kept and not run again, and its look is paid for: look k tests
            at 0.05 * 6 / (pi^2 k^2). Adding pairs without it, after having seen a verdict, makes chance look real.
        progress: True for a bar on stderr, or a callable (done, total or None, text).

    Returns:
        `Comparison`. A runs twice on one seed, to see whether it repeats itself.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument cannot be used, a function returns something else, or there
            is no seed on which both gave a metric.

    Source: paired t interval; sign-flip test (Fisher 1935); Holm 1979 for several metrics.
    """
    sides = {"A": fn_a, "B": fn_b}
    for name, fn in (("fn_a", fn_a), ("fn_b", fn_b)):
        check_callable(name, fn, "it is called with a seed")
    wanted = _seeds(seeds, runs)
    names = _names(metric)
    labels = [_label(fn) for fn in (fn_a, fn_b)]
    done = _kept(earlier, labels)
    if names:
        asked(names, min_effect, lower_better)

    def run(side: str, seed: int, repeat: bool) -> Run:
        first = all(one.failure for one in done)
        made = _run(sides[side], side, seed, repeat, names, strict=first)
        if first and not made.failure:
            _check_first(made, names, min_effect, lower_better)
        return made

    with ticking(progress, "comparing") as tick:
        run_missing(wanted, done, run, tick)
    judged = names or chosen_metrics(done)
    least, lower = asked(judged, min_effect, lower_better)
    from detprobe import environment

    return conclude(
        done,
        a=labels[0],
        b=labels[1],
        metrics=judged,
        min_effects=least,
        lower_better=lower,
        looks=1
        if earlier is None
        else looks_after(earlier.looks, _fewest(earlier.runs, judged), _fewest(done, judged)),
        environment=environment.read(),
    )


def _fewest(runs: Sequence[Run], names: Sequence[str]) -> int:
    return min((len(pairs(runs, name)) for name in names), default=0)


def asked(
    names: Sequence[str], min_effect: float | Mapping[str, float] | None, lower_better: bool | Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """min_effect by metric, and the metrics that are better when lower.

    Raises:
        ArgumentValueError: one number or True for several metrics, or a name that is not among them.
    """
    among = f"got the metrics {', '.join(map(repr, names))}"
    if isinstance(min_effect, Mapping):
        least = dict(min_effect)
    elif min_effect is None:
        least = {}
    elif len(names) == 1:
        least = {names[0]: min_effect}
    else:
        raise ArgumentValueError(f"min_effect: expected one by name for several metrics, {among}: name them")
    if isinstance(lower_better, bool):
        if lower_better and len(names) > 1:
            raise ArgumentValueError(f"lower_better: expected the names of such metrics, {among}: name them")
        lower = list(names) if lower_better else []
    else:
        lower = _several("lower_better", lower_better)
    for argument, given in (("min_effect", list(least)), ("lower_better", lower)):
        for name in given:
            if name not in names:
                raise ArgumentValueError(f"{argument}: expected a metric that is judged, got {name!r}; {among}")
    for name, value in least.items():
        check_number(f"min_effect of {name}", value, float, None, "in units of the metric")
        if not 0 < value < float("inf"):
            raise ArgumentValueError(f"min_effect of {name}: expected a finite number above 0, got {value!r}")
    return least, lower


def _seeds(seeds: Iterable[int] | None, runs: int | None) -> list[int]:
    if (seeds is None) == (runs is None):
        raise ArgumentValueError("expected either runs or seeds: write runs=10, or seeds=[1, 2, 3]")
    if runs is not None:
        check_number("runs", runs, int, 1, "3 pairs are the fewest that can say anything")
        return list(range(runs))
    try:
        found = [operator.index(seed) for seed in seeds or ()]
    except TypeError:
        raise ArgumentTypeError(f"seeds: expected integers, got {seeds!r:.80}: write seeds=range(10)") from None
    if not found or len(set(found)) < len(found) or min(found) < 0:
        raise ArgumentValueError(f"seeds: expected integers from 0 on, each once, one at least, got {found!r:.80}")
    return found


def _names(metric: str | Sequence[str] | None) -> list[str]:
    return [] if metric is None else _several("metric", metric)


def _several(argument: str, given: Any) -> list[str]:
    """One name, or several, as a list."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple | set) or not all(isinstance(name, str) for name in names):
        raise ArgumentTypeError(f"{argument}: expected a name or a list of names, got {given!r:.80}")
    return list(dict.fromkeys(names))


def _label(fn: Callable[..., Any]) -> str:
    inner = fn
    while hasattr(inner, "func"):  # functools.partial
        inner = inner.func
    name = str(getattr(inner, "__qualname__", type(inner).__qualname__)).replace("<locals>.", "")
    if inner is fn:
        return name
    named = [f"{key}={_short(value)}" for key, value in getattr(fn, "keywords", {}).items()]
    return f"{name}({', '.join([*map(_short, getattr(fn, 'args', ())), *named])})"


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__


def _kept(earlier: Comparison | None, labels: list[str]) -> list[Run]:
    """The runs of an earlier comparison that need not run again: those that did not fail."""
    if earlier is None:
        return []
    if not isinstance(earlier, Comparison):
        raise ArgumentTypeError(f"earlier: expected what compare returned, got {type(earlier).__name__}")
    if [earlier.a, earlier.b] != labels:
        raise ArgumentValueError(
            f"earlier: expected a comparison of {labels[0]} and {labels[1]}, got one of {earlier.a} and {earlier.b}"
        )
    return [run for run in earlier.runs if not run.failure]


def _run(fn: Callable[[int], Any], side: str, seed: int, repeat: bool, names: Sequence[str], *, strict: bool) -> Run:
    """One run. With `strict` a result of the wrong kind is an error: nothing is lost yet."""
    start = time.perf_counter()
    try:
        given = fn(seed)
    except Exception as error:
        failure = clean(f"{type(error).__name__}: {error}")[:300]
        return Run(side, seed, {}, failure=failure, repeat=repeat, seconds=time.perf_counter() - start)
    seconds = time.perf_counter() - start
    try:
        metrics, digest = _result(given, names)
    except DetprobeError as error:
        if strict:
            raise
        return Run(side, seed, {}, failure=str(error), repeat=repeat, seconds=seconds)
    return Run(side, seed, metrics, digest, repeat=repeat, seconds=seconds)


def _result(given: Any, names: Sequence[str]) -> tuple[dict[str, float], str]:
    """Metrics and digest from what a function returned."""
    values, digest = given, ""
    if isinstance(given, tuple) and len(given) == 2:
        values = given[0]
        digest = state_digest(given[1])
    if not isinstance(values, Mapping):
        values = {names[0] if len(names) == 1 else "value": values}
    return {str(name): _number(name, value) for name, value in values.items()}, digest


def _number(name: Any, value: Any) -> float:
    try:
        plain = value.item() if callable(getattr(value, "item", None)) else value
        if isinstance(plain, int | float) and not isinstance(plain, bool):
            return float(plain)
    except (ValueError, RuntimeError, OverflowError):  # a tensor of several elements, an integer beyond floats
        pass
    raise ArgumentTypeError(
        f"metric {name!r}: expected a number, got {type(value).__name__} ({value!r:.60}): the functions return a "
        "number, a dict of numbers, or (one of these, state)"
    )


def _check_first(
    run: Run, names: Sequence[str], min_effect: float | Mapping[str, float] | None, lower_better: bool | Sequence[str]
) -> None:
    """What would fail after all runs fails after the first."""
    for name in names:
        if name not in run.metrics:
            gave = ", ".join(map(repr, run.metrics)) or "nothing"
            raise ArgumentValueError(f"metric: expected {name!r} among what the functions return, got {gave}")
    if not names:
        asked(list(run.metrics), min_effect, lower_better)
