"""`environment_sensitivity`: which condition around a callable moves its bits?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from detprobe.checks import check_callable
from detprobe.conditions import load, shifted, threads
from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.probe_report import ProbeReport, Table
from detprobe.probes._common import Progress, Writer, check_device, check_runs, ticking, untouched
from detprobe.probes._outcomes import Outcomes, columns, gather, row
from detprobe.scanning._generators import ProcessGenerators
from detprobe.scanning._inputs import Arguments, split_inputs
from detprobe.scanning._tree import is_plain, map_tensors

__all__ = ["environment_sensitivity"]

AXES = ("threads", "alignment", "load")
_QUESTION = "Do the thread count, the place of the data in memory or other work on the machine change the bits?"
_SAID = {
    "threads": "The thread count moves it: each thread adds up a part, and the parts are cut by the number of threads.",
    "alignment": "The address of the data moves it: a kernel treats what lies before an aligned address by itself.",
    "load": "Other work on the machine moves it: its threads arrive in another order.",
}


def environment_sensitivity(
    fn: Callable[..., Any],
    *,
    inputs: Any = (),
    axes: Iterable[str] = AXES,
    runs: int = 8,
    device: str | torch.device | None = None,
    progress: bool | Progress | None = None,
) -> ProbeReport:
    """Run one callable under other thread counts, at other addresses and beside other work, and compare its bits.

    Example:
        >>> x = torch.randn(1 << 20)
        >>> print(detprobe.probes.environment_sensitivity(torch.sum, inputs=x))

    Args:
        fn: called as fn(*args, **kwargs); returns tensors (also nested) or a number. Draws from global generators are
            the same in every run.
        inputs: a tensor, a tuple (positional), a dict (keywords) or (tuple, dict); every run gets copies. Empty for a
            closure, whose data stay where they are.
        axes: "threads" (1, 2 and 4; CPU only), "alignment" (the same values at other addresses modulo 64 bytes), "load"
            (matrix products, naps and allocations beside it).
        runs: results per setting, at least 2.
        device: where a closure's data are, "cpu" or "cuda"; None takes that of the inputs, or the CPU.
        progress: True for a bar on stderr, or a callable (done, total or None, text).

    Returns:
        A report with a row per setting. "varies": its runs differ among themselves; "moved": they agree, on other bits
        than the runs under the settings of now; "same".

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument cannot be used.
        NotAvailableError: the device is not there.
        Whatever fn raises. Flags, thread count and generators are afterwards what they were.
    """
    check_callable("fn", fn, "pass the function and its inputs, as in environment_sensitivity(torch.sum, inputs=x)")
    check_runs(runs)
    chosen = _check_axes(axes)
    arguments = split_inputs(inputs)
    given = next((tensor.device for tensor in arguments.tensors()), torch.device("cpu"))
    where = given if device is None else torch.device(check_device(device, ("cpu", "cuda")))
    name = str(getattr(fn, "__qualname__", type(fn).__name__))
    writer = Writer(
        "environment_sensitivity",
        _QUESTION,
        str(where),
        fn=name,
        axes=list(chosen),
        runs=runs,
        threads=torch.get_num_threads(),
    )
    rows: list[tuple[_Setting, Outcomes]] = []
    with untouched(), ticking(progress, "probing") as tick:
        generators = ProcessGenerators()
        settings = list(_settings(arguments, chosen, where))
        base: Outcomes | None = None
        for at, setting in enumerate(settings):
            tick(at, len(settings), f"{setting.axis} {setting.value}".strip())
            with setting.active():
                found = gather(functools.partial(_run, fn, setting, generators), runs, base)
            base = base or found
            rows.append((setting, found))
        if base is not None and any(found.verdict == "moved" for _, found in rows):
            # A result that is rare without any change must not be laid at the door of one.
            last = settings[0]._replace(value="nothing changed, again")
            rows.append((last, gather(functools.partial(_run, fn, last, generators), runs, base)))
    return writer.report(
        free=any(found.verdict != "same" for _, found in rows),
        findings=_findings(rows),
        tables=[Table("", columns("axis"), tuple(row(s.axis, s.value, found) for s, found in rows))],
        notes=_notes(chosen, arguments, where),
    )


class _Setting(NamedTuple):
    axis: str
    value: str
    active: Callable[[], AbstractContextManager[None]]
    arguments: Callable[[], Arguments]
    """Copies for one run."""


def _settings(arguments: Arguments, axes: tuple[str, ...], device: torch.device) -> Iterator[_Setting]:
    """What nothing is changed for comes first; the others are judged against it."""

    copies = functools.partial(_moved, arguments, 0)
    yield _Setting("rerun", "nothing changed", nullcontext, copies)
    if "threads" in axes and device.type == "cpu":
        now = torch.get_num_threads()
        for count in sorted({1, 2, 4} - {now}):
            yield _Setting("threads", f"{count} instead of {now}", functools.partial(threads, count), copies)
    if "alignment" in axes and any(map(_can_shift, arguments.tensors())):
        for offset, said in ((1, "one element on"), (16, "16 bytes on"), (32, "32 bytes on"), (48, "48 bytes on")):
            yield _Setting("alignment", said, nullcontext, functools.partial(_moved, arguments, offset))
    if "load" in axes:
        yield _Setting("load", "beside other work", functools.partial(load, device), copies)


def _moved(arguments: Arguments, offset: int) -> Arguments:
    """Copies that start `offset` bytes after an aligned address."""

    def place(tensor: torch.Tensor) -> torch.Tensor:
        if not _can_shift(tensor):
            return tensor.detach().clone().requires_grad_(tensor.requires_grad) if is_plain(tensor) else tensor
        made = shifted(tensor, -(-offset // tensor.element_size()))
        return made.requires_grad_(tensor.requires_grad)

    return Arguments(map_tensors(place, arguments.args), map_tensors(place, arguments.kwargs))


def _can_shift(tensor: torch.Tensor) -> bool:
    return is_plain(tensor) and tensor.numel() > 0 and tensor.is_contiguous()


def _run(fn: Callable[..., Any], setting: _Setting, generators: ProcessGenerators) -> Any:
    arguments = setting.arguments()
    generators.restore()
    return fn(*arguments.args, **arguments.kwargs)


def _check_axes(axes: Any) -> tuple[str, ...]:
    known = ", ".join(AXES)
    if isinstance(axes, str) or not isinstance(axes, Iterable):
        raise ArgumentTypeError(f"axes: expected a tuple of names out of {known}; got {axes!r:.80}")
    names = list(axes)
    for name in names:
        if name not in AXES:
            raise ArgumentValueError(f"axes: expected names out of {known}; got {name!r:.80}")
    return tuple(axis for axis in AXES if axis in names)


def _findings(rows: list[tuple[_Setting, Outcomes]]) -> list[str]:
    loose = [
        (s, found) for s, found in rows if found.verdict == "varies" or (s.axis, found.verdict) == ("rerun", "moved")
    ]
    if loose:
        setting, found = max(loose, key=lambda row: row[1].distinct)
        said = [
            f"It does not repeat: {found.distinct} distinct results of {found.runs} runs ({setting.value}), up to "
            f"{_ulp(found)} apart. What a condition adds to that cannot be told."
        ]
        steady = [f"{s.axis}: {s.value}" for s, found in rows[1:] if s.axis == "threads" and found.distinct == 1]
        if steady:
            said.append(f"One result of {found.runs} was seen under {'; '.join(steady)}.")
        return said
    said = []
    for axis in AXES:
        own = [found for setting, found in rows if setting.axis == axis and found.verdict != "same"]
        if own:
            worst = max(own, key=lambda found: found.max_ulp or 0)
            said.append(f"{_SAID[axis]} Up to {_ulp(worst)}, in {worst.changed:.3g} % of the elements.")
    return said or ["Nothing that was changed here moved a bit."]


def _ulp(found: Outcomes) -> str:
    return "an unknown distance" if found.max_ulp is None else f"{found.max_ulp} ULP"


def _notes(axes: tuple[str, ...], arguments: Arguments, device: torch.device) -> list[str]:
    notes = []
    if "threads" in axes and device.type != "cpu":
        notes.append(f"threads: not tried, the inputs are on {device}.")
    if "alignment" in axes and not any(map(_can_shift, arguments.tensors())):
        notes.append("alignment: not tried, there is no contiguous tensor among the inputs.")
    return notes
