"""`audit_loader`: what a DataLoader, as its owner builds it, gets wrong; by building it several times and comparing."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.seeding import _states
from detprobe.seeding._samples import Samples, Ticket

__all__ = ["AuditRow", "LoaderAudit", "audit_loader"]

_REPEATS = 8  # fetches of one sample
_KEYED = "run.loader(dataset, name=...), or **run.loader_kwargs(name)"


@dataclass(frozen=True)
class AuditRow:
    """One question."""

    name: str
    status: str
    """PASS or FAIL."""
    found: str
    fix: str = ""


@dataclass(frozen=True)
class LoaderAudit:
    """The answers; `str()` of it is the table."""

    rows: tuple[AuditRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every row passed."""
        return all(row.status == "PASS" for row in self.rows)

    def row(self, name: str) -> AuditRow:
        """The row of that name, or KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> str:
        """The rows as JSON text."""
        return json.dumps({"schema": 1, **dataclasses.asdict(self)}, indent=1) + "\n"

    def __str__(self) -> str:
        from detprobe.report.table import render_table

        cells = [(row.name, row.status, row.found, row.fix) for row in self.rows]
        return render_table("audit of a loader", ("question", "status", "found", "fix"), cells, notes=self.notes)


def audit_loader(make_loader: Callable[..., Any], *, workers: int = 2, batches: int = 8) -> LoaderAudit:
    """Build a loader several times and compare: does its data depend on the seed, and on nothing else?

    Example:
        >>> def make_loader(seed, num_workers):
        ...     run = detprobe.seed_everything(seed)
        ...     return run.loader(dataset, name="train", shuffle=True, num_workers=num_workers)
        >>> print(detprobe.audit_loader(make_loader))

    Args:
        make_loader: takes the keywords seed and num_workers, seeds as your script does, and returns the DataLoader. It
            is called about ten times. What it changes besides generators stays changed.
        workers: how many are compared with none and with one; at least 2.
        batches: how many of an epoch are looked at.

    Returns:
        A row for each question. Random numbers in this process are afterwards what they were.

    Raises:
        ArgumentTypeError: it returned no DataLoader, or one of an IterableDataset.
        ArgumentValueError: fewer than 2 workers, or no batches.
    """
    if not callable(make_loader):
        raise ArgumentTypeError(f"make_loader: expected a function, got {type(make_loader).__name__}")
    if workers < 2 or batches < 1:
        raise ArgumentValueError(f"expected workers >= 2 and batches >= 1, got {workers} and {batches}")

    def made(seed: int = 0, num_workers: int = workers) -> DataLoader[Any]:
        return _checked(make_loader(seed=seed, num_workers=num_workers), num_workers)

    with _states.isolate_rng():
        loader = made()
        first, second = _pass(loader, batches), _pass(loader, batches)
        again = made()
        repeated = _pass(again, batches), _pass(again, batches)
        other = _pass(made(seed=1), batches)
        draws = _draws(made())
        counts = {n: _pass(made(num_workers=n), batches) for n in (0, 1)}
        traces = {n: _leaves_a_trace(made(num_workers=n), batches) for n in (0, workers)}
    random = len(set(itertools.chain(*draws))) > 1
    fixed = not random and isinstance(_sampler(loader), SequentialSampler)
    rows = (
        _row(
            "same seed, same data", (first, second) == repeated, _difference(first + second, repeated[0] + repeated[1])
        ),
        _row("other seed, other data", fixed or first != other, "seeds 0 and 1 give the same", drawn=not fixed),
        _row("epochs differ", _epochs_differ(first, second, draws, fixed), _same_epochs(draws), drawn=not fixed),
        _row("workers draw apart", not random or _apart(draws[0]), _shared(draws[0]), drawn=random),
        _row(
            "any number of workers",
            all(found == first for found in counts.values()),
            "; ".join(f"{n} against {workers} workers: {_difference(found, first)}" for n, found in counts.items()),
            "run.loader(dataset, name=...)",
        ),
        _row(
            "no trace outside",
            not any(traces.values()),
            f"iterating draws from {', '.join(sorted({*traces[0], *traces[workers]}))}, so it shifts what follows",
        ),
    )
    return LoaderAudit(rows, ("ranks and resuming are not asked about",))


def _row(name: str, passed: bool, problem: str, fix: str = _KEYED, *, drawn: bool = True) -> AuditRow:
    if passed:
        return AuditRow(name, "PASS", "" if drawn else "nothing is drawn")
    return AuditRow(name, "FAIL", problem, fix)


def _checked(loader: Any, workers: int) -> DataLoader[Any]:
    if not isinstance(loader, DataLoader):
        raise ArgumentTypeError(f"make_loader: expected it to return a DataLoader, got {type(loader).__name__}")
    if isinstance(loader.dataset, IterableDataset):
        raise ArgumentTypeError("make_loader: an IterableDataset has no samples to fetch twice: it cannot be audited")
    if loader.num_workers != workers:
        raise ArgumentValueError(
            f"make_loader: expected a loader with num_workers={workers}, as it was asked for, got {loader.num_workers}"
        )
    return loader


def _own_batches(loader: DataLoader[Any]) -> bool:
    return loader.batch_size is None and loader.batch_sampler is not None


def _sampler(loader: DataLoader[Any]) -> Any:
    """The user's sampler, or batch sampler; a keyed loader has wrapped it."""
    source: Any = loader.batch_sampler if _own_batches(loader) else loader.sampler
    return getattr(source, "source", source)


def _pass(loader: DataLoader[Any], batches: int) -> list[bytes]:
    return [_digest(batch) for batch in itertools.islice(iter(loader), batches)]


def _digest(batch: Any) -> bytes:
    digest = blake2b(digest_size=16)
    for leaf in _leaves(batch):
        if isinstance(leaf, torch.Tensor):
            leaf = leaf.detach().cpu().contiguous()
            digest.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
            digest.update(leaf.flatten().view(torch.uint8).numpy().tobytes() if leaf.numel() else b"")
        elif isinstance(leaf, np.ndarray):
            digest.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
        else:
            digest.update(f"{type(leaf).__name__}{leaf!r}".encode())
    return digest.digest()


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield key
            yield from _leaves(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    elif hasattr(value, "__dict__") and not isinstance(value, torch.Tensor | np.ndarray):
        yield from _leaves(vars(value))  # its repr may hold an address
    else:
        yield value


class _OneSample(Dataset[Any]):
    """The first sample, again and again: what differs is what was drawn."""

    def __init__(self, dataset: Any, index: Any) -> None:
        self.dataset, self.index, self.epoch = dataset, index, 0

    def __len__(self) -> int:
        return _REPEATS

    def __getitem__(self, at: int) -> bytes:
        index = Ticket(self.index, self.epoch, at) if isinstance(self.dataset, Samples) else self.index
        if callable(getattr(self.dataset, "__getitems__", None)):
            return _digest(self.dataset.__getitems__([index])[0])
        return _digest(self.dataset[index])


def _draws(loader: DataLoader[Any]) -> list[list[bytes]]:
    """Of two epochs the digests of one sample, fetched by the workers in turn, which are started as the loader does."""
    index = next(iter(_sampler(loader)))
    if _own_batches(loader):
        index = next(iter(index))
    one = _OneSample(loader.dataset, index)
    again = DataLoader(
        one,
        batch_size=None,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        multiprocessing_context=loader.multiprocessing_context,
    )
    found = []
    for epoch in range(2):
        one.epoch = epoch
        found.append(list(again))
    return found


def _apart(draws: list[bytes]) -> bool:
    return len(set(draws)) == len(draws)


def _shared(draws: list[bytes]) -> str:
    return f"one sample, fetched {len(draws)} times by the workers in turn, came out in {len(set(draws))} ways"


def _epochs_differ(first: list[bytes], second: list[bytes], draws: list[list[bytes]], fixed: bool) -> bool:
    if fixed:
        return True
    random = len(set(itertools.chain(*draws))) > 1
    return first != second and not (random and set(draws[0]) & set(draws[1]))


def _same_epochs(draws: list[list[bytes]]) -> str:
    if set(draws[0]) & set(draws[1]) and len(set(draws[0])) > 1:
        return "a sample is augmented in the second epoch as it was in the first"
    return "the second epoch is the first one again"


def _difference(a: list[bytes], b: list[bytes]) -> str:
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} batches"
    differ = [at for at, (one, other) in enumerate(zip(a, b, strict=True)) if one != other]
    return f"{len(differ)} of {len(a)} batches differ" if differ else "the same"


def _leaves_a_trace(loader: DataLoader[Any], batches: int) -> list[str]:
    before = _states.Snapshot().plain()
    _pass(loader, batches)
    after = _states.Snapshot().plain()
    names = {"python": "random", "numpy": "numpy.random", "cpu": "torch"}
    return [shown for part, shown in names.items() if _digest(before[part]) != _digest(after[part])]
