"""`seed_everything` and the `Run` that it returns: the streams of a run, its flags, its report and its state.

Every default generator is a function of (seed, epoch, step, rank), so there is nothing to lose between steps, and a
resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.seeding import _flags, _keys, _process, _states
from detprobe.seeding import _report as status
from detprobe.seeding._registry import load_entry_points, registered
from detprobe.seeding._report import Setting, SettingsReport

if TYPE_CHECKING:
    from detprobe.seeding._loader import KeyedLoader

__all__ = ["Run", "seed_everything"]

_STATE_VERSION = 1
_KEYS = ("version", "seed", "expected", "epoch", "step", "rank", "world_size", "devices", "generators", "loaders")
_MODES = (None, "warn", "error")
_seeded = False


class Run:
    """One seeded run, as `seed_everything` makes it."""

    def __init__(self, seed: int, mode: str | None, rank: int, world_size: int) -> None:
        self.seed = seed
        self.mode = mode
        self.rank = rank
        self.world_size = world_size
        self._epoch = -1  # none has begun
        self._step = 0
        self._resumed = False
        self._changes = _flags.Changes()
        self._drawn_before = _drawn_before()
        self._failed = load_entry_points()
        self._expected = 0
        self._reached: dict[str, tuple[int, int]] = {}  # of each loader the epoch, and the samples given out in it
        self._resume_at: dict[str, tuple[int, int]] = {}  # the same, of a loaded state

    @property
    def report(self) -> SettingsReport:
        """What was wanted and what is in effect now; it reads, and starts nothing."""
        changes = self._changes
        rows = [*self._generators(), _process.hash_seed(self.seed)]
        rows.append(_process.cublas(changes, requested=self.mode is not None))
        flags = (_flags.ALGORITHMS, *_flags.FLAGS, *_flags.PRECISION)
        rows += [changes.row(flag) for flag in flags]
        rows += _process.threads()
        notes = []
        if self.mode is None:
            notes.append("mode=None: seeding alone; kernels are still free to differ from run to run")
        if self.mode == "warn":
            notes.append(
                "mode='warn' warns once per op and process, and leaves what has no deterministic kernel as it is"
            )
        return SettingsReport(self.seed, self.mode, tuple(rows), tuple(notes))

    def _generators(self) -> list[Setting]:
        rows = []
        fix = "seed after what reseeds, or wrap that in detprobe.isolate_rng()"
        for name, follows in _states.follows(self._expected).items():
            if follows:
                rows.append(Setting(name, "keyed", "keyed", status.OK))
            else:
                said = f"reseeded since, or more than {_states.WORDS:,} words drawn"
                rows.append(Setting(name, "keyed", said, status.OVERRIDDEN, fix))
        for name, generator in {"torch cpu": torch.default_generator, **_states.accelerators()}.items():
            found = generator.initial_seed()
            if found == self._expected:
                rows.append(Setting(name, "keyed", "keyed", status.OK))
            else:
                rows.append(Setting(name, "keyed", f"reseeded since, to {found}", status.OVERRIDDEN, fix))
        if self._drawn_before:
            said = "torch's generator was drawn from before: a model, or data, is not covered"
            rows.append(Setting("first draw", "after seeding", said, status.LATE, "seed first"))
        rows += [Setting(other.name, "keyed", "keyed when seeded", status.OK) for other in registered()]
        rows += [Setting(name, "keyed", error, status.UNSUPPORTED) for name, error in self._failed.items()]
        return rows

    @contextmanager
    def stream(self, name: str, *indices: int, per_rank: bool = False) -> Iterator[None]:
        """Draws within come from a stream of their own: they shift nothing outside, and nothing outside shifts them.

        Example:
            >>> with run.stream("init"):
            ...     model = Net()

        Args:
            name: of the stream. The same name starts the same draws again; `indices` tell apart what should differ.
            indices: further parts of the key, a layer or an epoch.
            per_rank: whether each rank of torch.distributed draws something else; without it all draw the same.

        Raises:
            ArgumentTypeError: the name is no string, or an index no integer.
            ArgumentValueError: the name is empty.
        """
        key = self._key("stream", name, indices, per_rank=per_rank)
        with _states.isolate_rng():
            _states.rekey(key)
            yield

    def generator(self, name: str, *indices: int, per_rank: bool = False, device: str = "cpu") -> torch.Generator:
        """A torch.Generator of its own stream, which starts anew in each one that is made.

        Example:
            >>> noise = torch.randn(3, generator=run.generator("noise"))

        Args:
            name, indices, per_rank: as for `stream`, of which it shares no draws.
            device: where the generator draws.
        """
        key = self._key("generator", name, indices, per_rank=per_rank)
        return torch.Generator(device=device).manual_seed(key)

    def loader(self, dataset: Any, *, name: str, **options: Any) -> KeyedLoader:
        """A torch DataLoader whose data depends on the seed, the name and the epoch alone.

        Not on num_workers, persistent_workers, prefetch_factor or how workers start; a sample not on the batch size.
        The order, and what is drawn for each sample and each collated batch, come from keys: random, NumPy, torch, and
        the generators that the dataset, its transforms, the collate function and the sampler hold start anew for each.
        Iterating draws nothing from the generators outside.

        Example:
            >>> loader = run.loader(dataset, name="train", batch_size=64, shuffle=True, num_workers=4)
            >>> for epoch in range(3):
            ...     run.epoch(epoch)
            ...     for images, labels in loader: ...

        Args:
            dataset: with `__getitem__` or `__getitems__`, which is asked for one sample at a time. The first sample of
                an epoch is fetched twice in a process where the dataset only then makes a generator.
                Generators that it holds are left where the last sample left them, if there are no workers. torch
                cannot send a torch.Generator to workers that are spawned.
            name: of the loader; another name gives another order and other draws.
            options: those of torch's DataLoader, without `generator`. Samplers draw from the loader's key: a
                DistributedSampler too, and its `set_epoch` is called.

        Returns:
            The loader. Twice in one epoch it gives the same data; where `epoch` is never called it counts its own.
            `state_dict` saves where it is, and a pass that begins in a resumed epoch begins there.

        Raises:
            ArgumentTypeError: an IterableDataset, whose samples have no index; no dataset; or no name.
            ArgumentValueError: a generator was given, or the name is empty.
        """
        from detprobe.seeding._loader import KeyedLoader

        return KeyedLoader(self, name, self._key("loader", name, (), per_rank=False), dataset, options)

    def loader_kwargs(self, name: str) -> dict[str, Any]:
        """Arguments for a DataLoader that you build: its own generator, and workers that are seeded.

        Order and draws repeat, and differ between epochs; unlike those of `loader` they depend on the number of
        workers, and on how many passes there were before.

        Example:
            >>> loader = DataLoader(dataset, shuffle=True, num_workers=2, **run.loader_kwargs("train"))
        """
        from detprobe.seeding._samples import seed_worker

        return {"generator": self.generator(name), "worker_init_fn": seed_worker}

    def check(self, model: Any, inputs: Any, **options: Any) -> SettingsReport:
        """The report, with what seeding left free on this device: the findings of `detprobe.scan`, and what
        `detprobe.probes.advise` says about the settings of now. Takes seconds.

        Example:
            >>> print(run.check(model, (images,)))

        Args:
            model, inputs: as for `detprobe.scan`.
            options: further arguments of `detprobe.scan`: loss, replays, axes.

        Returns:
            The rows of `report` and, after them, one for each finding and each setting; FREE where bits were seen to
            differ.

        Raises:
            What `detprobe.scan` raises.
        """
        from detprobe.seeding._check import check_rows

        rows = check_rows(model, inputs, options)
        report = self.report
        return dataclasses.replace(report, rows=(*report.rows, *rows))

    def _key(self, kind: str, name: str, indices: tuple[int, ...], *, per_rank: bool) -> int:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"{kind}: name: expected a string, got {type(name).__name__}")
        if not name:
            raise ArgumentValueError(f"{kind}: name: expected a name, got an empty string")
        for index in indices:
            if not isinstance(index, int) or isinstance(index, bool):
                raise ArgumentTypeError(f"{kind} {name!r}: expected integers after the name, got {index!r}")
        scope = ("rank", self.rank) if per_rank else ("shared",)
        return _keys.derive(self.seed, kind, name, *scope, *indices)

    def epoch(self, number: int) -> None:
        """Begin an epoch: the step is 0, unless a loaded state is inside this very epoch.

        Args:
            number: from 0.
        """
        number = _keys.as_seed(number, name="epoch")
        if not (self._resumed and number == self._epoch):
            self._epoch, self._step = number, 0
            self._rekey_step()
        self._resumed = False

    def step(self) -> None:
        """Begin a step: every default generator starts from (seed, epoch, step, rank), so that dropout repeats."""
        self._resumed = False
        self._step += 1
        self._rekey_step()

    def _rekey_step(self) -> None:
        self._rekey(_keys.derive(self.seed, "step", self._epoch, self._step, "rank", self.rank))

    def _rekey(self, key: int) -> None:
        _states.rekey(key)
        self._expected = torch.default_generator.initial_seed()

    def state_dict(self) -> dict[str, Any]:
        """Where the run is, as ints, strings and uint8 CPU tensors: torch.load reads it with weights_only=True."""
        return {
            "version": _STATE_VERSION,
            "seed": str(self.seed),  # above 2**63 it would be no int that every reader takes
            "expected": str(self._expected),
            "epoch": self._epoch,
            "step": self._step,
            "rank": self.rank,
            "world_size": self.world_size,
            "devices": _visible(),
            "generators": _states.Snapshot().plain(),
            "loaders": {name: {"epoch": epoch, "samples": at} for name, (epoch, at) in self._reached.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called.

        Raises:
            ArgumentValueError: the state is of another version, seed, rank, world size, number of devices, or set of
                generators. Nothing is changed then.
        """
        if not isinstance(state, dict) or state.get("version") != _STATE_VERSION:
            got = state.get("version") if isinstance(state, dict) else type(state).__name__
            raise ArgumentValueError(
                f"load_state_dict: expected what Run.state_dict() gave, version {_STATE_VERSION}, got {got}"
            )
        wrong = _odd_keys(state, _KEYS) or _odd_keys(state["generators"], _states.PARTS)
        for at in () if wrong else state["loaders"].values():
            wrong = wrong or _odd_keys(at, ("epoch", "samples"))
        if wrong:
            raise ArgumentValueError(f"load_state_dict: expected what Run.state_dict() gave; {wrong}")
        here = {
            "seed": str(self.seed),
            "world_size": self.world_size,
            "rank": self.rank,
            "devices": _visible(),
        }
        for name, value in here.items():
            if state[name] != value:
                raise ArgumentValueError(
                    f"load_state_dict: {name}: the state was saved with {state[name]}, and here it is {value}: the "
                    "draws would differ; resume as it was saved, or start a new run"
                )
        held, running = set(state["generators"]["devices"]), set(_states.accelerators())
        if not held <= running:
            raise ArgumentValueError(
                f"load_state_dict: the state holds the generators of {sorted(held)}, and of these only "
                f"{sorted(held & running)} run here: put the model on its device first"
            )
        snapshot = _states.Snapshot.from_plain(state["generators"])
        self._resume_at = {name: (at["epoch"], at["samples"]) for name, at in state["loaders"].items()}
        self._reached = dict(self._resume_at)
        self._epoch, self._step, self._resumed = state["epoch"], state["step"], True
        for generator in _states.accelerators().values():
            generator.manual_seed(int(state["expected"]))  # of those that had not started when it was saved
        snapshot.restore()
        self._expected = int(state["expected"])

    def restore(self) -> None:
        """Undo every flag and variable that this run set; generators go on from where they are."""
        self._changes.undo()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.restore()


def seed_everything(seed: int, *, mode: str | None = None, tf32: bool | None = None, quiet: bool = False) -> Run:
    """Seed every default generator of the process, and change flags only on request.

    Example:
        >>> run = detprobe.seed_everything(42)
        >>> print(run.report)
        >>> with run.stream("init"):
        ...     model = Net()
        >>> for epoch in range(3):
        ...     run.epoch(epoch)
        ...     for batch in loader:
        ...         run.step()

    Args:
        seed: 0 to 2**64 - 1. Keys are derived from it, so the draws are not those of torch.manual_seed(seed).
        mode: None changes no flag. "warn" and "error" are those of torch.set_deterministic_debug_mode, with
            cudnn.benchmark off, cudnn and oneDNN deterministic, memory filled, and cuBLAS's workspace fixed.
        tf32: True or False sets TensorFloat-32 of matmul and cuDNN; None leaves it. It is precision, not repeatability.
        quiet: leave out the line on stderr (rank 0) that says what is still free.

    Returns:
        A `Run`. As a context manager it calls `restore()` at the end.

    Raises:
        ArgumentTypeError: the seed is no integer, or tf32 no bool.
        ArgumentValueError: the seed is out of range, or the mode unknown.
    """
    seed = _keys.as_seed(seed)
    if mode not in _MODES:
        raise ArgumentValueError(f"mode: expected None, 'warn' or 'error', got {mode!r}")
    if tf32 is not None and not isinstance(tf32, bool):
        raise ArgumentTypeError(f"tf32: expected None, True or False, got {tf32!r}")
    run = Run(seed, mode, *_process.ranks())
    if mode is not None:
        run._changes.set_flag(_flags.ALGORITHMS, mode)
        for flag in _flags.FLAGS:
            run._changes.set_flag(flag, flag.wanted)
        _process.set_cublas(run._changes)
    if tf32 is not None:
        for flag in _flags.TF32:
            run._changes.set_flag(flag, tf32)
    key = _keys.derive(seed, "start")  # shared by all ranks: a model that is built now is the same on each
    run._rekey(key)
    if not torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(key)  # torch keeps it until CUDA starts
    if mode is None and run.rank == 0 and not quiet:
        print(f"detprobe: seed {seed}; mode=None: kernels are still free to differ, see run.report", file=sys.stderr)
    return run


def _odd_keys(found: Any, expected: tuple[str, ...]) -> str:
    """What a part of a state lacks or has too much, as a sentence; empty where it is as expected."""
    if not isinstance(found, dict):
        return f"a dict with {', '.join(expected)} is a {type(found).__name__}"
    missing = [key for key in expected if key not in found]
    foreign = [str(key) for key in found if key not in expected]
    said = [f"{what}: {', '.join(keys)}" for what, keys in (("missing", missing), ("foreign", foreign)) if keys]
    return "; ".join(said)


def _drawn_before() -> bool:
    """Whether torch's generator was drawn from before the first run of the process was seeded."""
    global _seeded
    before, _seeded = _seeded, True
    if before:
        return False
    generator = torch.default_generator
    fresh = torch.Generator().manual_seed(generator.initial_seed())
    return not torch.equal(generator.get_state(), fresh.get_state())


def _visible() -> dict[str, int]:
    """How many devices of each kind the process sees; does not start them."""
    counts = {kind: getattr(torch, kind).device_count() for kind in ("cuda", "xpu")}
    return {kind: count for kind, count in counts.items() if count}
