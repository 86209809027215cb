"""`Run.loader`: a torch DataLoader whose data is a function of the seed, its name and the epoch.

Not of the number of workers, how they start, whether they persist, how far they fetch ahead, or the batch size.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)
from torch.utils.data.distributed import DistributedSampler

from detprobe.conditions import threads
from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.seeding import _held, _keys, _states
from detprobe.seeding._samples import Collate, Keyer, Samples, Ticket, identity

if TYPE_CHECKING:
    from detprobe.seeding._run import Run

__all__ = ["KeyedLoader"]

_AHEAD = 64  # indices that are drawn together where the sampler has to be isolated


class KeyedLoader(DataLoader[Any]):
    """What `Run.loader` returns."""

    def __init__(self, run: Run, name: str, base: int, dataset: Any, options: dict[str, Any]) -> None:
        if isinstance(dataset, IterableDataset):
            raise ArgumentTypeError(
                "run.loader: an IterableDataset's samples have no index, and so no key: use "
                "DataLoader(dataset, **run.loader_kwargs(name)), which seeds each worker"
            )
        if not hasattr(dataset, "__getitem__") and not hasattr(dataset, "__getitems__"):
            raise ArgumentTypeError(f"run.loader: expected a dataset with __getitem__, got {type(dataset).__name__}")
        if options.get("generator") is not None:
            raise ArgumentValueError("run.loader: generator: the loader has its own, of the run's seed; leave it out")
        batch_sampler, sampler = options.get("batch_sampler"), options.get("sampler")
        batched = options.get("batch_size", 1) is not None or batch_sampler is not None
        collate = options.get("collate_fn") or (default_collate if batched else default_convert)
        keyer = Keyer(base, dataset, collate)
        options = {**options, "collate_fn": Collate(keyer), "generator": torch.Generator()}
        if batch_sampler is not None:
            order = _Order(base, batch_sampler, 1)
            options["batch_sampler"] = _Batches(order)
        else:
            if sampler is None:
                shuffle = options.pop("shuffle", False)
                sampler = RandomSampler(dataset, generator=torch.Generator()) if shuffle else SequentialSampler(dataset)
            order = _Order(base, sampler, _AHEAD)
            options["sampler"] = order
        self._run, self._name, self._base, self._order = run, name, base, order
        self._counted = -1  # epochs, where run.epoch was never called
        super().__init__(Samples(keyer), **options)

    def __iter__(self) -> Any:
        """The batches of the epoch that the run is in."""
        epoch = self._epoch()
        saved = self._run._resume_at.get(self._name, (-1, 0))
        start = saved[1] if saved[0] == epoch else 0
        return _Iteration(self, epoch, start)

    def _epoch(self) -> int:
        if self._run._epoch >= 0:
            return self._run._epoch
        if self._counted < 0:
            self._counted = self._run._resume_at.get(self._name, (0, 0))[0]
        else:
            self._counted += 1
        return self._counted

    def _begin(self, epoch: int, start: int, sizes: deque[int]) -> Iterator[Any]:
        """torch's own iterator; the sampler's begins with it."""
        self.generator.manual_seed(_keys.derive(self._base, "workers", epoch))
        self._order.begin(epoch, start, sizes)
        return super().__iter__()


class _Iteration:
    """One pass. Without workers each batch is made in isolation, on one thread, as a worker would make it."""

    def __init__(self, loader: KeyedLoader, epoch: int, start: int) -> None:
        self._loader, self._epoch, self._at = loader, epoch, start
        self._start = start
        self._sizes: deque[int] = deque()
        self._batches: Iterator[Any] | None = None
        if loader.num_workers:
            self._begin()  # they fetch from now on

    def _begin(self) -> Iterator[Any]:
        self._batches = self._loader._begin(self._epoch, self._start, self._sizes)
        return self._batches

    def __iter__(self) -> _Iteration:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        loader = self._loader
        batches = self._begin() if self._batches is None else self._batches
        if loader.num_workers == 0:
            # A worker computes on one thread, and the last bits of a sum may depend on it.
            with _states.isolate_rng(), threads(1):
                batch = next(batches)
        else:
            batch = next(batches)
        self._at += self._sizes.popleft() if self._sizes else loader.batch_size or 1
        loader._run._reached[loader._name] = (self._epoch, self._at)
        return batch


class _Order:
    """The sampler, with the epoch in what it hands out, and a start within the epoch."""

    def __init__(self, base: int, source: Any, ahead: int) -> None:
        self.source = source
        self._base = base
        self._ahead = ahead
        self.begin(0, 0, deque())

    def begin(self, epoch: int, first: int, sizes: deque[int]) -> None:
        """What the next pass is; a batch sampler's sizes are put down, in order, for the saved position."""
        self._epoch, self._first, self._sizes = epoch, first, sizes

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Ticket]:
        return self._tickets(self._epoch, self._first)

    def _tickets(self, epoch: int, first: int) -> Iterator[Ticket]:
        tickets = _Tickets(epoch)
        for at, index in enumerate(self._drawn(epoch)):
            ticket = tickets.next(index)
            if at >= first:
                yield ticket

    def batches(self) -> Iterator[list[Ticket]]:
        """The same of a batch sampler; the first batch may be what a saved position left of it."""
        return self._ticket_batches(self._epoch, self._first, self._sizes)

    def _ticket_batches(self, epoch: int, first: int, sizes: deque[int]) -> Iterator[list[Ticket]]:
        tickets = _Tickets(epoch)
        at = 0
        for indices in self._drawn(epoch):
            batch = [tickets.next(index) for index in indices]
            rest = batch[max(first - at, 0) :]
            at += len(batch)
            if rest:
                sizes.append(len(rest))
                yield rest

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    def _drawn(self, epoch: int) -> Iterator[Any]:
        """The indices that the user's sampler draws from the key of the epoch, without a trace outside."""
        key = _keys.derive(self._base, "order", epoch)
        source = self.source
        if isinstance(source, DistributedSampler):
            return _drawn_distributed(source, key, epoch)
        if hasattr(source, "set_epoch"):
            source.set_epoch(epoch)
        if type(source) is SequentialSampler:
            return iter(source)
        if type(source) is RandomSampler and source.generator is not None:
            source.generator.manual_seed(key)
            return iter(source)
        return _drawn_isolated(source, key, self._ahead)


class _Tickets:
    """Counts how often an index came."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._came: dict[tuple[str | int, ...], int] = {}

    def next(self, index: Any) -> Ticket:
        name = identity(index)
        occurrence = self._came.get(name, 0)
        self._came[name] = occurrence + 1
        return Ticket(index, self._epoch, occurrence)


class _Batches:
    """The user's batch sampler as torch sees it."""

    def __init__(self, order: _Order) -> None:
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[list[Ticket]]:
        return self._order.batches()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._order, name)


def _drawn_distributed(source: Any, key: int, epoch: int) -> Iterator[Any]:
    """It draws from its seed + its epoch alone, which every rank must have the same: the key is shared."""
    before = source.seed, source.epoch
    source.seed, source.epoch = key >> 1, 0  # torch's seeds are signed
    try:
        return iter(source)
    finally:
        source.seed, source.epoch = before[0], epoch


def _drawn_isolated(source: Any, key: int, ahead: int) -> Iterator[Any]:
    """Of a sampler that may draw from anywhere, whenever it is asked: it keeps generators of its own between calls."""
    held = [_held.rekeyer(path, generator) for path, generator in _held.find({"sampler": source}).items()]
    with _states.isolate_rng():
        _states.rekey(key)
        for rekey in held:
            rekey(key)
        indices = iter(source)
        own = _states.Snapshot()
    while True:
        with _states.isolate_rng():
            own.restore()
            chunk = list(itertools.islice(indices, ahead))
            own = _states.Snapshot()
        yield from chunk
        if len(chunk) < ahead:
            return
