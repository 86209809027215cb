"""The flags and variables that leave kernels a choice: set on request, compared when a report is asked for, undone.

Nothing of torch is patched to learn who changed a flag: a report compares, and names the lines of loaded modules that
assign it. They are where to look: other code, in C++ or behind setattr, may have done it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detprobe.seeding import _report as status
from detprobe.seeding._report import Setting

__all__ = ["FLAGS", "Changes", "Flag", "read"]

_MIXED = "unreadable: set by torch's old and new API both"


@dataclass(frozen=True)
class Flag:
    """A flag of torch: how to read and write it, what a deterministic mode wants, and what an assignment looks like."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], Any]
    wanted: Any
    pattern: str


def _attribute(path: str, wanted: Any = None) -> Flag:
    """A flag that is an attribute, torch.backends.cudnn.benchmark."""
    home, _, name = path.rpartition(".")

    def owner() -> Any:
        found: Any = torch
        for part in home.split("."):
            found = getattr(found, part)
        return found

    last = home.rpartition(".")[2]
    pattern = rf"\b{last}\.{name}\s*=(?!=)"
    shown = path.removeprefix("backends.").removeprefix("utils.deterministic.")
    return Flag(shown, lambda: getattr(owner(), name), lambda value: setattr(owner(), name, value), wanted, pattern)


def _algorithms() -> str:
    return ("off", "warn", "error")[int(torch.get_deterministic_debug_mode())]


def _set_algorithms(name: str) -> None:
    torch.use_deterministic_algorithms(name != "off", warn_only=name == "warn")


ALGORITHMS = Flag(
    "deterministic_algorithms",
    _algorithms,
    _set_algorithms,
    None,  # "warn" or "error", the mode itself
    r"\b(use_deterministic_algorithms|set_deterministic_debug_mode|_set_deterministic_algorithms)\(",
)

FLAGS = (
    _attribute("utils.deterministic.fill_uninitialized_memory", True),
    _attribute("backends.cudnn.deterministic", True),
    _attribute("backends.cudnn.benchmark", False),
    _attribute("backends.mkldnn.deterministic", True),
)

# Precision, not repeatability: they change the numbers, the same way every time.
TF32 = (_attribute("backends.cuda.matmul.allow_tf32"), _attribute("backends.cudnn.allow_tf32"))
PRECISION = (
    *TF32,
    _attribute("backends.cuda.matmul.fp32_precision"),
    _attribute("backends.cudnn.conv.fp32_precision"),
    _attribute("backends.mkldnn.matmul.fp32_precision"),
    Flag(
        "float32_matmul_precision",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        None,
        r"\bset_float32_matmul_precision\(",
    ),
    _attribute("backends.cuda.matmul.allow_fp16_reduced_precision_reduction"),
    _attribute("backends.cuda.matmul.allow_bf16_reduced_precision_reduction"),
)


def read(flag: Flag) -> tuple[bool, Any]:
    """Whether it can be read, and its value or the reason. torch raises on one API's question about the other's."""
    try:
        return True, flag.get()
    except AttributeError:
        return False, "not in this torch"
    except RuntimeError:
        return False, _MIXED


class Changes:
    """What this run set, what was there before, and how to put it back."""

    def __init__(self) -> None:
        self.wanted: dict[str, Any] = {}
        self._undo: list[Callable[[], Any]] = []

    def set_flag(self, flag: Flag, value: Any) -> None:
        """Set it and remember what was there; where it cannot be read it is left alone."""
        readable, before = read(flag)
        self.wanted[flag.name] = value
        if not readable:
            return
        if before != value:
            flag.set(value)
        self._undo.append(lambda: flag.set(before))

    def set_variable(self, name: str, value: str) -> None:
        """Set a variable that is not set."""
        os.environ[name] = value
        self.wanted[name] = value
        self._undo.append(lambda: os.environ.pop(name, None))

    def undo(self) -> None:
        """Put everything back, last first; a second call does nothing."""
        while self._undo:
            self._undo.pop()()
        self.wanted.clear()

    def row(self, flag: Flag) -> Setting:
        """What became of a flag."""
        readable, now = read(flag)
        shown = _shown(now)
        if flag.name not in self.wanted:
            return Setting(flag.name, "", shown, status.NOT_REQUESTED)
        wanted = self.wanted[flag.name]
        if not readable:
            return Setting(flag.name, _shown(wanted), shown, status.UNSUPPORTED)
        if now == wanted:
            return Setting(flag.name, _shown(wanted), shown, status.OK)
        return Setting(flag.name, _shown(wanted), shown, status.OVERRIDDEN, _who(flag))


def _shown(value: Any) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


def _who(flag: Flag) -> str:
    """The lines of loaded modules that set the flag, as far as source tells."""
    places = list(_assignments(flag.pattern))
    if not places:
        return "set since by code whose source is not at hand: seed after it, or set it again"
    if len(places) == 1:
        return f"set at {places[0]}, the only line found in the loaded sources: seed after it, or remove it"
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"lines that set it: {', '.join(places[:3])}{more}: seed after it, or remove it"


def _assignments(pattern: str) -> Iterator[str]:
    expression = re.compile(pattern)
    own = (str(Path(torch.__file__).parent), str(Path(__file__).parent), str(Path(re.__file__).parents[1]) + os.sep)
    packages = str(Path(torch.__file__).parents[1])  # may lie below the standard library, and is not part of it
    files = dict.fromkeys(getattr(module, "__file__", None) for module in list(sys.modules.values()))
    for file in files:  # each once: a script is __main__, and __mp_main__
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        if file.startswith(own[:2]) or (file.startswith(own[2]) and not file.startswith(packages)):
            continue
        try:
            lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            if expression.search(line) and not line.lstrip().startswith("#"):
                yield f"{Path(file).name}:{number}"
