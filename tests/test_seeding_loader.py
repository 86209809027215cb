"""`Run.loader`: what the data may depend on, and what it must not."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from keyed_data import Batched, Endless, Held, Mixup, Reduced
from torch.utils.data import BatchSampler, DataLoader, Subset, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

import detprobe
from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.seeding import _keys

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with detprobe.isolate_rng():
        yield


def make(dataset: Any = None, *, seed: int = 0, **options: Any) -> tuple[detprobe.Run, Any]:
    run = detprobe.seed_everything(seed, quiet=True)
    options = {"name": "train", "batch_size": 4, "shuffle": True, **options}
    return run, run.loader(Held() if dataset is None else dataset, **options)


def epochs(run: detprobe.Run, loader: Any, count: int = 2) -> list[list[list[float]]]:
    """Of each epoch the samples, batches taken apart."""
    found = []
    for epoch in range(count):
        run.epoch(epoch)
        found.append([sample for batch in loader for sample in batch.tolist()])
    return found


@pytest.fixture(scope="module")
def expected() -> list[list[list[float]]]:
    with detprobe.isolate_rng():
        return epochs(*make())


def test_every_sample_comes_once_and_every_draw_differs(expected: list[list[list[float]]]) -> None:
    for epoch in expected:
        assert sorted(sample[0] for sample in epoch) == list(range(23))
    draws = [value for epoch in expected for sample in epoch for value in sample[1:]]
    assert len(set(draws)) == len(draws) == 2 * 23 * 9


WORKERS = [
    {"num_workers": 1},
    {"num_workers": 2, "persistent_workers": True},
    {"num_workers": 3, "prefetch_factor": 8},
    {"num_workers": 2, "prefetch_factor": 1, "batch_size": 7},
    {"batch_size": 5, "drop_last": False},
]
STARTED = [
    {"num_workers": 1, "multiprocessing_context": "forkserver"},
    {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True},
]


@pytest.mark.parametrize("options", WORKERS, ids=str)
def test_the_same_bits_for_any_workers_and_batches(expected: list[list[list[float]]], options: dict[str, Any]) -> None:
    assert epochs(*make(**options)) == expected


@pytest.mark.parametrize("options", STARTED, ids=lambda options: options["multiprocessing_context"])
def test_the_same_bits_however_workers_start(options: dict[str, Any]) -> None:
    def found(**options: Any) -> list[list[list[float]]]:
        return epochs(*make(Held(9, torch_generator=False), collate_fn=Mixup(), **options))

    assert found(**options) == found()


def test_a_plain_loader_fails_all_of_that() -> None:
    """The planted fault: what the tests above compare does depend on the workers without keys."""

    def plain(workers: int) -> list[list[float]]:
        torch.manual_seed(0)
        loader = DataLoader(Held(), batch_size=4, num_workers=workers)
        return [sample for batch in loader for sample in batch.tolist()]

    one, two = plain(1), plain(2)
    for column in (1, 2, 3, 4, 5, 6, 7, 8, 9):
        assert [s[column] for s in one] != [s[column] for s in two]
    assert len({s[1] for s in two}) < 23  # both workers draw the same from the copied default_rng()


def test_seeds_and_names_differ(expected: list[list[list[float]]]) -> None:
    for other in (epochs(*make(seed=1)), epochs(*make(name="other"))):
        assert [s[0] for s in other[0]] != [s[0] for s in expected[0]]
        assert not {v for s in other[0] for v in s[1:]} & {v for s in expected[0] for v in s[1:]}


def test_mixup_repeats_for_any_workers() -> None:
    found = [epochs(*make(collate_fn=Mixup(), num_workers=n)) for n in (0, 2)]
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_a_sum_in_the_dataset_has_a_workers_bits() -> None:
    with_workers = epochs(*make(Reduced(), num_workers=1), 1)
    assert epochs(*make(Reduced()), 1) == with_workers
    assert torch.get_num_threads() == 2  # put back
    run, loader = make(Reduced())
    loader_bits = [float(v) for v in with_workers[0]]
    drawn = []
    run.epoch(0)
    for ticket in loader.sampler:  # the planted fault: the same samples on this process's two threads
        drawn.append(float(loader.dataset[ticket]))
    assert drawn != loader_bits


@pytest.mark.parametrize("workers", [0, 2])
def test_iterating_leaves_no_trace_outside(workers: int) -> None:
    sampler = WeightedRandomSampler([1.0] * 23, 10)
    for options in ({"shuffle": True}, {"shuffle": False, "sampler": sampler}):
        _, loader = make(num_workers=workers, **options)
        wanted = [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
        _, loader = make(num_workers=workers, **options)
        next(iter(loader))
        list(loader)
        assert [random.random(), float(np.random.rand()), float(torch.rand(()))] == wanted  # noqa: NPY002


def test_nothing_outside_changes_the_data(expected: list[list[list[float]]]) -> None:
    run, loader = make()
    found = []
    for epoch in range(2):
        run.epoch(epoch)
        next(iter(loader))
        torch.rand(3)
        random.seed(8)
        found.append([s for batch in loader for s in batch.tolist()])
    assert found == expected


def test_without_run_epoch_it_counts_its_own(expected: list[list[list[float]]]) -> None:
    _, loader = make()
    assert [[s for batch in loader for s in batch.tolist()] for _ in range(2)] == expected


@pytest.mark.parametrize(("workers", "again"), [(0, 2), (2, 0)])
@pytest.mark.parametrize("sampler", ["shuffle", "batches"])
def test_resume_in_the_middle_of_an_epoch(
    expected: list[list[list[float]]], workers: int, again: int, sampler: str
) -> None:
    def made(workers: int, size: int) -> tuple[detprobe.Run, Any]:
        if sampler == "shuffle":
            return make(num_workers=workers, batch_size=size)
        batches = BatchSampler(WeightedRandomSampler([1.0] * 23, 23, replacement=False), size, False)
        options = {"name": "train", "batch_sampler": batches, "num_workers": workers}
        run = detprobe.seed_everything(0, quiet=True)
        return run, run.loader(Held(), **options)

    run, loader = made(workers, 4)
    whole = epochs(run, loader)
    run, loader = made(workers, 4)
    run.epoch(1)
    batches = iter(loader)
    before = [s for _ in range(2) for s in next(batches).tolist()]
    file = io.BytesIO()
    torch.save(run.state_dict(), file)
    file.seek(0)
    run, loader = made(again, 5)  # 8 is no multiple of 5: the position is in samples
    run.load_state_dict(torch.load(file, weights_only=True))
    run.epoch(1)
    next(iter(loader))
    rest = [s for batch in loader for s in batch.tolist()]
    assert before + rest == whole[1]
    run.epoch(2)
    assert sum(len(batch) for batch in loader) == 23


class Cycle:
    """A sampler without a length, and without an end."""

    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(3))


def test_a_sampler_without_an_end() -> None:
    def first(workers: int) -> list[list[float]]:
        _, loader = make(Held(3), shuffle=False, sampler=Cycle(), num_workers=workers)
        return [s for batch in itertools.islice(loader, 20) for s in batch.tolist()]

    found = first(0)
    assert len({s[1] for s in found}) == len(found) == 80
    assert first(2) == found


def test_samples_drawn_twice_draw_something_else() -> None:
    run, loader = make(Held(2), shuffle=False, sampler=WeightedRandomSampler([1.0, 1.0], 20))
    (samples,) = epochs(run, loader, 1)
    assert len({s[1] for s in samples}) == 20


def test_subset_lists_getitems_and_single_samples() -> None:
    subset = epochs(*make(Subset(Held(), [3, 5, 9])), 1)[0]
    assert sorted(s[0] for s in subset) == [3, 5, 9]
    assert sorted(epochs(*make([1.5, 2.5, 0.5]), 1)[0]) == [0.5, 1.5, 2.5]
    batched = [epochs(*make(Batched(), num_workers=n, batch_size=b), 1)[0] for n, b in ((0, 4), (2, 3))]
    assert batched[0] == batched[1]
    _, loader = make(batch_size=None)
    assert [s.tolist() for s in loader] == epochs(*make(), 1)[0]


def test_ranks_share_out_the_order_of_the_seed() -> None:
    def orders(seed: int) -> list[list[float]]:
        made = [make(seed=seed, shuffle=False, sampler=DistributedSampler(Held(), 2, r), num_workers=0) for r in (0, 1)]
        found = [[s[0] for e in epochs(*m) for s in e] for m in made]
        assert set(found[0][:12]) | set(found[1][:12]) == set(range(23))
        assert len(set(found[0][:12]) & set(found[1][:12])) <= 1  # 23 samples for two: one comes twice
        assert found[0][:12] != found[0][12:]
        return found

    assert orders(0) != orders(1)


def test_the_dataset_answers_for_itself() -> None:
    _, loader = make()
    assert isinstance(loader, DataLoader)
    assert (loader.dataset.n, len(loader), loader.batch_size) == (23, 6, 4)
    assert loader.dataset[3][0] == 3


def test_loader_kwargs_and_seed_worker() -> None:
    def epoch_pairs(seed: int) -> list[list[float]]:
        run = detprobe.seed_everything(seed, quiet=True)
        loader = DataLoader(Held(), batch_size=4, num_workers=2, shuffle=True, **run.loader_kwargs("train"))
        return [[s[:6] for batch in loader for s in batch.tolist()] for _ in range(2)]

    first = epoch_pairs(0)
    assert epoch_pairs(0) == first
    assert epoch_pairs(1) != first
    draws = [s[1] for epoch in first for s in epoch]
    assert len(set(draws)) == 46  # what the plain loader gets wrong: workers and epochs differ


def test_a_prefix_gives_the_same_keys() -> None:
    assert _keys.Prefix(3, "sample", 1).derive(0, "x", -4) == _keys.derive(3, "sample", 1, 0, "x", -4)


def test_the_low_words_of_worker_seeds_are_distinct() -> None:
    keys = {_keys.derive(base, "worker", worker) & _keys.LOW for base in range(1000) for worker in range(4)}
    assert len(keys) == 4000


def test_what_cannot_be_keyed_is_refused_with_a_sentence() -> None:
    with pytest.raises(ArgumentTypeError, match="IterableDataset's samples have no index"):
        make(Endless())
    with pytest.raises(ArgumentTypeError, match="expected a dataset with __getitem__, got int"):
        make(3)
    with pytest.raises(ArgumentValueError, match="the loader has its own"):
        make(generator=torch.Generator())
    with pytest.raises(ArgumentValueError, match="expected a name"):
        make(name="")
    with pytest.raises(TypeError, match="name"):
        detprobe.seed_everything(0, quiet=True).loader(Held())  # type: ignore[call-arg]
    with pytest.raises(ArgumentTypeError, match="expected a sampler of integers"):
        next(iter(make(shuffle=False, sampler=[1.5])[1]))
    with pytest.raises(ValueError, match="mutually exclusive"):
        make(sampler=[1], shuffle=True)
