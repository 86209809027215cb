"""Orders of arrival, Kendall's tau against scipy, and what `spread` says of planted results."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from detprobe.probes._arrival import alternations, arrival_order, kendall_tau
from detprobe.probes._spread import spread, ulps

orders = st.integers(2, 60).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n))))


@given(orders)
def test_tau_is_scipys(pair):
    a, b = pair
    assert kendall_tau(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)


def test_tau_of_planted_orders():
    there = list(range(100))
    assert kendall_tau(there, there) == 1.0
    assert kendall_tau(there, there[::-1]) == -1.0
    swapped = [1, 0, *range(2, 100)]
    assert kendall_tau(there, swapped) == 1 - 4 / (100 * 99)


@given(st.permutations(range(30)))
def test_the_order_of_arrival_undoes_the_tickets(tickets):
    assert [tickets[block] for block in arrival_order(tickets)] == list(range(30))


def test_turns_of_two_threads():
    assert alternations([0, 2, 4, 1, 3, 5], 2) == 1
    assert alternations([0, 1, 2, 3], 2) == 3
    assert alternations([0], 2) == 0


def test_planted_results_are_counted_and_measured():
    one = torch.tensor([1.0, -2.0])
    other = torch.tensor([1.0, math.nextafter(-2.0, 0)], dtype=torch.float64).float()
    assert torch.equal(one, other)
    other = torch.nextafter(torch.nextafter(one, torch.tensor([math.inf, -3.0])), torch.tensor([math.inf, -3.0]))
    seen = spread([one, other, one, one])
    assert (seen.runs, seen.distinct, seen.common, seen.ulp) == (4, 2, 0.75, 2)
    assert seen.gap == float((one - other).abs().max())
    assert spread([one, one]).distinct == 1
    assert spread([one, one]).ulp == 0


def test_the_extremes_need_not_be_in_neighbouring_runs():
    rows = torch.tensor([[3.0, 0.0], [1.0, 5.0], [2.0, -5.0]])
    assert spread(rows).gap == 10.0


def test_nan_and_signed_zero_are_bits():
    assert spread(torch.tensor([[0.0], [-0.0]])).distinct == 2
    assert spread(torch.tensor([[0.0], [-0.0]])).ulp == 0
    assert spread(torch.tensor([[math.nan], [math.nan]])).distinct == 1
    broken = spread(torch.tensor([[1.0], [math.nan]]))
    assert (broken.distinct, broken.ulp, broken.gap) == (2, None, None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ulps_count_representable_numbers_across_zero(dtype):
    low = -torch.finfo(dtype).smallest_normal
    values = torch.tensor([low, 0.0, -0.0], dtype=dtype)
    steps = ulps(values, torch.tensor(0.0, dtype=dtype))
    mantissa = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 23, torch.float64: 52}[dtype]
    assert steps.tolist() == [-(2**mantissa), 0, 0]
