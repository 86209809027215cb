"""Everything of the user's that a scan can touch, kept and put back bit for bit, whatever the model raised.

Tensor contents are kept when they are first written, not before: `Undo` sees every write of a dispatched op and copies
memory that is older than the scan. Everything else (gradients, modules' attributes, the optimizer's dictionaries,
generators, flags, the thread count) is small and is kept at the start.
"""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from detprobe.scanning._freeze import storage_bytes, written_by
from detprobe.scanning._generators import ProcessGenerators
from detprobe.scanning._schema import OpFacts

__all__ = ["State", "Undo"]

_DEPTH = 8  # containers inside containers: an optimizer's state needs three
_LARGE = 10_000  # a longer list holds data, not structure


class Undo:
    """The bytes of memory that is older than the scan, from before an op first wrote it."""

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._saved: dict[int, tuple[torch.UntypedStorage, torch.Tensor]] = {}
        self._parts: list[tuple[torch.UntypedStorage, int, torch.Tensor]] = []

    def made(self, values: Iterable[Any]) -> None:
        """The scanned step made the memory of the tensors among these: nobody wants it back."""
        for value in values:
            if isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_meta:
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
            if tensor.layout is torch.strided and not tensor.is_meta:
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


class _Containers:
    """Plain dicts, lists, sets and deques reachable from one another: their entries, put back in place."""

    def __init__(self) -> None:
        self._saved: dict[int, tuple[Any, Any]] = {}
        self._generators: dict[int, tuple[Any, Any]] = {}

    def keep(self, value: Any, depth: int = _DEPTH) -> None:
        if isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
            self._keep_generator(value)
        if not isinstance(value, dict | list | set | deque | tuple) or id(value) in self._saved or depth == 0:
            return
        if not isinstance(value, tuple):
            self._saved[id(value)] = (value, value.copy())
        if len(value) <= _LARGE:
            for item in value.values() if isinstance(value, dict) else value:
                self.keep(item, depth - 1)

    def _keep_generator(self, value: Any) -> None:
        if id(value) in self._generators:
            return
        if isinstance(value, torch.Generator):
            saved: Any = value.get_state()
        elif isinstance(value, np.random.Generator):
            saved = value.bit_generator.state
        elif isinstance(value, np.random.RandomState):
            saved = value.get_state()
        else:
            saved = value.getstate()
        self._generators[id(value)] = (value, saved)

    def restore(self) -> None:
        for value, saved in self._saved.values():
            if isinstance(value, list):
                value[:] = saved
            elif not _same_entries(value, saved):
                value.clear()
                value.extend(saved) if isinstance(value, deque) else value.update(saved)
        for value, saved in self._generators.values():
            if isinstance(value, torch.Generator):
                value.set_state(saved)
            elif isinstance(value, np.random.Generator):
                value.bit_generator.state = saved
            elif isinstance(value, np.random.RandomState):
                value.set_state(saved)
            else:
                value.setstate(saved)


def _same_entries(value: Any, saved: Any) -> bool:
    """The same objects in the same order; nothing is compared by value, which tensors do not allow."""
    if len(value) != len(saved):
        return False
    if isinstance(value, dict):
        pairs = zip(value.items(), saved.items(), strict=True)
        return all(a is c and b is d for (a, b), (c, d) in pairs)
    return all(a is b for a, b in zip(value, saved, strict=True))


class State:
    """What the user had. Make it before anything runs; `restore` may be called more than once."""

    def __init__(self, modules: Iterable[torch.nn.Module], tensors: Iterable[torch.Tensor], optimizer: Any) -> None:
        self.undo = Undo()
        self._containers = _Containers()
        self._objects: dict[int, Any] = {}
        self._tensors: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool]] = {}
        self._generators = ProcessGenerators()
        self._flags = [(write, read()) for read, write in _flags()]
        self._threads = torch.get_num_threads()
        for module in modules:
            self.adopt(module)
        for tensor in tensors:
            self._keep_tensor(tensor)
        if optimizer is not None:
            self._objects[id(optimizer)] = optimizer
            self._containers.keep(optimizer.__dict__)
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    self._keep_tensor(parameter)

    def adopt(self, module: torch.nn.Module) -> None:
        """Keep a module and what it owns. Called for modules that turn up late before they run."""
        for child in module.modules():
            if id(child) in self._objects:
                continue
            self._objects[id(child)] = child
            self._containers.keep(child.__dict__)
            for tensor in (*child._parameters.values(), *child._buffers.values()):
                if tensor is not None:
                    self._keep_tensor(tensor)

    def adopt_generator(self, generator: torch.Generator) -> None:
        """Keep a generator of the user's that an op is about to draw from."""
        self._containers.keep(generator)

    def leaves(self) -> list[torch.Tensor]:
        """The kept tensors that collect a gradient."""
        return [t for t, *_ in self._tensors.values() if t.is_leaf and t.requires_grad]

    def keep_leaves_of(self, outputs: Iterable[torch.Tensor]) -> None:
        """Keep the gradients of leaves that only the graph knows (tensors in a closure)."""
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
        if id(tensor) not in self._tensors and tensor.layout is torch.strided:
            alias = tensor.detach()
            gradient = tensor.grad if tensor.is_leaf else None
            self._tensors[id(tensor)] = (tensor, alias, gradient, tensor.requires_grad)

    def restore(self) -> None:
        """Put everything back. What failed first is raised at the end; the rest is restored all the same."""
        steps: list[Callable[[], None]] = [self.undo.restore, self._containers.restore, self._restore_tensors]
        steps += [functools.partial(write, value) for write, value in self._flags]
        steps += [self._restore_threads, self._generators.restore]
        problem: Exception | None = None
        for step in steps:
            try:
                step()
            except Exception as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def _restore_tensors(self) -> None:
        for tensor, alias, gradient, requires_grad in self._tensors.values():
            moved = (
                tensor.data_ptr() != alias.data_ptr()
                or tensor.shape != alias.shape
                or tensor.stride() != alias.stride()
                or tensor.dtype != alias.dtype
            )
            if moved:
                tensor.data = alias
            if tensor.is_leaf:
                if tensor.grad is not gradient:
                    tensor.grad = gradient
                if tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)

    def _restore_threads(self) -> None:
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)


def _flags() -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """(read, write) of every global setting that a model may change while it runs."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    pairs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = [
        (_read_deterministic, _write_deterministic),
        (torch.is_grad_enabled, _write_grad),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.is_anomaly_enabled, lambda value: torch.set_anomaly_enabled(value)),
        (_read_autocast, _write_autocast),
    ]
    attributes = [
        (torch.utils.deterministic, "fill_uninitialized_memory"),
        (cudnn, "enabled"),
        (cudnn, "benchmark"),
        (cudnn, "deterministic"),
        (cudnn, "allow_tf32"),
        (matmul, "allow_tf32"),
        (matmul, "allow_fp16_reduced_precision_reduction"),
        (matmul, "allow_bf16_reduced_precision_reduction"),
        (torch.backends.mkldnn, "enabled"),
    ]
    for owner, name in attributes:
        try:
            getattr(owner, name)
        except (AttributeError, RuntimeError):  # reading one TF32 flag raises after another one was written
            continue
        pairs.append((functools.partial(getattr, owner, name), functools.partial(_write_attribute, owner, name)))
    return pairs


def _write_attribute(owner: Any, name: str, value: Any) -> None:
    if getattr(owner, name) != value:
        setattr(owner, name, value)


def _read_deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _write_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _write_grad(value: bool) -> None:
    torch.set_grad_enabled(value)


def _read_autocast() -> list[tuple[str, bool, torch.dtype]]:
    return [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")]


def _write_autocast(value: list[tuple[str, bool, torch.dtype]]) -> None:
    for device, enabled, dtype in value:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
