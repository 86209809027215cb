"""torch's own convolutions under the settings that choose their algorithm.

cudnn.benchmark remembers what it chose for as long as the process lives, so on a GPU each setting gets a process of its
own, which leaves its results in a folder.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from detprobe.errors import NotAvailableError
from detprobe.probes._conv_problems import OPERATIONS, ConvProblem
from detprobe.probes._fresh import ask
from detprobe.probes._memory import out_of_memory
from detprobe.probes._spread import Spread, spread

__all__ = ["Observed", "Setting", "answer", "cpu_settings", "cuda_settings", "elsewhere", "observe"]


@dataclass(frozen=True)
class Setting:
    """What is set before torch convolves."""

    name: str
    channels_last: bool = False
    threads: int = 0
    """0: as many as there are."""
    onednn: bool = True
    benchmark: bool = False
    deterministic: bool = False
    tf32: bool = False

    @contextlib.contextmanager
    def applied(self, device: str) -> Iterator[None]:
        """What matters on the device is set, and afterwards as it was."""
        cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
        wanted: list[tuple[Any, str, bool]] = [(mkldnn, "enabled", self.onednn)]
        if device != "cpu":
            wanted = [(cudnn, "benchmark", self.benchmark), (cudnn, "deterministic", self.deterministic)]
            wanted.append((cudnn, "allow_tf32", self.tf32))
        before = [(flags, name, getattr(flags, name)) for flags, name, _ in wanted]
        threads = torch.get_num_threads()
        try:
            for flags, name, value in wanted:
                setattr(flags, name, value)
            if self.threads:
                torch.set_num_threads(self.threads)
            yield
        finally:
            torch.set_num_threads(threads)
            for flags, name, value in before:
                setattr(flags, name, value)


@dataclass(frozen=True)
class Observed:
    """One operation under one setting."""

    problem: str
    dtype: str
    operation: str
    setting: str
    seen: Spread | None
    seconds: float | None
    """Of the fastest run, s; of the runs behind the first, in which libraries search and pack."""
    says: str = ""
    """Why there is no result, in torch's words."""


def cpu_settings() -> tuple[Setting, ...]:
    threads = max(2, torch.get_num_threads())
    return (
        Setting(f"{threads} threads", threads=threads),
        Setting("1 thread", threads=1),
        Setting("channels_last", threads=threads, channels_last=True),
        Setting("oneDNN off", threads=threads, onednn=False),
        Setting("oneDNN off, 1 thread", threads=1, onednn=False),
    )


def cuda_settings(*, tf32: Sequence[bool] = (False, True)) -> tuple[Setting, ...]:
    """All combinations; a search twice, in two processes, since it chooses by time."""
    return tuple(
        Setting(
            f"benchmark {_on(benchmark)}, deterministic {_on(deterministic)}, TF32 {_on(allowed)}"
            + (f", process {process}" if benchmark else ""),
            benchmark=benchmark,
            deterministic=deterministic,
            tf32=allowed,
        )
        for allowed in tf32
        for benchmark in (False, True)
        for deterministic in (False, True)
        for process in ((1, 2) if benchmark else (1,))
    )


def _on(value: bool) -> str:
    return "on" if value else "off"


def observe(
    problem: ConvProblem, dtype: torch.dtype, setting: Setting, *, device: str, runs: int, seed: int
) -> Iterator[tuple[Observed, torch.Tensor | None]]:
    """Each operation, `runs` times on the same data, and its first result on the CPU."""
    named = str(dtype).removeprefix("torch.")
    try:
        x, w, g = (_laid_out(tensor.to(device=device, dtype=dtype), setting) for tensor in problem.tensors(seed))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        for operation in OPERATIONS:
            yield Observed(problem.name, named, operation, setting.name, None, None, "out of memory"), None
        return
    for operation in OPERATIONS:
        about = (problem.name, named, operation, setting.name)
        results, seconds = [], []
        try:
            with setting.applied(device):
                for _ in range(runs):
                    start = time.perf_counter()
                    result = problem.run(operation, x, w, g)
                    if device != "cpu":
                        torch.cuda.synchronize()
                    seconds.append(time.perf_counter() - start)
                    results.append(result.cpu().contiguous())
        except (RuntimeError, MemoryError) as error:  # NotImplementedError is one
            says = "out of memory" if out_of_memory(error) else f"not supported: {str(error).splitlines()[0]}"
            yield Observed(*about, None, None, says), None
        else:
            yield Observed(*about, spread(results), min(seconds[1:])), results[0]


def _laid_out(tensor: torch.Tensor, setting: Setting) -> torch.Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if not setting.channels_last or tensor.dim() not in formats:
        return tensor.contiguous()
    return tensor.contiguous(memory_format=formats[tensor.dim()])


def elsewhere(
    problems: Sequence[ConvProblem],
    dtypes: Sequence[torch.dtype],
    setting: Setting,
    *,
    device: str,
    runs: int,
    seed: int,
    limit: float = 300.0,
) -> list[tuple[Observed, torch.Tensor | None]]:
    """What `observe` gives, from a fresh process that has at most `limit` seconds.

    Raises:
        NotAvailableError: that process failed or took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "problems": [asdict(problem) for problem in problems],
            "dtypes": [str(dtype).removeprefix("torch.") for dtype in dtypes],
            "setting": asdict(setting),
            "device": device,
            "runs": runs,
            "seed": seed,
            "folder": folder,
        }
        try:
            rows = ask(f"{__name__}:answer", request, {}, limit=limit)
        except NotAvailableError as error:
            raise NotAvailableError(f"torch's convolutions with {setting.name}: {error}") from None
        found: list[tuple[Observed, torch.Tensor | None]] = []
        for at, raw in enumerate(rows):
            row = Observed(**{**raw, "seen": None if raw["seen"] is None else Spread(**raw["seen"])})
            result = torch.load(Path(folder, f"{at}.pt"), weights_only=True) if row.seen is not None else None
            found.append((row, result))
        return found


def answer(
    *,
    problems: list[dict[str, Any]],
    dtypes: list[str],
    setting: dict[str, Any],
    device: str,
    runs: int,
    seed: int,
    folder: str,
) -> list[dict[str, Any]]:
    """What `elsewhere` asks for: the rows as plain data, their first results by number in the folder."""
    rows: list[dict[str, Any]] = []
    for raw in problems:
        problem = ConvProblem(**{**raw, "size": tuple(raw["size"]), "kernel": tuple(raw["kernel"])})
        for name in dtypes:
            dtype = getattr(torch, name)
            for row, result in observe(problem, dtype, Setting(**setting), device=device, runs=runs, seed=seed):
                if result is not None:
                    torch.save(result, Path(folder, f"{len(rows)}.pt"))
                rows.append(asdict(row))
    return rows
