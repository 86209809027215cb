"""Samples by key: what is drawn for one is a function of (seed, loader, epoch, index), wherever it is fetched.

The sampler hands out tickets, which tell the epoch with the index. The dataset that torch fetches from is a wrapper: it
starts every generator anew for each ticket, also those that the dataset, its transforms and the collate function hold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils.data import default_collate, default_convert, get_worker_info

from detprobe.errors import ArgumentTypeError
from detprobe.seeding import _held, _keys, _states
from detprobe.seeding._registry import registered

__all__ = ["Collate", "Keyer", "Samples", "Ticket", "identity", "seed_worker"]

Rekeyer = Callable[[int], object]


class Ticket(NamedTuple):
    """An index of the sampler, with what makes its key."""

    index: Any
    epoch: int
    occurrence: int
    """How often the index came before in this epoch: drawing with replacement repeats them."""


def identity(index: Any) -> tuple[str | int, ...]:
    """The parts of a key that an index stands for: ints, strings, and lists and tuples of them."""
    if type(index) is int or isinstance(index, str):
        return (index,)
    if isinstance(index, list | tuple):
        return (len(index), *(part for one in index for part in identity(one)))
    try:
        return (operator.index(index),)
    except TypeError:
        raise ArgumentTypeError(
            f"run.loader: expected a sampler of integers, strings, or lists of them, got {type(index).__name__}: its "
            "samples have no key; use DataLoader(dataset, **run.loader_kwargs(name))"
        ) from None


def rekey(key: int, held: list[Rekeyer]) -> None:
    """Every generator that a sample may draw from starts anew."""
    _states.rekey_host(key)
    for other in registered():
        other.seed(_keys.derive(key, "registered", other.name))
    for one in held:
        one(key)


class Keyer:
    """Fetches samples and collates them, each from its key. The wrappers share one, so that a worker has one too."""

    def __init__(self, base: int, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.collate = collate
        self._base = base
        self._batched = callable(getattr(dataset, "__getitems__", None))
        self._epoch: int | None = None
        self._keys = _keys.Prefix(base)
        self._held: list[Rekeyer] = []
        self._batch: tuple[int, tuple[str | int, ...]] = (0, ())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_epoch": None, "_keys": None, "_held": []}  # made anew where it arrives

    def fetch(self, tickets: list[Ticket]) -> list[Any]:
        """The samples, one by one: a key is of one sample."""
        first = tickets[0] if tickets else Ticket(0, 0, 0)
        self._batch = (len(tickets), (first.epoch, first.occurrence, *identity(first.index)))
        return [self.fetch_one(ticket) for ticket in tickets]

    def fetch_one(self, ticket: Ticket) -> Any:
        """The sample, from its key."""
        if ticket.epoch != self._epoch:
            self._keys = _keys.Prefix(self._base, "sample", ticket.epoch)
            return self._fetch_first(ticket)
        rekey(self._keys.derive(ticket.occurrence, *identity(ticket.index)), self._held)
        return self._get(ticket.index)

    def _fetch_first(self, ticket: Ticket) -> Any:
        """The first of an epoch in this process: look for held generators before it, and after it for those that it
        made. If there are any, it drew from them without a key, and is fetched again."""
        key = self._keys.derive(ticket.occurrence, *identity(ticket.index))
        found = self._find()
        rekey(key, self._held)
        sample = self._get(ticket.index)
        after = self._find()
        if list(found) != list(after) or any(after[path] is not one for path, one in found.items()):
            rekey(key, self._held)
            sample = self._get(ticket.index)
        self._epoch = ticket.epoch
        return sample

    def _find(self) -> dict[str, Any]:
        found = _held.find({"dataset": self.dataset, "collate": self.collate})
        self._held = [_held.rekeyer(path, generator) for path, generator in found.items()]
        return found

    def _get(self, index: Any) -> Any:
        if not self._batched or isinstance(index, list):
            return self.dataset[index]
        got = self.dataset.__getitems__([index])
        if not isinstance(got, list | tuple) or len(got) != 1:
            raise ArgumentTypeError(
                "run.loader: expected __getitems__ of one index to return a list of one sample, got "
                f"{type(got).__name__}"
            )
        return got[0]

    def collate_batch(self, samples: Any) -> Any:
        """The batch, from the key of its first sample and its length: mixup repeats."""
        if self.collate not in (default_collate, default_convert):  # these draw nothing
            length, first = self._batch
            rekey(_keys.derive(self._base, "collate", length, *first), self._held)
        return self.collate(samples)


class Samples(torch.utils.data.Dataset[Any]):
    """The dataset that torch sees. Whatever else is asked of it, the user's answers."""

    def __init__(self, keyer: Keyer) -> None:
        self.keyer = keyer

    def __len__(self) -> int:
        return len(self.keyer.dataset)

    def __getitem__(self, ticket: Any) -> Any:
        """The sample of a ticket, or of a plain index as the user's dataset gives it."""
        if not isinstance(ticket, Ticket):
            return self.keyer.dataset[ticket]
        return self.keyer.fetch([ticket])[0]

    def __getitems__(self, tickets: list[Ticket]) -> list[Any]:
        return self.keyer.fetch(tickets)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "keyer":  # while it is unpickled there is no keyer yet
            raise AttributeError(name)
        return getattr(self.keyer.dataset, name)


class Collate:
    """The collate function that torch sees."""

    def __init__(self, keyer: Keyer) -> None:
        self.keyer = keyer

    def __call__(self, samples: Any) -> Any:
        return self.keyer.collate_batch(samples)


def seed_worker(worker_id: int) -> None:
    """The worker_init_fn of a DataLoader that you build: seeds the worker's generators, and those its dataset holds.

    Example:
        >>> DataLoader(dataset, num_workers=4, worker_init_fn=detprobe.seed_worker, generator=run.generator("train"))

    Each worker draws something else, and in each epoch something else again, unless the workers are persistent. What a
    sample draws depends on the number of workers; `Run.loader` is without that.

    Args:
        worker_id: as torch passes it.
    """
    key = _keys.derive(torch.initial_seed(), "worker", worker_id)
    info = get_worker_info()
    held = {} if info is None else _held.find({"dataset": info.dataset})
    rekey(key, [_held.rekeyer(path, generator) for path, generator in held.items()])
