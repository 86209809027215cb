"""examples/harmless_edit.py and examples/seeded_run.py: what the README shows of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import harmless_edit  # noqa: E402
import seeded_run  # noqa: E402

import detprobe  # noqa: E402


def test_the_edit_changes_every_run_of_the_one_recipe_and_none_of_the_other() -> None:
    with detprobe.isolate_rng():
        for recipe in (harmless_edit.with_global_seeds, harmless_edit.with_keys):
            plain = [recipe(seed, edited=False) for seed in range(2)]
            assert [recipe(seed, edited=False) for seed in range(2)] == plain  # it is the edit, and not chance
            assert plain[0] != plain[1]
        assert harmless_edit.changed(harmless_edit.with_global_seeds, 5) == 5
        assert harmless_edit.changed(harmless_edit.with_keys, 5) == 0


def test_a_fresh_process_draws_the_same_and_another_seed_does_not() -> None:
    command = [sys.executable, str(EXAMPLES / "seeded_run.py")]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    environment.pop("PYTHONHASHSEED", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = done.stdout.splitlines()
    with detprobe.isolate_rng():
        assert seeded_run.draws(42) == found[:6]
        other = seeded_run.draws(43)
    assert not set(other) & set(found)
    naive, keyed = done.stdout.split("The keyed loader:")
    assert "PYTHONHASHSEED LATE" in naive
    assert naive.count("FAIL") == 3
    assert "FAIL" not in keyed
