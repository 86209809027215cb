"""Everything of the user's that a scan can touch, kept and put back bit for bit, whatever the model raised.

Tensor contents are kept when they are first written, not before: `Undo` sees every write of a dispatched op and copies
memory that is older than the scan. Small tensors that are no parameters (counters, running statistics) are copied at
the start as well: they are what models write behind the dispatcher's back, through numpy or from a thread. Everything
else (gradients, attributes, dictionaries, generators, flags, the thread count) is small and is kept at the start.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from detprobe.scanning._flags import Flags
from detprobe.scanning._freeze import storage_bytes, written_by
from detprobe.scanning._generators import ProcessGenerators
from detprobe.scanning._keep import Kept
from detprobe.scanning._reach import reached
from detprobe.scanning._schema import OpFacts
from detprobe.scanning._tree import is_plain

__all__ = ["State", "Undo"]

_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_SMALL = 1 << 20  # bytes of a storage that is copied at the start


class Undo:
    """The bytes of memory that is older than the scan, from before an op first wrote it."""

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._saved: dict[int, tuple[torch.UntypedStorage, torch.Tensor]] = {}
        self._parts: list[tuple[torch.UntypedStorage, int, torch.Tensor]] = []

    def made(self, values: Iterable[Any]) -> None:
        """The scanned step made the memory of the tensors among these: nobody wants it back."""
        for value in values:
            if isinstance(value, torch.Tensor) and is_plain(value):
                self._new.add(value.untyped_storage()._cdata)

    def protect(self, tensor: torch.Tensor) -> None:
        """To be called before an op writes `tensor`."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._new and key not in self._saved:
            self._saved[key] = (storage, storage_bytes(storage).clone())

    def protect_written(self, facts: OpFacts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """To be called before every op that writes an argument."""
        for tensor in written_by(facts, args, kwargs):
            if is_plain(tensor):
                self.protect(tensor)

    def was(self, storage: torch.UntypedStorage, start: int, saved: torch.Tensor) -> None:
        """These bytes stood in the storage before an op wrote there without saying so."""
        if storage._cdata not in self._new and storage._cdata not in self._saved:
            self._parts.append((storage, start, saved))

    def restore(self) -> None:
        for storage, start, saved in reversed(self._parts):
            storage_bytes(storage, start, start + saved.numel()).copy_(saved)
        for storage, saved in self._saved.values():
            if storage.nbytes() != saved.numel():
                storage.resize_(saved.numel())
            storage_bytes(storage).copy_(saved)


class _Tensor:
    """One tensor of the user's: which memory it shows and how, its history and its gradient."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self._alias = tensor.detach()
        self._leaf = tensor.is_leaf
        self._gradient = tensor.grad if self._leaf or tensor.retains_grad else None
        self._requires_grad = tensor.requires_grad
        self._hooks = {name: dict(getattr(tensor, name) or {}) for name in _HOOKS}

    def restore(self) -> None:
        tensor = self.tensor
        if self._leaf and not tensor.is_leaf:
            self._forget_history()
        if self._moved():
            tensor.data = self._alias
        if tensor.is_leaf and tensor.requires_grad != self._requires_grad:
            tensor.requires_grad_(self._requires_grad)
        if (tensor.is_leaf or tensor.retains_grad) and tensor.grad is not self._gradient:
            tensor.grad = self._gradient
        for name, hooks in self._hooks.items():
            now = getattr(tensor, name)
            if now is not None and dict(now) != hooks:
                now.clear()  # in place: autograd holds this very dictionary
                now.update(hooks)

    def _moved(self) -> bool:
        tensor, alias = self.tensor, self._alias
        return (
            tensor.data_ptr() != alias.data_ptr()
            or tensor.shape != alias.shape
            or tensor.stride() != alias.stride()
            or tensor.dtype != alias.dtype
        )

    def _forget_history(self) -> None:
        """An op of the step with something that requires a gradient has written here."""
        base = self.tensor._base
        if base is None:
            self.tensor.detach_()
            return
        if not base.is_leaf:
            base.detach_()
        torch.utils.swap_tensors(self.tensor, self._alias.detach())  # torch detaches no view in place


class State:
    """What the user had. Make it before anything runs; `restore` may be called more than once."""

    def __init__(self, *roots: Any) -> None:
        self.undo = Undo()
        self._kept = Kept()
        self._known: dict[int, Any] = {}
        self._tensors: dict[int, _Tensor] = {}
        self._sparse: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._generators = ProcessGenerators()
        self._flags = Flags()
        for name, hooks in vars(torch.nn.modules.module).items():
            if name.startswith("_global_") and isinstance(hooks, dict):
                self._kept.keep(hooks)
        for root in roots:
            self.adopt(root)

    def adopt(self, root: Any) -> None:
        """Keep an object and all that it reaches. Called again for modules and generators that turn up late."""
        if id(root) in self._known:
            return
        for item in reached(root):
            if id(item) in self._known:
                continue
            self._known[id(item)] = item
            if isinstance(item, torch.Tensor):
                self._keep_tensor(item)
            else:
                self._kept.keep(item)

    def leaves(self) -> list[torch.Tensor]:
        """The kept tensors that collect a gradient."""
        tensors = (kept.tensor for kept in self._tensors.values())
        return [t for t in tensors if t.is_leaf and t.requires_grad]

    def keep_leaves_of(self, outputs: Iterable[torch.Tensor]) -> None:
        """Keep the gradients of leaves that only the graph knows."""
        todo = [t.grad_fn for t in outputs if t.grad_fn is not None]
        seen = set(todo)
        while todo:
            node = todo.pop()
            if (leaf := getattr(node, "variable", None)) is not None:
                self._keep_tensor(leaf)
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    todo.append(following)

    def _keep_tensor(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self._tensors:
            return
        if is_plain(tensor):
            self._tensors[id(tensor)] = _Tensor(tensor)
            if not isinstance(tensor, torch.nn.Parameter) and tensor.untyped_storage().nbytes() <= _SMALL:
                self.undo.protect(tensor)
        elif tensor.layout is torch.sparse_coo:
            self._sparse.append((tensor, tensor.detach().clone()))

    def restore(self) -> None:
        """Put everything back. What failed first is raised at the end; the rest is restored all the same."""
        problems = _run_all(self._flags.restores())
        contents: list[Callable[[], Any]] = [self.undo.restore, self._kept.restore]
        contents += [kept.restore for kept in self._tensors.values()]
        contents += [functools.partial(now.copy_, then) for now, then in self._sparse]
        contents.append(self._generators.restore)
        with torch.no_grad():
            problems += _run_all(contents)
        if problems:
            raise problems[0]


def _run_all(steps: Iterable[Callable[[], Any]]) -> list[Exception]:
    problems = []
    for step in steps:
        try:
            step()
        except Exception as error:
            problems.append(error)
    return problems
