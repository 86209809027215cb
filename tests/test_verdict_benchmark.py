"""benchmarks/verdict.py: it passes with the rule as it is, and fails with one that is too kind to chance."""

from __future__ import annotations

import pytest

from benchmarks import verdict
from detprobe.verdict import _statistics as statistics


def test_the_rule_is_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict.main(["--simulations", "60"]) == 0
    assert "held; took" in capsys.readouterr().out


def test_a_rule_with_a_level_of_a_quarter_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "look_level", lambda look: 0.25)
    assert verdict.main(["--simulations", "60"]) == 1
    assert "ABOVE 5 %" in capsys.readouterr().out
