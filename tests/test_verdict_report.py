"""A comparison as data and as views: what is kept out is named, INERT is a matter of bits, and nothing is invented."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import pytest
from test_report import HOSTILE, Elements

from detprobe.errors import ArgumentValueError
from detprobe.report import verdict_wording as wording
from detprobe.report.html import render_fragment, render_page
from detprobe.report.terminal import render_text
from detprobe.verdict import _statistics as statistics
from detprobe.verdict._conclude import conclude
from detprobe.verdict_report import Comparison, Run

A = [90.0, 91.0, 89.5, 90.5]
B = [90.9, 92.1, 90.4, 91.6]


def runs(
    a: list[float] = A, b: list[float] = B, *, digests: tuple[str, str] = ("", ""), again: Run | None = None
) -> list[Run]:
    made = [] if again is None else [again]
    for seed, (x, y) in enumerate(zip(a, b, strict=True)):
        made += [Run("A", seed, {"acc": x}, digests[0]), Run("B", seed, {"acc": y}, digests[1])]
    return made


def judged(made: list[Run], **options: Any) -> Comparison:
    return conclude(made, a="old", b="new", **{"metrics": ["acc"], **options})


def again(value: float = 90.0, digest: str = "") -> Run:
    return Run("A", 0, {"acc": value}, digest, repeat=True)


def sample() -> Comparison:
    made = [*runs(again=again()), Run("B", 9, {"acc": math.nan}), Run("A", 9, {}, failure="ValueError: no")]
    return judged(made, min_effects={"acc": 0.5}, environment={"torch": "2"})


def hostile() -> Comparison:
    found = sample()
    return dataclasses.replace(
        found,
        a=HOSTILE,
        b=HOSTILE,
        metrics=(dataclasses.replace(found.metrics[0], name=HOSTILE),),
        runs=(Run("A", 1, {HOSTILE: 1.0}, HOSTILE), Run("B", 1, {HOSTILE: 1e308}, failure=HOSTILE)),
        warnings=(HOSTILE,),
        repeats="no",
        environment={HOSTILE: HOSTILE},
    )


@pytest.mark.parametrize("comparison", [sample(), hostile(), judged(runs([1e308], [-7e307]))])
def test_a_comparison_comes_back_from_json_as_it_was(comparison: Comparison) -> None:
    text = comparison.to_json()
    assert "NaN" not in text
    assert Comparison.from_json(text).to_json() == text
    assert str(Comparison.from_json(text)) == str(comparison)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("verdict",), "SURE"),
        (("metrics", 0, "verdict"), "SURE"),
        (("metrics", 0, "effect"), "big"),
        (("metrics", 0, "pairs"), None),
        (("runs", 0, "side"), "C"),
        (("runs", 0, "seed"), "0"),
        (("runs", 0, "metrics"), [1]),
        (("runs", 0, "metrics"), {"acc": "much"}),
        (("runs", 0, "metrics"), {"acc": 10**400}),
        (("runs",), {}),
        (("metrics", 0), 7),
        (("warnings",), [1]),
        (("schema",), 2),
        (("kind",), "scan"),
    ],
)
def test_json_that_is_no_comparison_is_refused(where: tuple[Any, ...], value: Any) -> None:
    raw = json.loads(sample().to_json())
    place = raw
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    with pytest.raises(ArgumentValueError, match=r"expected|too large"):
        Comparison.from_json(json.dumps(raw))


def test_the_numbers_are_those_of_the_pairs() -> None:
    found = sample()["acc"]
    differences = [y - x for x, y in zip(A, B, strict=True)]
    assert found.verdict == "REAL"
    assert found.pairs == 4
    assert found.effect == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0 - statistics.half_width(differences, 0.05))
    assert found.superiority == 1.0
    assert found.correlation == statistics.correlation(A, B)
    assert found.noise_floor == statistics.single_run_difference(A)


@pytest.mark.parametrize(
    ("digests", "second", "b", "verdict"),
    [
        (("x", "x"), again(digest="x"), A, "INERT"),
        (("x", "x"), again(digest="y"), A, "UNDECIDED"),  # A does not repeat
        (("x", "x"), again(91.0, "x"), A, "UNDECIDED"),  # nor here
        (("x", "x"), None, A, "UNDECIDED"),  # not known
        (("x", "y"), again(digest="x"), A, "UNDECIDED"),
        (("", ""), again(), A, "UNDECIDED"),  # bits not compared
        (("x", ""), again(digest="x"), A, "UNDECIDED"),
        (("x", "x"), again(digest="x"), B, "REAL"),  # the same state, measured otherwise
    ],
)
def test_inert_needs_equal_bits_equal_metrics_and_an_a_that_repeats(
    digests: tuple[str, str], second: Run | None, b: list[float], verdict: str
) -> None:
    assert judged(runs(A, b, digests=digests, again=second)).verdict == verdict


def test_one_pair_with_other_bits_is_not_inert() -> None:
    made = runs(A, A, digests=("x", "x"), again=again(digest="x"))
    made[-1] = dataclasses.replace(made[-1], digest="y")
    assert judged(made).bits == "different"
    assert judged(made).verdict == "UNDECIDED"


def test_that_a_does_not_repeat_is_said_first() -> None:
    found = judged([Run("A", 8, {}, failure="died"), *runs(again=again(90.25))])
    assert found.repeats == "no"
    assert str(found).startswith("A does not repeat itself: on seed 0 acc was 90.0, then 90.25.")
    assert str(found).count("does not repeat itself") == 1
    page = render_page(found)
    assert page.index("A does not repeat itself") < page.index("<h1>")
    assert "the final state has other bits" in str(judged(runs(digests=("x", "y"), again=again(digest="z"))))


def test_what_is_kept_out_is_named_with_its_seed_and_reason() -> None:
    made = [
        *runs(),
        Run("A", 4, {}, failure="ValueError: diverged"),
        Run("B", 4, {"acc": 1.0}),
        Run("A", 5, {"acc": math.inf}),
        Run("B", 5, {"loss": 1.0}),
        Run("A", 6, {"acc": 1e9}),
    ]
    found = judged(made)
    assert found["acc"].pairs == 4
    assert [seed for seed, _, _ in found.pairs("acc")] == [0, 1, 2, 3]
    assert found["acc"].effect == judged(runs())["acc"].effect
    for said in (
        "A on seed 4 failed: ValueError: diverged",
        "A on seed 5 gave acc = inf: left out",
        "B on seed 5 gave no acc, but loss: left out",
        "no partner from B for seed 6 of A: left out",
    ):
        assert said in found.warnings
        assert said in str(found)


def test_of_many_failures_some_are_named_and_the_others_counted() -> None:
    found = judged([*runs(), *(Run("A", 10 + i, {}, failure="boom") for i in range(9))])
    assert sum("boom" in warning for warning in found.warnings) == 5
    assert "4 more runs in the same way" in found.warnings


def test_without_a_pair_there_is_no_verdict_but_a_reason() -> None:
    with pytest.raises(ArgumentValueError, match="A on seed 0 failed: boom"):
        judged([Run("A", 0, {}, failure="boom"), Run("B", 0, {"acc": 1.0})])
    with pytest.raises(ArgumentValueError, match="B on seed 0 gave acc = nan"):
        judged([Run("A", 0, {"acc": 1.0}), Run("B", 0, {"acc": math.nan})])
    with pytest.raises(ArgumentValueError, match="there are none"):
        judged([], metrics=[])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (runs(A, A), "Metrics are equal, bits were not compared"),
        (runs([1.0] * 4, B), "acc of A is the same on all 4 seeds"),
        (runs(A[:2], B[:2]), "2 of the 3 pairs below which nothing is decided"),
        (runs(A[:2], B[:2]), "Without a min_effect NOISE cannot be said"),
        ([*runs(), Run("A", 2**32, {"acc": 1.0}), Run("B", 2**32, {"acc": 2.0})], "takes them for one seed"),
        (runs(digests=("x", "x"), again=again(digest="x")), "the difference is in how it is measured"),
        (runs(A, A, digests=("x", "x")), "whether A repeats itself is not known"),
    ],
)
def test_what_limits_a_verdict_is_said(made: list[Run], said: str) -> None:
    assert any(said in warning for warning in judged(made).warnings)
    assert not any(said in warning for warning in judged(runs(again=again())).warnings)


def test_a_best_of_epochs_is_warned_about() -> None:
    made = [dataclasses.replace(run, metrics={"best_acc": run.metrics["acc"]}) for run in runs()]
    assert "best of several epochs" in "".join(judged(made, metrics=[]).warnings)


def test_several_metrics_are_all_shown_and_one_that_is_real_decides() -> None:
    made = [dataclasses.replace(run, metrics={**run.metrics, "loss": 0.5 + i % 3}) for i, run in enumerate(runs())]
    found = judged(made, metrics=[], lower_better=["loss"])
    assert [metric.name for metric in found.metrics] == ["acc", "loss"]
    assert (found.verdict, found["acc"].verdict, found["loss"].verdict) == ("REAL", "REAL", "UNDECIDED")
    assert "UNDECIDED: loss of B is" in str(found)


@pytest.mark.parametrize(("lower", "word"), [(False, "better"), (True, "worse")])
def test_better_depends_on_the_metric(lower: bool, word: str) -> None:
    found = judged(runs(), lower_better=["acc"] if lower else [])
    assert str(found).startswith(f"REAL: acc of B is 1.00 higher ({word}) on average than A's, in 4 pairs")


def test_where_the_wider_interval_decides_it_is_said() -> None:
    found = judged(runs([0.0] * 5, [1.0, 0.2, 0.6, 1.4, 0.25]))
    assert found.verdict == "UNDECIDED"
    assert "that is not below 0.03, though the 95 % interval excludes 0" in re.sub(r"\s+", " ", str(found))


def test_the_plot_puts_every_run_where_it_belongs() -> None:
    drawn = wording.plot(sample(), sample()["acc"])
    low, high = min(A + B), max(A + B)
    for line, a, b in zip(drawn.lines, A, B, strict=True):
        assert (line.a, line.b) == pytest.approx(((a - low) / (high - low), (b - low) / (high - low)))
    assert drawn.interval is not None
    assert drawn.wide is not None
    assert drawn.zero < drawn.wide[0] < drawn.interval[0] < drawn.effect < drawn.interval[1] < drawn.wide[1]
    row = next(line for line in str(sample()).splitlines() if line.strip().startswith("2 "))
    assert row.index("a") < row.index("b")
    assert row.split()[-1] == "+0.9"


def test_more_pairs_than_fit_are_counted() -> None:
    many = [90.0 + i % 7 for i in range(45)]
    text = str(judged(runs(many, [x + 1 + i % 2 for i, x in enumerate(many)])))
    assert "and 5 more pairs" in text


@pytest.mark.parametrize("comparison", [sample(), hostile()])
def test_the_page_is_whole_offline_and_has_only_its_own_script(comparison: Comparison) -> None:
    elements = Elements()
    elements.feed(render_page(comparison))
    assert elements.open == []
    assert elements.links == []
    assert elements.names.count("script") == 1
    assert "svg" in elements.names
    fragment = Elements()
    fragment.feed(render_fragment(comparison))
    assert {"script", "html", "body"}.isdisjoint(fragment.names)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_asked_and_no_terminal_obeys_it(width: int) -> None:
    for comparison in (sample(), hostile()):
        text = render_text(comparison, width=width)
        assert max(map(len, text.splitlines())) <= width
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
