"""examples/change_or_noise.py: the refactoring keeps every bit, and the other changes do not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import optional

import detprobe

FILE = Path(__file__).resolve().parent.parent / "examples" / "change_or_noise.py"


@pytest.fixture(scope="module")
def example() -> Any:
    optional("sklearn")
    spec = importlib.util.spec_from_file_location("change_or_noise", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["change_or_noise"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_refactoring_alone_is_inert(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three short runs: whether the others are REAL is up to the whole example."""
    monkeypatch.setattr(example, "EPOCHS", 1)
    torch.set_num_threads(1)  # as the example does
    data = example.digits()

    def train(seed: int) -> Any:
        return example.train(seed, data=data)

    found = {
        name: detprobe.compare(train, changed, runs=3, metric="acc") for name, changed in example.changes(data).items()
    }
    assert {name for name, one in found.items() if one.verdict == "INERT"} == {"a refactoring"}
    assert found["other seeds"].verdict == "UNDECIDED"
    assert found["ten times the learning rate"].bits == "different"
