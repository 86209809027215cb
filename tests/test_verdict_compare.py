"""`detprobe.compare`: what it calls and with which seeds, what it makes of what comes back, and when it says INERT."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import detprobe
from detprobe.errors import ArgumentTypeError, ArgumentValueError, DetprobeError
from detprobe.verdict._rule import decide
from detprobe.verdict._state import state_digest


def noise(seed: int) -> float:
    return float(np.random.default_rng(seed).standard_normal())


def shifted(seed: int) -> float:
    return noise(seed) + 5 + 0.1 * noise(seed + 1000)


def other(seed: int) -> float:
    return noise(seed + 500)


def trained(seed: int) -> tuple[dict[str, float], torch.nn.Module]:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    return {"loss": float(model.weight.detach().sum())}, model


def refactored(seed: int) -> tuple[dict[str, float], Any]:
    metrics, model = trained(seed)
    return metrics, {name: value.clone() for name, value in model.state_dict().items()}


def nudged(seed: int) -> tuple[dict[str, float], Any]:
    """The same metric, and one weight one ULP away on one seed."""
    metrics, state = refactored(seed)
    if seed == 2:
        state["bias"][1] = torch.nextafter(state["bias"][1], torch.tensor(math.inf))
    return metrics, state


def test_a_clear_difference_is_real_and_another_seed_is_not() -> None:
    found = detprobe.compare(noise, shifted, runs=8)
    assert found.verdict == "REAL"
    assert found["value"].effect == pytest.approx(5, abs=0.5)
    assert found["value"] == detprobe.compare(noise, shifted, seeds=range(8))["value"]
    assert (found.a, found.b, found.repeats, found.looks) == ("noise", "shifted", "metrics", 1)
    assert detprobe.compare(noise, other, runs=8).verdict == "UNDECIDED"
    assert detprobe.compare(noise, other, runs=8, min_effect=100.0).verdict == "NOISE"


def test_the_verdict_is_that_of_the_rule() -> None:
    found = detprobe.compare(noise, other, runs=6, min_effect=1.5)["value"]
    pairs = [noise(seed) for seed in range(6)], [other(seed) for seed in range(6)]
    rule = decide([pairs], min_effects=[1.5])[0]
    assert (found.verdict, found.effect, found.low, found.wide_high, found.more_pairs) == (
        rule.verdict,
        rule.effect,
        rule.low,
        rule.wide_high,
        rule.more_pairs,
    )


def test_a_refactoring_that_keeps_the_bits_is_inert_and_one_ulp_is_not() -> None:
    assert detprobe.compare(trained, refactored, runs=4).verdict == "INERT"
    found = detprobe.compare(trained, nudged, runs=4)
    assert (found.verdict, found.bits, found.repeats) == ("UNDECIDED", "different", "bits")


def test_without_a_state_equal_metrics_are_not_inert() -> None:
    found = detprobe.compare(noise, lambda seed: noise(seed), runs=4)
    assert (found.verdict, found.bits) == ("UNDECIDED", "not compared")


def test_an_a_that_does_not_repeat_is_found() -> None:
    calls = iter(range(1000))
    found = detprobe.compare(lambda seed: noise(seed) + 1e-9 * next(calls), noise, runs=3)
    assert found.repeats == "no"
    assert str(found).startswith("A does not repeat itself: on seed 0")


def test_what_b_leaves_behind_is_found_when_a_runs_again() -> None:
    left: list[int] = []

    def careless(seed: int) -> float:
        left.append(seed)
        return noise(seed)

    assert detprobe.compare(lambda seed: noise(seed) + len(left), careless, runs=3).repeats == "no"


def test_both_run_on_every_seed_and_a_twice_on_the_first() -> None:
    calls: list[tuple[str, int]] = []
    ticks: list[tuple[int, int | None, str]] = []

    def run(side: str, seed: int) -> float:
        calls.append((side, seed))
        return noise(seed)

    a, b = functools.partial(run, "A"), functools.partial(run, "B")
    found = detprobe.compare(a, b, seeds=[4, 7], progress=lambda *tick: ticks.append(tick))
    assert calls == [("A", 4), ("B", 4), ("A", 4), ("A", 7), ("B", 7)]
    assert [tick[0] for tick in ticks] == sorted(tick[0] for tick in ticks)
    assert ticks[-1][:2] == (5, 5)
    assert found.b == "test_both_run_on_every_seed_and_a_twice_on_the_first.run('B')"


def test_runs_that_raise_are_named_and_left_out() -> None:
    def fragile(seed: int) -> float:
        if seed in (0, 2):
            raise RuntimeError(f"diverged\x1b[31m at {seed}")
        return shifted(seed)

    found = detprobe.compare(fragile, shifted, runs=6)
    assert "A on seed 2 failed: RuntimeError: diverged\\x1b[31m at 2" in found.warnings
    assert [seed for seed, _, _ in found.pairs("value")] == [1, 3, 4, 5]
    assert found.repeats == "metrics"  # asked on seed 1, the first that ended well


def test_a_wrong_result_is_an_error_at_once_and_a_failed_run_later() -> None:
    calls: list[int] = []

    def late(seed: int) -> Any:
        calls.append(seed)
        return noise(seed) if len(calls) < 4 else None

    found = detprobe.compare(late, noise, runs=4)
    assert any("A on seed 2 failed: metric 'value': expected a number, got NoneType" in w for w in found.warnings)
    calls[:] = [0] * 4
    with pytest.raises(ArgumentTypeError, match="expected a number, got NoneType"):
        detprobe.compare(late, noise, runs=4)
    assert len(calls) == 5


@pytest.mark.parametrize(
    "value", [3, np.float32(3), torch.tensor(3.0), np.array(3), torch.tensor([3.0], requires_grad=True)]
)
def test_numbers_come_in_many_kinds(value: Any) -> None:
    found = detprobe.compare(lambda seed: {"x": value}, lambda seed: value, runs=1, metric="x")
    assert found.pairs("x") == [(0, 3.0, 3.0)]


def test_an_earlier_comparison_goes_on_and_its_look_is_paid_for() -> None:
    calls: list[int] = []

    def b(seed: int) -> float:
        calls.append(seed)
        return other(seed)

    first = detprobe.compare(noise, b, runs=5)
    loaded = detprobe.Comparison.from_json(first.to_json())
    second = detprobe.compare(noise, b, runs=8, earlier=loaded)
    assert calls == list(range(8))
    assert (second.looks, second["value"].pairs) == (2, 8)
    assert second["value"].level < first["value"].level
    assert detprobe.compare(noise, b, runs=8, earlier=second).looks == 2  # nothing new was seen
    assert calls == list(range(8))
    assert detprobe.compare(noise, b, runs=5, earlier=detprobe.compare(noise, b, runs=2)).looks == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "expected either runs or seeds"),
        ({"runs": 3, "seeds": [1]}, "expected either runs or seeds"),
        ({"runs": 0}, "runs: expected at least 1"),
        ({"runs": 2.5}, "runs: expected int"),
        ({"seeds": []}, "each once, one at least"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": [-1]}, "from 0 on"),
        ({"seeds": ["a"]}, "seeds: expected integers"),
        ({"seeds": 5}, "seeds: expected integers"),
        ({"runs": 3, "metric": 5}, "metric: expected a name or a list of names, got 5"),
        ({"runs": 3, "lower_better": 5}, "lower_better: expected a name or a list of names, got 5"),
        ({"runs": 3, "metric": "accuracy"}, "expected 'accuracy' among what the functions return, got 'acc', 'loss'"),
        ({"runs": 3, "min_effect": 1.0}, "min_effect: expected one by name for several metrics"),
        ({"runs": 3, "lower_better": True}, "lower_better: expected the names"),
        ({"runs": 3, "metric": "acc", "min_effect": 0}, "expected a finite number above 0, got 0"),
        ({"runs": 3, "metric": "acc", "min_effect": "1"}, "min_effect of acc: expected float"),
        ({"runs": 3, "min_effect": {"top1": 1.0}}, "min_effect: expected a metric that is judged, got 'top1'"),
        ({"runs": 3, "lower_better": ["top1"]}, "lower_better: expected a metric that is judged"),
        ({"runs": 3, "earlier": 1}, "earlier: expected what compare returned"),
    ],
)
def test_what_cannot_be_used_is_refused_after_one_run_at_most(options: dict[str, Any], said: str) -> None:
    calls: list[int] = []

    def fn(seed: int) -> dict[str, float]:
        calls.append(seed)
        return {"acc": 1.0, "loss": 2.0}

    with pytest.raises(DetprobeError) as caught:
        detprobe.compare(fn, fn, **options)
    assert said in str(caught.value)
    assert len(calls) <= 1


def test_an_earlier_comparison_of_other_functions_is_refused() -> None:
    with pytest.raises(
        ArgumentValueError, match="expected a comparison of noise and shifted, got one of noise and other"
    ):
        detprobe.compare(noise, shifted, runs=4, earlier=detprobe.compare(noise, other, runs=3))


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="fn_b: expected a callable, got int"):
        detprobe.compare(noise, 5, runs=3)  # type: ignore[arg-type]


STATE = {"w": torch.tensor([1.0, -0.0]), "n": np.arange(3), "step": 3, "rate": 0.1, "names": ["a", None]}


@pytest.mark.parametrize(
    "change",
    [
        {"w": torch.tensor([1.0, 0.0])},
        {"w": torch.tensor([-0.0, 1.0])},
        {"w": torch.tensor([[1.0, -0.0]])},
        {"w": torch.tensor([1.0, -0.0], dtype=torch.float64)},
        {"n": np.arange(3, dtype=np.int32)},
        {"n": np.array([0, 2, 1])},
        {"step": 4},
        {"step": "3"},
        {"rate": math.nextafter(0.1, 1)},
        {"names": ["a"]},
        {"more": None},
    ],
)
def test_every_change_of_a_state_changes_its_digest(change: dict[str, Any]) -> None:
    assert state_digest({**STATE, **change}) != state_digest(STATE)


def test_what_is_no_change_does_not() -> None:
    reordered = dict(reversed(STATE.items()))
    reordered["w"] = torch.tensor([[1.0, 5.0], [-0.0, 5.0]])[:, 0]
    reordered["n"] = np.arange(6)[::2] // 2
    assert state_digest(reordered) == state_digest(STATE)
    model = torch.nn.Linear(2, 2)
    assert state_digest(model) == state_digest(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters())
    assert state_digest(optimizer) == state_digest(optimizer.state_dict())


def cyclic() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: {"a": [object()]}, r"state\['a'\]\[0\]: expected tensors"),
        (lambda: {1.5: 1}, "expected keys"),
        (lambda: np.array([object()]), "Python objects"),
        (lambda: torch.empty(2, device="meta"), "meta tensor"),
        (cyclic, "holds itself"),
    ],
)
def test_a_state_without_bits_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(DetprobeError, match=said):
        state_digest(make())
    with pytest.raises(DetprobeError, match=said):
        detprobe.compare(lambda seed: (1.0, make()), noise, runs=3)
