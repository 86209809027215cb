"""`audit_loader` on the naive recipe, on torch's advice, and on keyed loaders."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keyed_data import Endless, Held
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

import detprobe
from detprobe.cli import main
from detprobe.errors import ArgumentTypeError, ArgumentValueError


class Augmented(torch.utils.data.Dataset[Any]):
    """Draws from NumPy's global generator, as many transforms do."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(np.random.rand()), index  # noqa: NPY002


def naive_worker(worker: int) -> None:
    np.random.seed(7 + worker)  # noqa: NPY002


def naive(seed: int, num_workers: int) -> Any:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    return DataLoader(Augmented(), 4, shuffle=True, num_workers=num_workers, worker_init_fn=naive_worker)


def holding(seed: int, num_workers: int) -> Any:
    torch.manual_seed(seed)
    return DataLoader(Held(), 4, shuffle=True, num_workers=num_workers)


def keyed(seed: int, num_workers: int) -> Any:
    return detprobe.seed_everything(seed, quiet=True).loader(
        Held(), name="train", batch_size=4, shuffle=True, num_workers=num_workers
    )


def kwargs(seed: int, num_workers: int) -> Any:
    run = detprobe.seed_everything(seed, quiet=True)
    return DataLoader(Augmented(), 4, shuffle=True, num_workers=num_workers, **run.loader_kwargs("train"))


def fixed(seed: int, num_workers: int) -> Any:
    return detprobe.seed_everything(seed, quiet=True).loader(
        TensorDataset(torch.arange(9)), name="test", num_workers=num_workers
    )


def batches(seed: int, num_workers: int) -> Any:
    """A dataset with names for indices, in batches of one's own that the seed does not reach."""
    order = random.Random(seed - seed)
    sampler = BatchSampler(order.sample("abcdefgh", 8), 3, False)
    return DataLoader({name: ord(name) for name in "abcdefgh"}, batch_sampler=sampler, num_workers=num_workers)


def failed(make: Any) -> set[str]:
    return {row.name for row in detprobe.audit_loader(make).rows if row.status == "FAIL"}


def test_the_naive_recipe_is_found_out() -> None:
    audit = detprobe.audit_loader(naive)
    assert not audit.ok
    assert audit.row("same seed, same data").status == "PASS"
    assert audit.row("epochs differ").found == "a sample is augmented in the second epoch as it was in the first"
    assert audit.row("any number of workers").status == "FAIL"
    assert "iterating draws from numpy.random, torch" in audit.row("no trace outside").found
    assert "FAIL" in str(audit)


def test_what_objects_hold_is_found_out() -> None:
    """Held also makes a generator of the system's entropy, so nothing repeats."""
    assert "same seed, same data" in failed(holding)


class Copied(torch.utils.data.Dataset[Any]):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[float, int]:
        return self.rng.random(), index


def test_workers_that_draw_the_same_are_found_out() -> None:
    def copied(seed: int, num_workers: int) -> Any:
        return DataLoader(Copied(), 4, num_workers=num_workers)

    audit = detprobe.audit_loader(copied)
    assert "came out in 4 ways" in audit.row("workers draw apart").found
    assert {row.name for row in audit.rows if row.status == "FAIL"} >= {
        "other seed, other data",
        "epochs differ",
        "workers draw apart",
        "any number of workers",
    }


def test_keyed_loaders_pass() -> None:
    before = torch.default_generator.get_state()
    assert failed(keyed) == set()
    assert failed(fixed) == set()
    assert failed(batches) == {"other seed, other data", "epochs differ", "no trace outside"}
    assert torch.equal(torch.default_generator.get_state(), before)


def test_loader_kwargs_pass_but_for_the_number_of_workers() -> None:
    assert failed(kwargs) == {"any number of workers", "no trace outside"}  # without workers it draws in this process


def test_bad_input() -> None:
    with pytest.raises(ArgumentTypeError, match="return a DataLoader, got int"):
        detprobe.audit_loader(lambda seed, num_workers: 3)
    with pytest.raises(ArgumentTypeError, match="IterableDataset"):
        detprobe.audit_loader(lambda seed, num_workers: DataLoader(Endless()))
    with pytest.raises(ArgumentValueError, match="num_workers=2, as it was asked for, got 0"):
        detprobe.audit_loader(lambda seed, num_workers: DataLoader(Held()))
    with pytest.raises(ArgumentTypeError, match="expected a function, got int"):
        detprobe.audit_loader(3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentValueError, match="workers >= 2"):
        detprobe.audit_loader(naive, workers=1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = str(Path(__file__))
    assert main(["audit", f"{here}:keyed", "--json", str(tmp_path / "audit.json")]) == 0
    assert {row["status"] for row in json.loads((tmp_path / "audit.json").read_text())["rows"]} == {"PASS"}
    assert main(["audit", f"{here}:naive"]) == 1
    assert "FAIL" in capsys.readouterr().out
    for target, said in (("nothing", "has no 'nothing'"), ("test_bad_input", "raised TypeError")):
        assert main(["audit", f"{here}:{target}"]) == 2
        assert said in capsys.readouterr().err
