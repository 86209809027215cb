"""What only counts when it is set before the interpreter, or CUDA, starts; read without starting anything.

On Linux /proc/self/environ is the environment that the process was started with. A variable that is set now and was not
there is too late for whoever reads it at the start.
"""

from __future__ import annotations

import functools
import os
import sys

import torch

from detprobe.seeding import _report as status
from detprobe.seeding._flags import Changes
from detprobe.seeding._report import Setting

__all__ = ["CUBLAS", "cublas", "hash_seed", "ranks", "set_cublas", "threads"]

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_HASH = "PYTHONHASHSEED"
_FIXED_WORKSPACES = (":4096:8", ":16:8")
_LAUNCH = "start python with {name}={value} in the environment"


@functools.cache
def _at_start() -> dict[str, str] | None:
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    pairs = (entry.partition(b"=") for entry in entries if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def hash_seed(seed: int) -> Setting:
    """Whether the hashes of strings, and with them the order of sets, are the same in every process."""
    value = str(seed % 2**32)
    fix = f"`detprobe run`, or {_LAUNCH.format(name=_HASH, value=value)}"
    now, start = os.environ.get(_HASH), _at_start()
    if sys.flags.ignore_environment:
        return Setting(_HASH, "fixed", "ignored (python -E or -I)", status.RANDOM, "start python without -E and -I")
    if sys.flags.hash_randomization == 0:
        return Setting(_HASH, "fixed", "0", status.OK)
    if start is None:
        return Setting(_HASH, "fixed", f"{now or 'random'}, as far as can be told", status.UNSUPPORTED, fix)
    before = start.get(_HASH, "")
    if before not in ("", "random"):
        return Setting(_HASH, "fixed", before, status.OK)
    if now not in (None, "", "random"):
        return Setting(_HASH, "fixed", f"random ({now} was set after the start)", status.LATE, fix)
    return Setting(_HASH, "fixed", "random", status.RANDOM, fix)


def set_cublas(changes: Changes) -> None:
    """Ask cuBLAS for a fixed workspace where that still has an effect; never over what the user set."""
    if torch.version.cuda is not None and CUBLAS not in os.environ and not torch.cuda.is_initialized():
        changes.set_variable(CUBLAS, _FIXED_WORKSPACES[0])


def cublas(changes: Changes, *, requested: bool) -> Setting:
    """Whether cuBLAS repeats with several streams: it does with a workspace of a fixed size."""
    now, start = os.environ.get(CUBLAS), _at_start() or {}
    if not requested:
        return Setting(CUBLAS, "", now or "not set", status.NOT_REQUESTED)
    wanted = _FIXED_WORKSPACES[0]
    if torch.version.cuda is None:
        return Setting(CUBLAS, wanted, "this torch has no CUDA", status.UNSUPPORTED)
    fix = _LAUNCH.format(name=CUBLAS, value=wanted)
    if now is None:
        return Setting(CUBLAS, wanted, "not set, and CUDA has started", status.LATE, fix)
    if now not in _FIXED_WORKSPACES:
        return Setting(CUBLAS, wanted, f"{now}, set before", status.OVERRIDDEN, f"unset it, or {fix}")
    in_time = start.get(CUBLAS) == now or CUBLAS in changes.wanted or not torch.cuda.is_initialized()
    if not in_time:
        return Setting(CUBLAS, now, f"{now}, set after the start: CUDA may have started before", status.LATE, fix)
    return Setting(CUBLAS, now, now, status.OK)


def threads() -> list[Setting]:
    """How many threads share a sum; reported, never changed in a process that runs."""
    fix = "the last bits of sums may depend on it: start with OMP_NUM_THREADS=1 to fix it"
    return [Setting("threads", "", str(torch.get_num_threads()), status.NOT_REQUESTED, fix)]


def ranks() -> tuple[int, int]:
    """(rank, world size): of torch.distributed where it runs, else of the launcher's variables, else one process."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
