"""The rule of a verdict: what it says of made-up pairs, and how often it is wrong about chance (seeded, small)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from detprobe.errors import ArgumentValueError, DetprobeError
from detprobe.verdict import _statistics as statistics
from detprobe.verdict._rule import Decision, decide

SIMULATIONS = 150


def one(differences: list[float], *, look: int = 1, least: float | None = None, advise: bool = True) -> Decision:
    return decide([([0.0] * len(differences), differences)], look=look, min_effects=[least], advise=advise)[0]


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_pairs_nothing_is_real_and_nothing_is_noise(n: int) -> None:
    assert one([1e6 + i for i in range(n)]).verdict == "UNDECIDED"
    found = one([1e-9 * i for i in range(n)], least=1.0)
    assert (found.verdict, found.more_pairs) == ("UNDECIDED", 3 - n)


@pytest.mark.parametrize("pair", [(0.0, math.nan), (math.inf, 0.0), (-1.5e308, 1.5e308)])
def test_what_is_not_finite_is_refused_and_no_evidence(pair: tuple[float, float]) -> None:
    with pytest.raises(ArgumentValueError, match="finite"):
        decide([([0.0, 0.0, 0.0, pair[0]], [1.0, 1.1, 0.9, pair[1]])])


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_values_that_are_no_pairs_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ArgumentValueError, match="one pair at least"):
        decide([(a, b)])


def test_one_pair_has_no_interval() -> None:
    found = one([1.0])
    assert (found.effect, found.low, found.high, found.p_value) == (1.0, None, None, None)


def test_three_clear_pairs_are_real() -> None:
    assert one([1.0, 1.1, 0.9]).verdict == "REAL"


def test_without_a_min_effect_noise_is_never_said() -> None:
    assert one([1.0, -1.0, 0.5, -0.5]).verdict == "UNDECIDED"
    assert one([1.0, -1.0, 0.5, -0.5], least=10.0).verdict == "NOISE"


def test_a_clear_difference_below_the_min_effect_is_noise_and_near_it_undecided() -> None:
    assert one([1.0, 1.1, 0.9, 1.05], least=5.0).verdict == "NOISE"
    assert one([1.0, 1.1, 0.9, 1.05], least=1.1).verdict == "UNDECIDED"


def test_equal_differences_need_the_sign_flip_test() -> None:
    """Three equal steps of an accuracy are no evidence: their spread is unknown, not zero."""
    a = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    b = [x + 0.1 for x in a]
    assert len({y - x for x, y in zip(a, b, strict=True)}) > 1
    assert [decide([(a[:n], b[:n])])[0].verdict for n in range(3, 8)] == ["UNDECIDED"] * 4 + ["REAL"]
    assert one([0.0] * 6, least=1.0).verdict == "UNDECIDED"
    assert one([0.0] * 7, least=1.0).verdict == "NOISE"


def test_from_seven_pairs_the_sign_flip_test_must_reject_as_well() -> None:
    """4 of the 128 patterns of these pairs are as far from 0, which is above the 3.04 % of a first look."""
    differences = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -0.01]
    found = one(differences)
    assert statistics.t_test(differences) < found.level < statistics.sign_flip(differences)
    assert (found.verdict, found.p_value) == ("UNDECIDED", 4 / 128)
    assert one([*differences[:6], 0.01]).verdict == "REAL"


def test_a_difference_that_only_one_pair_carries_is_not_real() -> None:
    assert one([100.0, 0.1, -0.2, 0.2, -0.1, 0.1, 0.2, -0.1]).verdict == "UNDECIDED"


def test_the_interval_that_decides_is_wider_than_the_one_to_read() -> None:
    """These differences exclude 0 at 95 %, and not at the 97 % of a first look."""
    found = one([1.0, 0.2, 0.6, 1.4, 0.25])
    assert found.low is not None
    assert found.high is not None
    assert found.wide_low is not None
    assert found.wide_high is not None
    assert found.wide_low < 0 < found.low < found.high < found.wide_high
    assert found.verdict == "UNDECIDED"


@pytest.mark.parametrize("look", [0, -1, 1.5, True, "1"])
def test_a_look_is_counted_from_one(look: Any) -> None:
    with pytest.raises(DetprobeError, match="look: expected"):
        decide([([0.0], [1.0])], look=look)


@pytest.mark.parametrize("least", [[0.0], [-1.0], [math.nan], [math.inf], ["1"], [], [1.0, 1.0]])
def test_a_min_effect_is_above_zero_and_there_is_one_per_metric(least: Any) -> None:
    with pytest.raises(DetprobeError, match=r"min_effects?: expected"):
        decide([([0.0], [1.0])], min_effects=least)


def test_a_later_look_wants_more() -> None:
    differences = [1.0, 2.0, 2.5, 0.7, 1.8]
    assert [one(differences, look=k).verdict for k in (1, 2)] == ["REAL", "UNDECIDED"]


def test_several_metrics_share_the_level() -> None:
    a, b = [0.0] * 5, [1.0, 2.0, 2.5, 0.7, 1.8]
    alone = decide([(a, b)])[0]
    assert alone.verdict == "REAL"
    among = decide([(a, b)] + [(a, [1.0, -1.0, 0.5, -0.6, 0.2])] * 9)[0]
    assert alone.p_value is not None
    assert among.verdict == "UNDECIDED"
    assert among.p_value == pytest.approx(10 * alone.p_value)


def test_the_advice_gives_the_power_that_it_promises() -> None:
    """Pairs of d = 1 after the advised extension are REAL in about 80 %."""
    rng, level = np.random.default_rng(0), statistics.look_level(2)
    needed = statistics.pairs_for_power(1.0, 1.0, level)
    assert needed is not None
    real = sum(
        one((rng.standard_normal(needed) + 1).tolist(), look=2, advise=False).verdict == "REAL"
        for _ in range(SIMULATIONS)
    )
    assert real / SIMULATIONS == pytest.approx(0.8, abs=0.1)


def lower_bound(hits: int, n: int) -> float:
    """99 % one-sided lower bound of a rate (Clopper and Pearson)."""
    beta = pytest.importorskip("scipy.stats").beta
    return float(beta.ppf(0.01, hits, n - hits + 1)) if hits else 0.0


def null_pairs(rng: np.random.Generator, n: int, kind: str, rho: float) -> tuple[list[float], list[float]]:
    draw = rng.standard_normal if kind == "normal" else lambda size: rng.standard_t(2, size)
    shared, own = draw((1, n)), draw((2, n))
    a, b = math.sqrt(rho) * shared + math.sqrt(1 - rho) * own
    if kind == "steps":
        a, b = np.round(a), np.round(b)
    return a.tolist(), b.tolist()


@pytest.mark.parametrize("kind", ["normal", "heavy", "steps"])
@pytest.mark.parametrize("rho", [0.0, 0.8])
@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_chance_is_called_real_in_at_most_five_percent(kind: str, rho: float, n: int) -> None:
    rng = np.random.default_rng([n, int(rho * 10)])
    hits = sum(decide([null_pairs(rng, n, kind, rho)], advise=False)[0].verdict == "REAL" for _ in range(SIMULATIONS))
    assert lower_bound(hits, SIMULATIONS) <= 0.05


def rates_of_extending() -> tuple[int, int]:
    """Hits, paid for and not, of users who start with 5 null pairs and extend three times as advised.

    8 pairs a time at most, which keeps the sign-flip test quick. Advice is asked for where it is
    followed: not after the last look.
    """
    rng, paid, unpaid = np.random.default_rng(1), 0, 0
    for _ in range(SIMULATIONS):
        values: list[float] = rng.standard_normal(5).tolist()
        real = small = False
        for look in range(1, 5):
            found = decide([([0.0] * len(values), values)], look=look, advise=look < 4)[0]
            real |= found.verdict == "REAL"
            small |= statistics.t_test(values) <= 0.05
            if real:
                break
            values += rng.standard_normal(min(found.more_pairs or 5, 8)).tolist()
        paid += real
        unpaid += small
    return paid, unpaid


def test_extending_three_times_stays_below_five_percent_and_would_not_unpaid() -> None:
    paid, unpaid = rates_of_extending()
    assert lower_bound(paid, SIMULATIONS) <= 0.05
    assert lower_bound(unpaid, SIMULATIONS) > 0.05
