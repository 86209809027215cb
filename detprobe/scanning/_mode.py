"""The dispatch mode of a scan: every op of the step passes through here, runs once for the step, and is replayed.

The first run is the one that the step goes on with, so the step's own numbers are those of a run without the scan. A
mode stays on in autograd's threads and in the optimizer. What a replay shows goes to the `Tally`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from detprobe.scanning._axes import Variant
from detprobe.scanning._compare import Deferred, Measure, difference, fingerprint, on_cuda
from detprobe.scanning._explain import cause_of, cause_of_axis, try_fixes
from detprobe.scanning._freeze import FrozenCall, flat_tensors, fresh_in
from detprobe.scanning._places import NOWHERE, Place, Places
from detprobe.scanning._plain import run_plainly
from detprobe.scanning._poison import Poison, Read, fill_with_poison
from detprobe.scanning._schema import ALLOCATES, COMPUTES, NO_DATA, OpFacts, facts_of
from detprobe.scanning._state import State
from detprobe.scanning._tally import Evidence, Key, Tally, key_of
from detprobe.scanning._tree import describe, is_plain

__all__ = ["Plan", "ScanMode"]

_PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


class Plan:
    """What one pass over the step does with each op."""

    def __init__(
        self,
        *,
        axis: str = "rerun",
        replays: int,
        fixes: bool,
        variants: Sequence[Variant] = (),
        deadline: float | None = None,
        only: set[Key] | None = None,
        defer: bool = True,
        tick: Callable[[str], None] | None = None,
    ) -> None:
        self.axis = axis
        self.replays = replays
        """Results to compare per call, the first included; 1: none."""
        self.fixes = fixes
        self.variants = variants
        self.deadline = deadline
        self.only = only
        """Replay only these places."""
        self.defer = defer
        """On CUDA read the comparisons when the pass is over."""
        self.tick = tick
        self.watches_memory = axis == "rerun" and only is None
        """Poison what is allocated. One pass is enough for that."""


class ScanMode(TorchDispatchMode):
    """Runs, replays and judges each op of one pass."""

    def __init__(self, plan: Plan, tally: Tally, places: Places, state: State) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan = plan
        self.poison = Poison()
        self.deferred = Deferred()
        self._tally = tally
        self._places = places
        self._state = state

    supports_higher_order_operators = True

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(kind not in _PLAIN for kind in types):
            return NotImplemented  # a subclass with its own dispatch: its inner ops come back here
        place = self._places.here(depth=2) if self.plan.replays > 1 else NOWHERE
        if not isinstance(func, torch._ops.OpOverload):
            self._saw(key_of(str(func), place), "unreplayed", reason="a higher-order op: its body is not seen")
            return func(*args, **kwargs)
        facts = facts_of(func)
        if self.plan.tick is not None:
            self.plan.tick(facts.name)
        if self.plan.replays == 1 and facts.native:
            return run_plainly(self._state.undo, func, args, kwargs)
        tensors = flat_tensors(args, kwargs)
        key = key_of(facts.name, place)
        if facts.kind is COMPUTES:
            return self._compute(func, facts, args, kwargs, tensors, key, place)
        if facts.kind is ALLOCATES:
            return self._allocate(func, facts, args, kwargs, tensors, key, place)
        if facts.kind is NO_DATA:
            self._saw(key, "stable", reason=facts.reason)
            if self.poison.touches(tensors) and facts.name == "aten::_local_scalar_dense":
                return self._once(FrozenCall(func, facts, args, kwargs, tensors), place, watched=True)[0]
            return func(*args, **kwargs)
        self._saw(key, "unreplayed", reason=facts.reason)
        self._state.undo.protect_written(facts, args, kwargs)
        return func(*args, **kwargs)

    def _saw(self, key: Key, verdict: str, **more: Any) -> None:
        if self.plan.axis == "rerun" and self.plan.only is None:
            self._tally.saw(key, verdict, **more)

    def _allocate(
        self,
        func: Any,
        facts: OpFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[torch.Tensor],
        key: Key,
        place: Place,
    ) -> Any:
        self._saw(key, "stable", reason=facts.reason)
        held = tensors[0].untyped_storage().nbytes() if facts.written else 0  # resize_ keeps what is there
        self._state.undo.protect_written(facts, args, kwargs)
        output = func(*args, **kwargs)
        if not facts.written:
            self._state.undo.made([output])
        if self.plan.watches_memory:
            self.poison.fill(output, facts.name, place, held)
        else:
            fill_with_poison(output, held)
        return output

    def _compute(
        self,
        func: Any,
        facts: OpFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[torch.Tensor],
        key: Key,
        place: Place,
    ) -> Any:
        self._state.undo.protect_written(facts, args, kwargs)
        if facts.draws:
            for value in (*args, *kwargs.values()):
                if isinstance(value, torch.Generator):
                    self._state.adopt(value)
        reason = _refusal(tensors)
        if reason:
            self._saw(key, "unreplayed", reason=reason)
            return func(*args, **kwargs)
        call = FrozenCall(func, facts, args, kwargs, tensors)
        output, results = self._once(call, place, watched=self.poison.touches(tensors))
        reason = self._skipped(results)
        if reason:
            self._saw(key, "unreplayed", reason=reason)
        elif self.plan.replays > 1 and (self.plan.only is None or key in self.plan.only):
            self._replay(call, results, key, place)
        return output

    def _once(self, call: FrozenCall, place: Place, *, watched: bool) -> tuple[Any, list[Any]]:
        """The run that the step goes on with; reads of unwritten memory are found here."""
        output, results = call.first()
        for part in call.written_unseen():
            self._state.undo.was(*part)
        self._state.undo.made(fresh_in(call.facts, output))
        if watched and (read := self.poison.follow(call, results)) is not None:
            self.report_read(read, call.facts.name, place)
        return output, results

    def report_read(self, read: Read, reader: str, place: Place | None = None) -> None:
        """An op, or who gets the step's output, reads memory that nobody wrote: named at the line that made it."""
        made = read.place
        line = made.site or made.location  # in a custom backward the line that made it is not that of the forward
        phase = made.phase if place is None else place.phase
        site = "" if place is None or place.location == line else place.location
        at = f" at {site}" if site else ""
        cause = f"Reads{at} elements of the {read.shape} tensor that {read.maker} made here, and that nobody wrote."
        evidence = Evidence("rerun", 2, 2, read.measure, cause, shapes=read.shape, site=site)
        row = None if place is None else key_of(reader, place)
        self._tally.found((reader, phase, made.module, line), "uninitialized", evidence, row)

    def _skipped(self, results: list[Any]) -> str:
        if any(isinstance(r, torch.Tensor) and not is_plain(r) for r in results):
            return "its result has no plain memory to compare"
        if self.plan.deadline is not None and time.perf_counter() > self.plan.deadline:
            return "the budget was spent"
        return ""

    def _replay(self, call: FrozenCall, results: list[Any], key: Key, place: Place) -> None:
        replays = self.plan.replays
        elements = max((r.numel() for r in (*call.tensors, *results) if isinstance(r, torch.Tensor)), default=0)
        shapes = describe(call.tensors or results) if self._tally.wants_shapes(key, elements) else ""
        try:
            if self.plan.defer and on_cuda(results):
                for _ in range(replays - 1):
                    self.deferred.add((key, place.site), results, call.again())
                differs = False
            else:
                differs = self._judge(call, results, key, place)
                if not differs and self.plan.axis == "rerun":
                    differs = self._vary(call, results, key, place)
        except Exception as error:  # the op ran for the step, and cannot run again: no verdict is possible
            self._saw(key, "unreplayed", reason=f"its replay raised {type(error).__name__}: {_first_line(error)}")
            return
        verdict = "random" if not differs and call.drew() else "stable"
        reason = "draws from a generator, and repeats once its state is restored" if verdict == "random" else ""
        self._saw(key, verdict, replays=replays, reason=reason, shapes=shapes, elements=elements)

    def _judge(self, call: FrozenCall, results: list[Any], key: Key, place: Place) -> bool:
        """Replay on nothing but equal inputs. A finding gets all its replays."""
        seen: set[Any] | None = None
        worst: Measure | None = None
        sample: list[Any] = []
        for _ in range(self.plan.replays - 1):
            again = call.again()
            measure = difference(results, again)
            if measure is None:
                continue
            if seen is None:
                if not call.facts.draws and call.draws_unseen():
                    results = call.again()
                    return self._judge(call, results, key, place)
                seen, sample = {fingerprint(results)}, again
            seen.add(fingerprint(again))
            worst = measure.worst(worst)
        if worst is None or seen is None:
            return False
        if self.plan.axis != "rerun" and self._tally.accused(key):
            return True
        evidence = Evidence(
            self.plan.axis, len(seen), self.plan.replays, worst, "", shapes=describe(call.tensors), site=place.site
        )
        if not self._tally.explained(key, "nondeterministic"):
            evidence.cause = cause_of(call, results, sample, worst)
            if self.plan.axis != "rerun":
                evidence.cause += " " + cause_of_axis(self.plan.axis, "background load")
            if self.plan.fixes:
                evidence.trials = try_fixes(call, self.plan.replays)
        self._tally.found(key, "nondeterministic", evidence)
        return True

    def _vary(self, call: FrozenCall, results: list[Any], key: Key, place: Place) -> bool:
        """Change one thing that is not the data. Returns True when the bits moved."""
        moved = False
        for variant in self.plan.variants:
            first = variant.run(call)
            if first is None or (measure := difference(results, first)) is None:
                continue
            second = variant.run(call)
            repeats = second is not None and difference(first, second) is None
            verdict = "order-sensitive" if repeats else "nondeterministic"
            cause = variant.cause(call, results, first) or cause_of_axis(variant.axis, variant.label)
            evidence = Evidence(variant.axis, 2, 2, measure, cause, shapes=describe(call.tensors), site=place.site)
            self._tally.found(key, verdict, evidence)
            moved = True
        return moved


def _refusal(tensors: list[torch.Tensor]) -> str:
    """Why these arguments cannot be frozen; empty where they can."""
    for tensor in tensors:
        if is_plain(tensor):
            continue
        if tensor.is_meta:
            return "an argument is a meta tensor: it holds no data"
        if tensor.is_nested:
            return "an argument is a nested tensor"
        if tensor.layout is torch.strided:
            return "an argument stands for zeros, and has no memory"
        return f"an argument has the layout {tensor.layout}"
    return ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
