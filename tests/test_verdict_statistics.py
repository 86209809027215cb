"""The statistics of a verdict: against scipy where it has them, against their definition where it has not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from detprobe.verdict import _statistics as statistics
from detprobe.verdict import _student as student

scipy_stats = pytest.importorskip("scipy.stats")


def draws(seed: int, n: int, shift: float = 0.0) -> list[float]:
    return (np.random.default_rng(seed).standard_normal(n) + shift).tolist()


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 9, 10, 19, 99, 100, 4999, 5000])
def test_the_t_distribution_is_scipys(df: int) -> None:
    for t in (0.0, 0.3, 1.0, 2.5, 12.0):
        assert student.outside(t, df) == pytest.approx(2 * scipy_stats.t.sf(t, df), abs=1e-13)
    for level in (0.5, 0.05, 0.0304, 0.0003):
        assert student.quantile(level, df) == pytest.approx(scipy_stats.t.isf(level / 2, df), rel=1e-9)
    assert student.outside(math.inf, df) == 0.0


@pytest.mark.parametrize("pairs", [3, 4, 5, 10, 34, 500])
@pytest.mark.parametrize("level", [0.05, 0.0034])
def test_the_power_is_that_of_the_noncentral_t(pairs: int, level: float) -> None:
    for effect in (0.0, 0.1, 0.5, 1.0, 2.0):
        shift, bar = effect * math.sqrt(pairs), scipy_stats.t.isf(level / 2, pairs - 1)
        far = scipy_stats.nct.cdf(-bar, pairs - 1, shift)  # NaN where it vanishes
        exact = scipy_stats.nct.sf(bar, pairs - 1, shift) + (0.0 if math.isnan(far) else far)
        assert student.power(pairs, effect, level) == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50])
def test_the_interval_and_the_p_value_are_those_of_scipys_paired_t(n: int) -> None:
    a, b = draws(n, n), draws(n + 100, n, 0.5)
    differences = [y - x for x, y in zip(a, b, strict=True)]
    oracle = scipy_stats.ttest_rel(b, a)
    low, high = oracle.confidence_interval(0.95)
    middle, half = statistics.mean(differences), statistics.half_width(differences, 0.05)
    assert (middle - half, middle + half) == pytest.approx((low, high))
    assert statistics.t_test(differences) == pytest.approx(oracle.pvalue)


@pytest.mark.parametrize("n", [1, 2, 6, 7, 10, 13])
def test_the_sign_flip_test_is_the_share_of_all_patterns(n: int) -> None:
    differences = draws(n, n, 0.6)
    bar = abs(sum(differences)) - 1e-9
    patterns = list(itertools.product((-1, 1), repeat=n))
    far = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= bar for signs in patterns)
    assert statistics.sign_flip(differences) == far / len(patterns)


def test_the_sign_flip_test_is_scipys() -> None:
    differences = draws(3, 12, 0.5)
    oracle = scipy_stats.permutation_test(
        (np.array(differences),), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert statistics.sign_flip(differences) == pytest.approx(oracle.pvalue)


def test_above_forty_pairs_the_flips_are_drawn_and_repeat() -> None:
    differences = draws(5, 41, 0.25)
    p = statistics.sign_flip(differences)
    assert p == statistics.sign_flip(differences)
    assert p == pytest.approx(statistics.t_test(differences), rel=0.25)
    assert statistics.sign_flip([1.0] * 100) == 1 / 10_000  # never zero: the observed pattern is one of them


def test_equal_differences_are_equal_in_spite_of_their_rounding() -> None:
    differences = [0.3 - 0.2, 0.4 - 0.3, 0.5 - 0.4, 0.6 - 0.5, 0.7 - 0.6, 0.8 - 0.7, 0.2 - 0.3]
    assert len(set(differences)) > 2
    assert statistics.sign_flip(differences) == statistics.sign_flip([1.0] * 6 + [-1.0]) == 16 / 128


def test_six_pairs_are_the_fewest_that_can_be_rejected_at_five_percent() -> None:
    assert statistics.sign_flip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 2 / 64
    assert next(n for n in range(1, 10) if statistics.flip_can_reject(n, 0.05)) == 6
    assert next(n for n in range(1, 10) if statistics.flip_can_reject(n, statistics.look_level(1))) == 7


def test_degenerate_data_have_an_answer() -> None:
    assert statistics.t_test([0.0, 0.0, 0.0]) == statistics.sign_flip([0.0, 0.0, 0.0]) == 1.0
    assert statistics.t_test([2.0, 2.0]) == 0.0
    assert statistics.half_width([2.0, 2.0, 2.0], 0.05) == 0.0
    assert statistics.sd([0.1, 0.1, 0.1]) == pytest.approx(0.0, abs=1e-17)
    assert statistics.correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert statistics.correlation([1.0, 2.0], [1.0, 2.0]) is None


@pytest.mark.parametrize("scale", [1e-300, 5e-324 * 2**20, 1e150, 1e307])
def test_huge_and_tiny_numbers_have_the_statistics_of_others(scale: float) -> None:
    plain = [1.0, 2.0, 4.0, 7.0]
    scaled = [value * scale for value in plain]
    assert statistics.mean(scaled) / scale == pytest.approx(3.5, rel=1e-5)
    assert statistics.sd(scaled) / scale == pytest.approx(statistics.sd(plain), rel=1e-5)
    assert statistics.t_test(scaled) == pytest.approx(statistics.t_test(plain), rel=1e-4)
    assert statistics.sign_flip(scaled) == statistics.sign_flip(plain)
    assert statistics.correlation(scaled, scaled[::-1]) == pytest.approx(statistics.correlation(plain, plain[::-1]))


def test_the_correlation_is_scipys() -> None:
    a, b = draws(1, 9), draws(2, 9)
    assert statistics.correlation(a, b) == pytest.approx(scipy_stats.pearsonr(a, b).statistic)
    assert statistics.correlation(a, [2 * x + 1 for x in a]) == pytest.approx(1.0)


def test_ties_count_for_half() -> None:
    assert statistics.superiority([1.0, 0.0, -1.0, 2.0]) == 0.625


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_the_levels_of_all_looks_add_up_to_five_percent() -> None:
    assert [round(statistics.look_level(k), 4) for k in (1, 2, 3)] == [0.0304, 0.0076, 0.0034]
    assert sum(statistics.look_level(k) for k in range(1, 100_000)) == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(("d", "pairs"), [(0.5, 34), (1.0, 10), (1.5, 6), (2.0, 5)])
def test_pairs_for_eighty_percent_power(d: float, pairs: int) -> None:
    """The normal formula says 32, 8, 4, 2."""
    assert statistics.pairs_for_power(d, 1.0, 0.05) == pairs
    assert statistics.pairs_for_power(-d * 7, 7.0, 0.05) == pairs
    assert student.power(pairs, d, 0.05) >= 0.8 > student.power(pairs - 1, d, 0.05)


def test_advice_has_its_limits() -> None:
    assert statistics.pairs_for_power(0.0, 1.0, 0.05) is None
    assert statistics.pairs_for_power(1e-9, 1.0, 0.05) is None
    assert statistics.pairs_for_power(1.0, 0.0, 0.05) == 3
    assert statistics.pairs_for_power(1.0, 1e-300, 0.05) == 3
    assert statistics.pairs_for_width(0.0, 1.0, 0.05) is None
    n = statistics.pairs_for_width(0.25, 1.0, 0.05)
    assert n is not None
    assert student.quantile(0.05, n - 1) / n**0.5 <= 0.25 < student.quantile(0.05, n - 2) / (n - 1) ** 0.5


def test_two_single_runs_must_differ_by_2_8_sigma() -> None:
    many = draws(0, 4000)
    assert statistics.single_run_difference(many) / statistics.sd(many) == pytest.approx(2.77, abs=0.01)
    assert statistics.single_run_difference(many[:3]) / statistics.sd(many[:3]) == pytest.approx(6.08, abs=0.01)


def test_the_fewest_pairs_of_the_sign_flip_test_are_not_advised_where_signs_may_differ() -> None:
    level = statistics.look_level(1)  # 7 pairs can reject at it, and 6 cannot
    found = {(pairs, d): statistics.past_equal_signs(pairs, d, 1.0, level) for pairs in (6, 7, 8) for d in (1.5, 3.0)}
    assert found == {(6, 1.5): 6, (6, 3.0): 6, (7, 1.5): 8, (7, 3.0): 7, (8, 1.5): 8, (8, 3.0): 8}
    assert statistics.past_equal_signs(7, 1.5, 0.0, level) == 7
