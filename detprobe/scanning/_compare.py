"""Compare the results of two runs of one op, bit for bit.

On the CPU the answer is there at once. On CUDA each comparison writes its counters on the device and nothing waits:
they are read together when the pass is over (`Deferred`).
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import torch

from detprobe import bits

__all__ = ["Deferred", "Measure", "difference", "fingerprint", "on_cuda", "unlike"]


class Measure(NamedTuple):
    """How two results differ."""

    changed: float
    """Share of the elements of the tensors that differ, 0 to 1."""
    max_ulp: int | None
    max_abs: float | None

    def worst(self, other: Measure | None) -> Measure:
        if other is None:
            return self
        return Measure(
            max(self.changed, other.changed),
            _largest(self.max_ulp, other.max_ulp),
            _largest(self.max_abs, other.max_abs),
        )


_ALL = Measure(1.0, None, None)


def _largest(a: Any, b: Any) -> Any:
    return b if a is None else (a if b is None else max(a, b))


_compare_bits = bits.compare_into
_records = torch.zeros((1, bits.RECORD_WIDTH), dtype=torch.int64, device="cpu")
_record = _records.numpy()[0]


def on_cuda(results: list[Any]) -> bool:
    return any(isinstance(value, torch.Tensor) and value.is_cuda for value in results)


def difference(a: list[Any], b: list[Any]) -> Measure | None:
    """How two runs' results differ; None when every bit agrees. Waits for the device where it must."""
    if len(a) != len(b):
        return _ALL
    changed = total = 0
    worst: Measure | None = None
    for left, right in zip(a, b, strict=True):
        if not isinstance(left, torch.Tensor):
            if not _same_value(left, right):
                worst = _ALL.worst(worst)
            continue
        if unlike(left, right):
            worst = _ALL.worst(worst)
            continue
        if left.is_cuda:
            records = torch.zeros((1, bits.RECORD_WIDTH), dtype=torch.int64, device=left.device)
            _compare_bits(left, right, records, 0)
            row = records.cpu().numpy()[0]
        else:
            _compare_bits(left, right, _records, 0)
            row = _record
        if row[0]:
            changed += int(row[0])
            total += left.numel()
            worst = _read(row, left.shape).worst(worst)
    return worst if not total or worst is None else worst._replace(changed=max(changed / total, 0.0))


def unlike(a: Any, b: Any) -> bool:
    """True when two values cannot be compared element by element: another type, shape or device."""
    return not (isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and a.device == b.device)


def _read(row: Any, shape: torch.Size) -> Measure:
    found = bits.read_record(row, shape)
    return Measure(found.share, found.max_ulp, found.max_abs)


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex) and isinstance(b, complex):
        return _same_value(a.real, b.real) and _same_value(a.imag, b.imag)
    return type(a) is type(b) and bool(a == b)


def fingerprint(results: list[Any]) -> tuple[Any, ...]:
    """Equal exactly when two runs' results are (up to a 128-bit digest). Waits for the device."""
    return tuple(bits.digest(value) if isinstance(value, torch.Tensor) else repr(value) for value in results)


class Deferred:
    """Comparisons on CUDA whose counters are read once, after the pass."""

    _CHUNK = 16384

    def __init__(self) -> None:
        self._chunks: dict[torch.device, list[torch.Tensor]] = {}
        self._used: dict[torch.device, int] = {}
        self._rows: list[tuple[Any, torch.device, int, torch.Size]] = []
        self._plain: dict[Any, Measure] = {}

    def add(self, key: Any, a: list[Any], b: list[Any]) -> None:
        """Compare two runs' results under `key`, without waiting."""
        for left, right in zip(a, b, strict=False):
            if isinstance(left, torch.Tensor) and not unlike(left, right):
                chunk, row = self._slot(left.device)
                _compare_bits(left, right, chunk, row % self._CHUNK)
                self._rows.append((key, left.device, row, left.shape))
            elif (measure := difference([left], [right])) is not None:
                self._plain[key] = measure.worst(self._plain.get(key))
        if len(a) != len(b):
            self._plain[key] = _ALL

    def _slot(self, device: torch.device) -> tuple[torch.Tensor, int]:
        row = self._used.get(device, 0)
        self._used[device] = row + 1
        chunks = self._chunks.setdefault(device, [])
        if row // self._CHUNK == len(chunks):
            chunks.append(torch.zeros((self._CHUNK, bits.RECORD_WIDTH), dtype=torch.int64, device=device))
        return chunks[-1], row

    def read(self) -> dict[Any, Measure]:
        """The largest difference per key, for the keys that differ at all. Waits for the devices, once."""
        host = {device: np.concatenate([c.cpu().numpy() for c in chunks]) for device, chunks in self._chunks.items()}
        found = dict(self._plain)
        for key, device, row, shape in self._rows:
            if host[device][row][0]:
                found[key] = _read(host[device][row], shape).worst(found.get(key))
        return found
