"""examples/custom_layer.py: the training run that the README shows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import optional

FILE = Path(__file__).resolve().parent.parent / "examples" / "custom_layer.py"


@pytest.fixture(scope="module")
def custom_layer() -> Any:
    optional("sklearn")
    spec = importlib.util.spec_from_file_location("custom_layer", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["custom_layer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_trained_depends_on_the_threads_with_the_stock_functions_and_not_with_these(custom_layer: Any) -> None:
    def digests(functions: Any) -> set[str]:
        return {custom_layer.train(functions, threads=threads, epochs=1)[0] for threads in (1, 2, 3)}

    assert len(digests(custom_layer.DETPROBE)) == 1
    assert len(digests(custom_layer.TORCH)) > 1


def test_the_gradients_of_its_products_are_right(custom_layer: Any) -> None:
    a = torch.randn(3, 1, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(custom_layer.times, (a, b))


def test_the_layer_computes_the_same_function_either_way(custom_layer: Any) -> None:
    patches = torch.randn(5, 8, 16)
    outputs = []
    for functions in (custom_layer.TORCH, custom_layer.DETPROBE):
        torch.manual_seed(0)
        outputs.append(custom_layer.AttentionPool(16, 2, functions)(patches))
    torch.testing.assert_close(*outputs)
