"""Where an op was called: the line of the user's code, and the module, for backward ops too.

Autograd numbers its nodes. Whenever the number has moved by the time of an op, the nodes made meanwhile belong to the
line that is running; in backward the current node's number leads back to that line. A node that autograd makes for
itself (gradient accumulation) has no number, and says so.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

import torch

__all__ = ["NOWHERE", "ModuleStack", "Place", "Places", "shown_path"]

ACCUMULATION = "(gradient accumulation)"

_USER, _LIBRARY, _OPTIMIZER, _CHECKPOINT, _OURS = range(5)
_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_SITE = tuple({sysconfig.get_paths()[name] + os.sep for name in ("purelib", "platlib")})
_kinds: dict[str, int] = {}


class Place(NamedTuple):
    """A call's place. `site` is the line that called a backward op, where that is user code of its own."""

    phase: str
    module: str
    location: str
    site: str = ""


NOWHERE = Place("", "", "")


class _Origin(NamedTuple):
    """What is remembered for an autograd node."""

    file: str
    line: int
    module: str


def _kind(file: str) -> int:
    kind = _kinds.get(file)
    if kind is None:
        if file.startswith(_HERE):
            kind = _OURS
        elif file.startswith(_TORCH):
            kind = _CHECKPOINT if file.endswith(os.path.join("utils", "checkpoint.py")) else _LIBRARY
            kind = _OPTIMIZER if file.startswith(_TORCH + "optim" + os.sep) else kind
        elif file.startswith("<frozen") or (file.startswith(_STDLIB) and not file.startswith(_SITE)):
            kind = _LIBRARY
        else:
            kind = _USER
        _kinds[file] = kind
    return kind


class _Stack(NamedTuple):
    """What a walk from the op outwards met before it came to the engine or the end."""

    user: tuple[str, int] | None
    """The innermost line of user code."""
    library: tuple[str, int] | None
    """The innermost line of torch's Python code, an optimizer's before any other."""
    below_engine: bool
    """`user` runs inside of the backward pass (a custom Function, a recomputed block)."""
    recomputed: bool
    """A checkpoint runs its forward again."""


def _walk(frame: FrameType | None, in_backward: bool) -> _Stack:
    library: tuple[str, int] | None = None
    below_engine = in_backward
    while frame is not None:
        code = frame.f_code
        kind = _kind(code.co_filename)
        if kind == _USER:
            recomputed = below_engine and _is_recomputed(frame.f_back)
            return _Stack((code.co_filename, frame.f_lineno), library, below_engine, recomputed)
        if kind in (_LIBRARY, _OPTIMIZER):
            if code.co_name == "_engine_run_backward":
                below_engine = False
            if library is None or (kind == _OPTIMIZER and _kind(library[0]) != _OPTIMIZER):
                library = (code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return _Stack(None, library, below_engine, False)


def _is_recomputed(frame: FrameType | None) -> bool:
    """True when a checkpoint stands between this frame and the engine."""
    while frame is not None:
        if _kind(frame.f_code.co_filename) == _CHECKPOINT:
            return True
        if frame.f_code.co_name == "_engine_run_backward":
            return False
        frame = frame.f_back
    return False


def shown_path(file: str) -> str:
    """A path that means the same on another machine: below the working folder, or below an import root."""
    for root in (os.getcwd() + os.sep, *sorted((p + os.sep for p in sys.path if p), key=len, reverse=True)):
        if file.startswith(root):
            return file[len(root) :].replace(os.sep, "/")
    return file


class Places:
    """The record of autograd nodes of one scan."""

    def __init__(self, modules: ModuleStack) -> None:
        self.phase = "forward"
        self._modules = modules
        self._main = threading.get_ident()
        self._seen: dict[int, int] = {}
        self._origins: dict[tuple[int, int], _Origin] = {}
        self._shown: dict[tuple[str, int], str] = {}

    def here(self, depth: int = 2) -> Place:
        """The place of the op that is being dispatched, `depth` frames up; remembers the autograd nodes made since."""
        node = torch._C._current_autograd_node()
        stack = _walk(sys._getframe(depth), node is not None)
        origin: _Origin | None
        site = ""
        if node is None:
            origin = self._forward(stack)
            phase = self.phase
        else:
            phase = "backward"
            inside = stack.user is not None and stack.below_engine
            if inside and stack.recomputed:
                origin = self._forward(stack)
            else:
                origin = self._of(node)
                if inside and stack.user is not None:
                    site = self._show(*stack.user)
                    origin = origin or _Origin(*stack.user, "")
        self._remember(origin)
        if origin is None:
            return Place(phase, "", ACCUMULATION if node is not None and "AccumulateGrad" in node.name() else "", site)
        location = self._show(origin.file, origin.line)
        return Place(phase, origin.module, location, "" if site == location else site)

    def _forward(self, stack: _Stack) -> _Origin | None:
        at = stack.user or stack.library
        if self.phase == "optimizer" and stack.library is not None and _kind(stack.library[0]) == _OPTIMIZER:
            at = stack.library  # torch's own: the user's line is the one that called the scan
        if self.phase == "backward":
            at = stack.user  # the engine's own start: only user code would be a place
        return None if at is None else _Origin(*at, self._modules.path())

    def _of(self, node: Any) -> _Origin | None:
        number = node._sequence_nr()
        thread = threading.get_ident()
        return self._origins.get((thread, number)) or self._origins.get((self._main, number))

    def _remember(self, origin: _Origin | None) -> None:
        """Give the nodes that were made since the last op to the line that is running."""
        thread = threading.get_ident()
        now = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
        last = self._seen.get(thread, now - 1)
        if now != last:
            self._seen[thread] = now
            if origin is not None:
                for number in range(last, now):
                    self._origins[thread, number] = origin

    def _show(self, file: str, line: int) -> str:
        shown = self._shown.get((file, line))
        if shown is None:
            shown = self._shown[file, line] = f"{shown_path(file)}:{line}"
        return shown


class ModuleStack:
    """The modules whose forward is running, by dotted path; per thread. Uses torch's global hooks while it is open."""

    def __init__(self, roots: list[tuple[str, torch.nn.Module]], adopt: Callable[[torch.nn.Module], None]) -> None:
        self._paths: dict[int, str] = {}
        self._keep: list[torch.nn.Module] = []
        self._adopt = adopt
        self._local = threading.local()
        self._handles: list[Any] = []
        for prefix, root in roots:
            self._name(root, prefix)

    def _name(self, root: torch.nn.Module, prefix: str) -> None:
        for path, module in root.named_modules():
            if id(module) not in self._paths:
                self._paths[id(module)] = ".".join(part for part in (prefix, path) if part)
                self._keep.append(module)  # ids stay taken

    def path(self) -> str:
        stack = getattr(self._local, "stack", None)
        return self._paths[id(stack[-1])] if stack else ""

    def _enter(self, module: torch.nn.Module, args: Any) -> None:
        stack = self._local.__dict__.setdefault("stack", [])
        if id(module) not in self._paths:
            parent = self._paths[id(stack[-1])] if stack else ""
            self._name(module, ".".join(part for part in (parent, type(module).__name__) if part))
            self._adopt(module)
        stack.append(module)

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        stack = self._local.__dict__.get("stack", [])
        while stack and stack.pop() is not module:
            pass  # a module that raised, in code that caught it

    def __enter__(self) -> ModuleStack:
        hooks = torch.nn.modules.module
        self._handles = [
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
