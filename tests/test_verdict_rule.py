"""The rule of a verdict: what it says of made-up pairs, and how often it is wrong about chance (seeded, small)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detprobe.errors import ArgumentValueError
from detprobe.verdict import _statistics as statistics
from detprobe.verdict._rule import Decision, decide

SIMULATIONS = 150


def one(differences: list[float], *, look: int = 1, least: float | None = None) -> Decision:
    return decide([([0.0] * len(differences), differences)], look=look, min_effects=[least])[0]


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


def test_a_difference_that_only_one_pair_carries_is_not_real() -> None:
    """All but one sign-flip pattern of such pairs is as far: the t test alone decides only where the other cannot."""
    differences = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -0.1, 1.2]
    p_flip = statistics.sign_flip(differences)
    assert one(differences).p_value == max(p_flip, statistics.t_test(differences))


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
    real = sum(one((rng.standard_normal(needed) + 1).tolist(), look=2).verdict == "REAL" for _ in range(SIMULATIONS))
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
    hits = sum(decide([null_pairs(rng, n, kind, rho)])[0].verdict == "REAL" for _ in range(SIMULATIONS))
    assert lower_bound(hits, SIMULATIONS) <= 0.05


def rate_of_extending(paid: bool) -> int:
    """Hits of a user who starts with 5 null pairs and follows the advice three times (40 pairs a time at most)."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(SIMULATIONS):
        values: list[float] = rng.standard_normal(5).tolist()
        for look in range(1, 5):
            found = one(values, look=look)
            unpaid = statistics.t_test(values) <= 0.05
            if found.verdict == "REAL" if paid else unpaid:
                hits += 1
                break
            values += rng.standard_normal(min(found.more_pairs or 5, 40)).tolist()
    return hits


def test_extending_three_times_stays_below_five_percent_and_would_not_unpaid() -> None:
    assert lower_bound(rate_of_extending(paid=True), SIMULATIONS) <= 0.05
    assert lower_bound(rate_of_extending(paid=False), SIMULATIONS) > 0.05
