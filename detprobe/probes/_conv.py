"""`conv`: which algorithms a convolution can take on this device, which of them repeat, and how far they are apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from detprobe import bits
from detprobe.checks import check_number
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probe_report import Bars, Cell, Column, ProbeReport, Table
from detprobe.probes._common import Progress, Writer, check_device, check_dtype, check_runs, ticking, untouched
from detprobe.probes._conv_problems import PROBLEMS, ConvProblem
from detprobe.probes._conv_torch import Observed, Setting, cpu_settings, cuda_settings, elsewhere, observe
from detprobe.probes._cudnn import CUDNN_TYPES, Choice, Row, open_session, survey

__all__ = ["conv", "quick"]

_QUESTION = "Does a convolution give the same bits twice, and which bits can its library choose between?"
_LAYOUTS = ("NCHW", "NHWC")
_CPU_BATCH = 2

Result = tuple[Observed, torch.Tensor | None]


def conv(
    problems: Iterable[ConvProblem] | None = None,
    *,
    device: str | torch.device | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
    layouts: Sequence[str] = _LAYOUTS,
    runs: int = 10,
    seed: int = 0,
    workspace_limit: int = 1 << 30,
    settings: bool = True,
    progress: bool | Progress | None = None,
) -> ProbeReport:
    """Run every algorithm for forward, data gradient and weight gradient repeatedly on the same data.

    On a GPU: every engine of cuDNN and every configuration that its heuristics recommend, one by one, with what cuDNN
    declares of it; then torch's convolution under cudnn.benchmark, cudnn.deterministic and allow_tf32, each in a fresh
    process. On the CPU: torch's convolution with more and fewer threads, channels_last, and without oneDNN.

    Example:
        >>> mine = detprobe.probes.ConvProblem("mine", 8, 64, 128, (56, 56), (3, 3), padding=1)
        >>> print(detprobe.probes.conv([mine], device="cpu"))

    Args:
        problems: by default `detprobe.probes.PROBLEMS`, on the CPU with a batch of 2.
        device: "cpu", "cuda" or "cuda:1"; the GPU where there is one, and else the CPU.
        dtypes: out of float16, bfloat16, float32, float64. By default float32, float16 and bfloat16, on the CPU without
            float16. Of float32 the engines that compute in TF32 are told apart.
        layouts: "NCHW", "NHWC" or both, for cuDNN's engines.
        runs: of each algorithm, at least 2.
        seed: of the data.
        workspace_limit: bytes; an engine that wants more is named and not run.
        settings: False leaves out torch's own convolutions on a GPU, which take processes.
        progress: True for a bar on stderr, or a callable (done, total, text).

    Returns:
        A `ProbeReport`; `free` says whether bits moved between runs, engines or settings.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument that cannot be used.
        NotAvailableError: no such device, or no cuDNN on it.
    """
    where = check_device(device, ("cpu", "cuda"))
    check_runs(runs)
    check_number("seed", seed, int, 0, "a seed is not negative")
    check_number("workspace_limit", workspace_limit, int, 0, "bytes that an engine may use")
    usual = (torch.float32, torch.bfloat16) if where == "cpu" else (torch.float32, torch.float16, torch.bfloat16)
    kinds = usual if dtypes is None else _several("dtypes", dtypes)
    for kind in kinds:
        check_dtype(kind, tuple(CUDNN_TYPES))
    for layout in _several("layouts", layouts):
        if layout not in _LAYOUTS:
            raise ArgumentValueError(f"layouts: expected {' or '.join(_LAYOUTS)}, got {layout!r:.80}")
    chosen = _problems(problems, where)
    writer = Writer(
        "conv",
        _QUESTION,
        where,
        problems=[f"{problem.name}: {problem}" for problem in chosen],
        dtypes=[str(kind).removeprefix("torch.") for kind in kinds],
        layouts=list(layouts),
        runs=runs,
        seed=seed,
        workspace_limit=workspace_limit,
        settings=settings,
    )
    with untouched(), ticking(progress, "conv") as tick:
        if where == "cpu":
            return cpu_report(writer, _on_cpu(chosen, kinds, runs, seed, tick))
        with torch.cuda.device(where):
            session = open_session(stream=torch.cuda.current_stream().cuda_stream)
            rows, choices = engines(
                session, chosen, kinds, layouts, torch.device(where), runs, seed, workspace_limit, tick
            )
        found, notes = _in_processes(chosen, kinds, where, runs, seed, tick) if settings else ([], [])
        return cudnn_report(writer, session.version, rows, choices, found, notes)


def quick(device: str, progress: Progress) -> ProbeReport:
    """A form of a few seconds on a CPU, of a minute or two on a GPU, where engines are compiled, for `run_all`."""
    if device == "cpu":
        small = [problem.with_batch(_CPU_BATCH) for problem in (PROBLEMS[1], PROBLEMS[6])]
        return conv(small, device=device, dtypes=[torch.float32], runs=3, progress=progress)
    return conv(PROBLEMS[3:4], device=device, dtypes=[torch.float32, torch.float16], runs=5, progress=progress)


def _several(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | torch.dtype) or not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{name}: expected a list, got {values!r:.80}: put it into brackets")
    found = tuple(values)
    if not found:
        raise ArgumentValueError(f"{name}: expected at least one, got none")
    return found


def _problems(problems: Any, where: str) -> tuple[ConvProblem, ...]:
    if problems is None:
        return tuple(problem.with_batch(_CPU_BATCH) for problem in PROBLEMS) if where == "cpu" else PROBLEMS
    found = _several("problems", problems)
    for problem in found:
        if not isinstance(problem, ConvProblem):
            raise ArgumentTypeError(f"problems: expected detprobe.probes.ConvProblem, got {problem!r:.80}")
    twice = [name for name, count in Counter(problem.name for problem in found).items() if count > 1]
    if twice:
        raise ArgumentValueError(f"problems: expected a name of its own for each, got {twice[0]!r:.40} twice")
    return found


def engines(
    session: Any,
    problems: Sequence[ConvProblem],
    dtypes: Sequence[torch.dtype],
    layouts: Sequence[str],
    device: torch.device,
    runs: int,
    seed: int,
    limit: int,
    tick: Progress,
) -> tuple[list[Row], list[Choice]]:
    """Every engine on every problem; a stand-in for cuDNN takes device "cpu"."""
    rows, choices = [], []
    cases = [(problem, dtype, layout) for problem in problems for dtype in dtypes for layout in layouts]
    for at, (problem, dtype, layout) in enumerate(cases):
        tick(at, len(cases), f"{problem.name}, {str(dtype).removeprefix('torch.')}, {layout}")
        form = {"dtype": dtype, "layout": layout, "device": device}
        for more, said in survey(session, problem, **form, runs=runs, seed=seed, limit=limit):  # type: ignore[arg-type]
            rows += more
            choices += said
    return rows, choices


def _on_cpu(
    problems: Sequence[ConvProblem], dtypes: Sequence[torch.dtype], runs: int, seed: int, tick: Progress
) -> list[tuple[Observed, Cell, Cell]]:
    found = []
    cases = [(problem, dtype) for problem in problems for dtype in dtypes]
    for at, (problem, dtype) in enumerate(cases):
        tick(at, len(cases), f"{problem.name}, {str(dtype).removeprefix('torch.')}")
        results: list[Result] = []
        for setting in cpu_settings():
            results += observe(problem, dtype, setting, device="cpu", runs=runs, seed=seed)
        found += compared(results)
    return found


def _in_processes(
    problems: Sequence[ConvProblem], dtypes: Sequence[torch.dtype], where: str, runs: int, seed: int, tick: Progress
) -> tuple[list[tuple[Observed, Cell, Cell]], list[str]]:
    results: list[Result] = []
    notes = []
    chosen: tuple[Setting, ...] = cuda_settings(tf32=(False, True) if torch.float32 in dtypes else (False,))
    for at, setting in enumerate(chosen):
        tick(at, len(chosen), f"torch, {setting.name}")
        try:
            results += elsewhere(problems, dtypes, setting, device=where, runs=runs, seed=seed)
        except NotAvailableError as error:
            notes.append(str(error))
    return compared(results), notes


def compared(results: Sequence[Result]) -> list[tuple[Observed, Cell, Cell]]:
    """Each with its distance from the same operation under the first setting: ULP, and |a - b| / max |a|."""
    first: dict[tuple[str, str, str], torch.Tensor] = {}
    found: list[tuple[Observed, Cell, Cell]] = []
    for row, result in results:
        if result is None:
            found.append((row, None, None))
            continue
        base = first.setdefault((row.problem, row.dtype, row.operation), result)
        apart = bits.difference(base, result)
        largest = float(base.abs().max())
        relative = (apart.max_abs or 0.0) / largest if largest > 0 else None
        found.append((row, apart.max_ulp if apart.count else 0, relative))
    return found


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _settings_tables(found: Sequence[tuple[Observed, Cell, Cell]]) -> list[Table]:
    """One table for each problem and dtype; what did not run in one of its own."""
    names = ("operation", "setting", "runs", "distinct")
    columns = (*map(Column, names), Column("from first", "ULP"), Column("relative"), Column("time", "ms"))
    rows: dict[tuple[str, str], list[tuple[Cell, ...]]] = {}
    for row, ulp, relative in found:
        if row.seen is not None:
            cells = (row.operation, row.setting, row.seen.runs, row.seen.distinct, ulp, relative, _ms(row.seconds))
            rows.setdefault((row.problem, row.dtype), []).append(cells)
    tables = [Table(f"torch: {problem}, {dtype}", columns, tuple(mine)) for (problem, dtype), mine in rows.items()]
    lost = [(f"{row.problem}, {row.dtype}, {row.operation}", row.setting, row.says) for row, _, _ in found if row.says]
    if lost:
        tables.append(
            Table("torch: no result", (Column("convolution"), Column("setting"), Column("says")), tuple(lost))
        )
    return tables


def _settings_findings(found: Sequence[tuple[Observed, Cell, Cell]]) -> tuple[list[str], bool]:
    ran = [(row, row.seen) for row, _, _ in found if row.seen is not None]
    if not ran:
        return ["torch's convolution gave no result under any setting."], False
    moved = [row for row, seen in ran if seen.distinct > 1]
    runs = ran[0][1].runs
    first = ran[0][0].setting
    said = []
    for setting in dict.fromkeys(row.setting for row, _ in ran if row.setting != first):
        mine = [(ulp, relative) for row, ulp, relative in found if row.setting == setting and row.seen is not None]
        differ = [relative for ulp, relative in mine if ulp != 0]
        if differ:
            most = max((relative for relative in differ if isinstance(relative, float)), default=None)
            apart = f", up to {most:.2g} of the largest element" if most is not None else ""
            said.append(f"{setting}: other bits than with {first} in {len(differ)} of {len(mine)} operations{apart}.")
    headline = f"torch's convolution: {len(moved)} of {len(ran)} combinations gave more than one result in {runs} runs"
    others = len({row.setting for row, _ in ran}) - 1
    headline += f"; {len(said)} of {others} other settings gave other bits than {first}." if others else "."
    return [headline, *said], bool(said or moved)


def cpu_report(writer: Writer, found: Sequence[tuple[Observed, Cell, Cell]]) -> ProbeReport:
    findings, free = _settings_findings(found)
    notes = [
        "The CPU has no engines to choose by hand: oneDNN and torch's own loops choose by shape and instruction set."
    ]
    if not torch.backends.mkldnn.is_available():
        notes.append("This torch is built without oneDNN: with it and without it are the same here.")
    return writer.report(free=free, findings=findings, tables=_settings_tables(found), notes=notes)


def cudnn_report(
    writer: Writer,
    version: int,
    rows: Sequence[Row],
    choices: Sequence[Choice],
    found: Sequence[tuple[Observed, Cell, Cell]],
    notes: Sequence[str],
) -> ProbeReport:
    ran = [row for row in rows if row.seen is not None]
    moved = [row for row in ran if row.moved]
    hidden = [row for row in moved if not row.declared]
    quiet = [row for row in ran if row.declared and not row.moved]
    apart = [choice for choice in choices if choice.distinct > 1]
    named = f"cuDNN {version // 10000}.{version // 100 % 100}.{version % 100}"
    first = f": the first is engine {hidden[0].engine}, {hidden[0].operation} of {hidden[0].problem}" if hidden else ""
    findings = [
        f"{named}: {len(moved)} of {len(ran)} ways to convolve gave more than one result on the same data.",
        f"{len(hidden)} of those are not declared nondeterministic{first}.",
        f"{len(quiet)} are declared nondeterministic and repeated here.",
        f"In {len(apart)} of {len(choices)} cases the ways differ from each other: a search such as "
        "cudnn.benchmark chooses the bits with the time.",
    ]
    tables = [*_choices_tables(choices), *_engines_tables(ran)]
    refused = Counter((_convolution(row), row.says) for row in rows if row.seen is None)
    if refused:
        columns = (Column("convolution"), Column("says"), Column("ways"))
        tables.append(Table("not run", columns, tuple((*key, n) for key, n in refused.items())))
    free = bool(moved or apart)
    if found:
        more, other = _settings_findings(found)
        findings += more
        free = free or other
        tables += _settings_tables(found)
    worst: dict[str, float] = {}
    for choice in choices:
        worst[choice.problem] = max(worst.get(choice.problem, 0.0), choice.relative or 0.0)
    figures = [Bars("largest difference between ways, of the largest element", "", tuple(worst), tuple(worst.values()))]
    return writer.report(free=free, findings=findings, tables=tables, figures=figures if worst else [], notes=notes)


def _convolution(of: Row | Choice) -> str:
    return f"{of.problem}, {of.operation}, {of.dtype}, {of.layout}"


def _choices_tables(choices: Sequence[Choice]) -> list[Table]:
    names = ("convolution", "ways", "declared", "moved", "distinct")
    columns = (*map(Column, names), Column("apart", "ULP"), Column("relative"))
    columns = (*columns, Column("fastest", "ms"), Column("repeats", "ms"))
    rows: dict[str, list[tuple[Cell, ...]]] = {}
    for c in choices:
        cells = (f"{c.problem}, {c.operation}", c.ways, c.declared, c.moved, c.distinct, c.ulp, c.relative)
        rows.setdefault(f"{c.dtype}, {c.layout}", []).append((*cells, _ms(c.fastest), _ms(c.fixed)))
    title = "what a search can choose between"
    return [Table(f"{title}: {form}", columns, tuple(mine)) for form, mine in rows.items()]


def _engines_tables(rows: Sequence[Row]) -> list[Table]:
    columns = (*map(Column, ("operation", "engine", "declared", "distinct")), Column("apart", "ULP"))
    columns = (*columns, Column("time", "ms"), Column("workspace", "MiB"), Column("notes"))
    tables: dict[str, list[tuple[Cell, ...]]] = {}
    for row in rows:
        engine = str(row.engine) if row.source == "engine" else f"{row.engine}, {row.source}"
        seen = (row.seen.distinct, row.seen.ulp) if row.seen is not None else (None, None)
        memory = None if row.workspace is None else row.workspace / 2**20
        cells = (row.operation, engine, row.declared, *seen, _ms(row.seconds), memory, row.notes)
        tables.setdefault(f"{row.problem}, {row.dtype}, {row.layout}", []).append(cells)
    return [Table(title, columns, tuple(mine)) for title, mine in tables.items()]
