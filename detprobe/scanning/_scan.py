"""`scan`: run the user's step under the replaying mode, put everything back, and report.

Passes, each from the same state and seed: the main one (every op replayed), a second one without replays (does the
whole step repeat? on CUDA it also looks closely at what the first one suspects), and one for each of the axes stress
and batch.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from detprobe.checks import check_callable, check_number
from detprobe.conditions import load
from detprobe.errors import DetprobeError
from detprobe.result import Report
from detprobe.scanning._axes import variants_for
from detprobe.scanning._batch import BatchMode, ShapeMode, batch_size, first_sample
from detprobe.scanning._compare import fingerprint
from detprobe.scanning._inputs import check_axes, check_device, check_optimizer, split_inputs
from detprobe.scanning._mode import Plan, ScanMode
from detprobe.scanning._places import ModuleStack, Places
from detprobe.scanning._reach import is_compiled, modules_behind
from detprobe.scanning._state import State
from detprobe.scanning._step import Outcome, Step
from detprobe.scanning._tally import Evidence, Tally
from detprobe.scanning._tree import is_plain

__all__ = ["scan"]

Progress = Callable[[int, int | None, str], None]

_running = threading.Lock()
_COMPILED = (
    "The model, or a part of it, is compiled: it was scanned as eager. Fused kernels may add in another order, and "
    "differ where these do not."
)
_OWN_HOOKS = r"Using `torch.compile\(module\)` when there are global hooks"  # the hooks are those of the scan
_TICK = 0.1  # s between two drawings of the progress bar
_PARALLEL_GRAIN = 32768  # elements from which torch's CPU loops use threads (at::internal::GRAIN_SIZE)


def scan(
    model: Callable[..., Any],
    inputs: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    backward: bool = True,
    optimizer: Any = None,
    replays: int = 8,
    axes: Iterable[str] = ("rerun", "flag"),
    budget: float | None = None,
    seed: int = 0,
    progress: bool | Progress | None = None,
) -> Report:
    """Find the ops of a model that do not give the same bits twice, by replaying each on frozen inputs.

    Example:
        >>> report = detprobe.scan(model, (images,), loss=lambda out: F.cross_entropy(out, labels))
        >>> print(report)

    Args:
        model: an nn.Module, or any callable. It runs as it is, in the mode (train or eval) that it is in.
        inputs: a tensor, a tuple (positional), a dict (keywords) or (tuple, dict).
        loss: maps the output to a scalar. Without it the backward starts from a seeded random cotangent for every
            floating tensor in the output.
        backward: scan the backward too.
        optimizer: a torch.optim.Optimizer; its step is scanned too, after the backward.
        replays: results to compare per call, the first run included; at least 2. An op that gives its usual result
            with probability q is found with probability 1 - q**(replays - 1).
        axes: what replays change. "rerun" (nothing; always on), "flag" (findings are tried with torch's deterministic
            algorithms; never makes a finding), "threads", "layout", "batch", "stress", "device".
        budget: s; when it is spent, the rest of the step runs without replays and says so.
        seed: seeds the global generators and the cotangent for the scan.
        progress: True for a bar on stderr, or a callable (done, total or None, text).

    Returns:
        A `Report`. Parameters, buffers, gradients, optimizer state, generators, flags, thread count and training mode
        are afterwards what they were, also when the model raises.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument cannot be used; the text says what was expected.
        NotAvailableError: axis "device" without a second device.
        Whatever the model raises.
    """
    return run_scan(
        model,
        inputs,
        loss=loss,
        backward=backward,
        optimizer=optimizer,
        replays=replays,
        axes=axes,
        budget=budget,
        seed=seed,
        progress=progress,
        lenient=False,
    )


def run_scan(
    model: Callable[..., Any],
    inputs: Any,
    *,
    loss: Callable[[Any], Any] | None,
    backward: bool,
    optimizer: Any,
    replays: int,
    axes: Iterable[str],
    budget: float | None,
    seed: int,
    progress: bool | Progress | None,
    lenient: bool,
) -> Report:
    """`scan`; `lenient` also takes a call without tensors and an output without anything to differentiate."""
    check_callable("model", model, "pass the model itself")
    check_number("replays", replays, int, 2, "one result alone has nothing to be compared with")
    check_number("seed", seed, int, 0, "any integer from 0 to 2**63 - 1")
    if budget is not None:
        check_number("budget", budget, float, 0, "seconds, or None for no limit")
    if loss is not None:
        check_callable("loss", loss, "pass a function that maps the model's output to a scalar")
    if optimizer is not None:
        check_optimizer(optimizer)
    chosen = check_axes(tuple(axes) if isinstance(axes, set | frozenset | list) else axes)
    arguments = split_inputs(inputs)
    notes = [_COMPILED] if is_compiled(model) or is_compiled(loss) else []
    plain = _uncompiled(model)
    modules = modules_behind(plain) + modules_behind(loss)
    owned = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    device = check_device(arguments, owned, need_tensor=not lenient)
    if not _running.acquire(blocking=False):
        raise DetprobeError(
            "a scan is running in this process already, and two would replay each other's replays: end it first"
        )
    try:
        step = Step(plain, arguments.from_leaves(), loss, backward, optimizer, seed, lenient)
        session = _Session(step, modules, device, replays, chosen, budget, notes)
        with _progress(progress) as draw:
            return session.run(_name(plain), draw)
    finally:
        _running.release()


class _Session:
    """One scan."""

    def __init__(
        self,
        step: Step,
        modules: list[torch.nn.Module],
        device: torch.device,
        replays: int,
        axes: tuple[str, ...],
        budget: float | None,
        notes: list[str],
    ) -> None:
        self._step = step
        self._device = device
        self._replays = replays
        self._axes = axes
        self._budget = budget
        self._notes = notes
        self._tally = Tally()
        self._variants = variants_for(axes, device)
        self._modules = modules
        self._roots = [(_prefix(module, step.model), module) for module in modules]
        self._state = State(step.model, step.loss, step.optimizer, *step.arguments)

    def run(self, name: str, draw: Progress) -> Report:
        started = time.perf_counter()
        environment = _environment()
        deadline = None if self._budget is None else started + self._budget
        tick = _Ticker(draw)
        try:
            self._main(deadline, tick)
            if "stress" in self._axes and not _over(deadline):
                self._stressed(deadline, tick)
            if "batch" in self._axes and not _over(deadline):
                self._batched()
        finally:
            self._state.restore()
        self._note_limits(deadline)
        return Report(
            model=name,
            findings=self._tally.findings(),
            ops=self._tally.rows(),
            environment=environment,
            settings={
                "axes": list(self._axes),
                "backward": self._step.backward,
                "budget": self._budget,
                "device": str(self._device),
                "optimizer": type(self._step.optimizer).__name__ if self._step.optimizer is not None else None,
                "replays": self._replays,
                "seed": self._step.seed,
            },
            notes=tuple(dict.fromkeys(self._notes)),
            seconds=time.perf_counter() - started,
        )

    def _pass(self, plan: Plan, around: AbstractContextManager[Any] | None = None) -> tuple[ScanMode, Outcome]:
        modules = ModuleStack(self._roots, self._state.adopt)
        places = Places(modules)
        mode = ScanMode(plan, self._tally, places, self._state)
        try:
            with around or nullcontext(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=_OWN_HOOKS)
                outcome = self._step.run(mode, places, modules, self._state)
        except Exception as error:
            if hasattr(error, "add_note") and not isinstance(error, DetprobeError):
                error.add_note("(raised by the model while detprobe.scan ran it; the model's state was put back)")
            raise
        return mode, outcome

    def _main(self, deadline: float | None, tick: _Ticker) -> None:
        fixes = "flag" in self._axes
        mode, outcome = self._pass(
            Plan(replays=self._replays, fixes=fixes, variants=self._variants, deadline=deadline, tick=tick)
        )
        for name, tensors in (("(output)", outcome.outputs), ("(gradient)", outcome.gradients)):
            for read in mode.poison.left_in(tensors):
                mode.report_read(read, reader=name)
        self._notes += outcome.notes
        before = _digests(outcome)
        suspects = mode.deferred.read()
        del mode, outcome
        if _over(deadline) and not suspects:
            return
        tick.total = self._tally.calls
        self._state.restore()
        places = {key for key, _ in suspects}
        plan = Plan(replays=self._replays if suspects else 1, fixes=fixes, only=places, defer=False, tick=tick)
        _, outcome = self._pass(plan)
        for (key, site), measure in suspects.items():
            if not self._tally.accused(key):  # seen by the first pass alone: rare, and true all the same
                evidence = Evidence("rerun", 2, self._replays, measure, "Seen in one pass of two.", site=site)
                self._tally.found(key, "nondeterministic", evidence)
        if _digests(outcome) != before and not self._tally.findings():
            self._notes.append(
                "Two runs of the whole step from the same state and seed gave different bits, and no op explains it: "
                "either it differs rarely (see the bound), or the cause is outside of torch's dispatcher (numpy, an "
                "extension called directly, a generator of the model's own, the order of a Python set)."
            )

    def _stressed(self, deadline: float | None, tick: _Ticker) -> None:
        self._state.restore()
        plan = Plan(
            axis="stress", replays=self._replays, fixes="flag" in self._axes, deadline=deadline, defer=False, tick=tick
        )
        self._pass(plan, load(self._device))

    def _batched(self) -> None:
        size = batch_size(self._step.arguments)
        if size is None:
            self._notes.append("The batch axis was left out: the inputs have no common first dimension above 1.")
            return
        state, step = self._state, self._step
        forward = Step(step.model, first_sample(step.arguments), None, False, None, step.seed)
        modules = ModuleStack(self._roots, state.adopt)
        shapes = ShapeMode(state)
        state.restore()
        try:
            forward.run(shapes, Places(modules), modules, state)
        except Exception as error:
            self._notes.append(f"The batch axis was left out: on one sample alone the model raised {error!r}.")
            return
        state.restore()
        places = Places(modules)
        mode = BatchMode(shapes.log, self._tally, places, state)
        forward.arguments = step.arguments
        forward.run(mode, places, modules, state)
        if mode.lost:
            self._notes.append(
                f"The batch axis judged the ops before {mode.lost}: from there on the model does other things for one "
                f"sample than for {size}."
            )

    def _note_limits(self, deadline: float | None) -> None:
        if _over(deadline):
            self._notes.append(f"The budget of {self._budget:g} s was spent before every op was replayed.")
        if self._device.type == "cpu" and self._tally.largest < _PARALLEL_GRAIN and not self._tally.findings():
            self._notes.append(
                f"The largest tensor has {self._tally.largest} elements, and torch's CPU loops use threads from "
                f"{_PARALLEL_GRAIN} on: scan the size that you train with before you call the model clean."
            )
        if self._device.type == "cpu" and torch.get_num_threads() == 1:
            self._notes.append("torch runs on one thread here: what depends on several cannot show.")


class _Ticker:
    """Counts ops and draws the progress now and then."""

    def __init__(self, draw: Progress) -> None:
        self.total: int | None = None
        self._draw = draw
        self._done = 0
        self._next = 0.0

    def __call__(self, text: str) -> None:
        self._done += 1
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + _TICK
            self._draw(self._done, self.total and 2 * self.total, text)


def _progress(progress: bool | Progress | None) -> AbstractContextManager[Progress]:
    if callable(progress):
        return nullcontext(progress)
    if progress:
        from detprobe.report.progress import progress_bar

        return progress_bar()
    return nullcontext(lambda done, total, text: None)


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.perf_counter() > deadline


def _digests(outcome: Outcome) -> list[Any]:
    plain = [t for t in (*outcome.outputs, *outcome.gradients) if is_plain(t)]
    return [fingerprint([tensor.detach()]) for tensor in plain]


def _environment() -> dict[str, Any]:
    from detprobe.environment import read

    return read()


def _uncompiled(model: Any) -> Any:
    """A compiled model's eager original: under a dispatch mode torch runs that anyway, and says nothing."""
    return getattr(model, "_orig_mod", None) or getattr(model, "_torchdynamo_orig_callable", None) or model


def _name(model: Any) -> str:
    if isinstance(model, torch.nn.Module):
        return type(model).__name__
    return getattr(model, "__qualname__", None) or type(model).__name__


def _prefix(module: torch.nn.Module, model: Any) -> str:
    """Dotted paths start below the model; other modules that a callable uses keep their class name."""
    return "" if module is model else type(module).__name__
