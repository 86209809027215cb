"""`assert_deterministic`: one line in a user's test suite."""

from __future__ import annotations

import pytest
import torch

import detprobe


def racy(index: torch.Tensor) -> torch.Tensor:
    table = torch.ones(50, 64, requires_grad=True)
    return table[index]


def test_a_layer_that_repeats_passes() -> None:
    assert detprobe.assert_deterministic(torch.nn.LayerNorm(64), (torch.randn(16, 64),)) is None


def test_a_racy_backward_raises_an_assertion_error_that_holds_the_finding() -> None:
    index = torch.randint(0, 50, (200000,), generator=torch.Generator().manual_seed(0))
    with pytest.raises(AssertionError) as caught:
        detprobe.assert_deterministic(racy, (index,))
    assert isinstance(caught.value, detprobe.NondeterminismError)
    assert "aten::index_put" in str(caught.value)
    assert "test_assert.py:" in str(caught.value)
    assert "torch.use_deterministic_algorithms(True): identical" in str(caught.value)


def test_keywords_reach_the_function() -> None:
    def scaled(x: torch.Tensor, *, by: float) -> torch.Tensor:
        if by != 2.0:
            raise ValueError(f"by is {by}")
        return x * by

    detprobe.assert_deterministic(scaled, (torch.randn(3),), {"by": 2.0})
    with pytest.raises(ValueError, match="by is 3"):
        detprobe.assert_deterministic(scaled, (torch.randn(3),), {"by": 3.0})


def test_functions_without_tensors_or_gradients_are_fine() -> None:
    detprobe.assert_deterministic(lambda: torch.arange(10).sum())
    detprobe.assert_deterministic(lambda x: x > 0, (torch.randn(10),))


def test_dropout_is_random_and_no_failure() -> None:
    detprobe.assert_deterministic(torch.nn.Dropout(), (torch.randn(100),))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.nn.ReLU(), torch.randn(3)), "args: expected a tuple of positional arguments, got Tensor"),
        (("name", ()), "expected an nn.Module or a callable, got str"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(TypeError, match=said.replace("(", r"\(")):
        detprobe.assert_deterministic(*arguments)
