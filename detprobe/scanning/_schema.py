"""What an op's schema says that replay needs, worked out once per op.

Which arguments it writes, whether it may draw from a generator, whether it computes anything at all, and whether it
must not be run twice. Schemas and tags are a hint for how to replay; what an op *does* is judged from its bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["ALLOCATES", "COMPUTES", "NO_DATA", "UNREPLAYED", "OpFacts", "facts_of"]

COMPUTES = "computes"
NO_DATA = "no data"  # views and bookkeeping: nothing is computed, so nothing can differ
ALLOCATES = "allocates"  # returns bytes that nobody wrote
UNREPLAYED = "unreplayed"

_ALLOCATORS = frozenset(
    f"aten::{name}"
    for name in (
        "empty empty_like empty_strided empty_permuted empty_quantized new_empty new_empty_strided "
        "_empty_affine_quantized _empty_per_channel_affine_quantized resize_ resize_as_"
    ).split()
)

# Data does not pass through these, although the schema does not say so.
_NO_DATA = frozenset(("aten::_unsafe_view", "aten::lift_fresh", "aten::_local_scalar_dense", "aten::is_same_size"))

# A second run would be seen outside of the process, or leaves the op's own arguments in another state.
_TALKS = {
    "c10d": "talks to other processes",
    "_c10d_functional": "talks to other processes",
    "_c10d_functional_autograd": "talks to other processes",
    "c10d_functional": "talks to other processes",
    "symm_mem": "talks to other processes",
    "rpc": "talks to other processes",
}
_NOT_TWICE = {
    "aten::set_": "swaps the storage of its argument",
    "aten::set_data": "swaps the storage of its argument",
    "aten::record_stream": "talks to the allocator",
    "aten::_resize_output_": "changes the storage of its argument",
}

# Library workspaces, and seeds that a kernel leaves unwritten when it draws nothing: bytes in no documented format, for
# the library's own backward. They are not results. (Position among the fresh values that the op returns.)
_OPAQUE = {
    "aten::mkldnn_rnn_layer": (3,),
    "aten::_cudnn_rnn": (3,),
    "aten::miopen_rnn": (3,),
    "aten::cudnn_batch_norm": (3,),
    "aten::_batch_norm_with_update": (3,),
    "aten::_scaled_dot_product_flash_attention": (6, 7, 8),
    "aten::_scaled_dot_product_cudnn_attention": (6, 7, 8),
    "aten::_scaled_dot_product_efficient_attention": (1, 2, 3),  # 1: log-sum-exp, padded with unwritten bytes
    "aten::_flash_attention_forward": (2, 3, 4),
    "aten::_efficient_attention_forward": (1, 2, 3),
}


@dataclass(frozen=True, slots=True)
class OpFacts:
    """One overload, as replay sees it."""

    name: str
    """Without the overload: "aten::index_put"."""
    kind: str
    """COMPUTES, NO_DATA, ALLOCATES or UNREPLAYED."""
    reason: str
    """For every kind but COMPUTES: why."""
    written: tuple[tuple[int, str], ...]
    """Position and name of each argument that the op writes."""
    fresh_returns: tuple[bool, ...]
    """For each return: True where it is a new tensor, False where it is a written argument coming back."""
    draws: bool
    """May draw from a generator."""
    native: bool
    """Comes with torch; other ops may draw from any generator of the process without saying so."""
    opaque: frozenset[int]
    """Fresh returns that are no results."""


_cache: dict[Any, OpFacts] = {}


def facts_of(op: Any) -> OpFacts:
    """The facts of an `OpOverload` (cached)."""
    facts = _cache.get(op)
    if facts is None:
        facts = _cache[op] = _read(op)
    return facts


def _read(op: Any) -> OpFacts:
    schema = op._schema
    name = schema.name
    namespace = name.split("::")[0]
    written = tuple(
        (position, argument.name)
        for position, argument in enumerate(schema.arguments)
        if (argument.alias_info is not None and argument.alias_info.is_write)
        # native_batch_norm and its kin update these, and their schemas do not say so.
        or (argument.name in ("running_mean", "running_var") and not name.endswith("backward"))
    )
    kind, reason = _kind(name, namespace, schema, bool(written), op.tags)
    takes_generator = any("Generator" in str(argument.type) for argument in schema.arguments)
    return OpFacts(
        name=name,
        kind=kind,
        reason=reason,
        written=written,
        fresh_returns=tuple(value.alias_info is None for value in schema.returns),
        draws=takes_generator or torch.Tag.nondeterministic_seeded in op.tags,
        native=namespace in ("aten", "prims", "quantized", "mkldnn"),
        opaque=frozenset(_OPAQUE.get(name, ())),
    )


def _kind(name: str, namespace: str, schema: Any, writes: bool, tags: Any) -> tuple[str, str]:
    if namespace in _TALKS:
        return UNREPLAYED, _TALKS[namespace]
    if name in _NOT_TWICE:
        return UNREPLAYED, _NOT_TWICE[name]
    if name in _ALLOCATORS:
        return ALLOCATES, "allocates: nobody wrote its bytes yet"
    if torch.Tag.inplace_view in tags:
        return NO_DATA, "changes the shape of its argument: computes nothing"
    if namespace == "profiler" or name in _NO_DATA:
        return NO_DATA, "computes nothing"
    if not schema.returns and not writes:
        return UNREPLAYED, "returns nothing and says it writes nothing: it can only have an effect elsewhere"
    if any(value.alias_info is not None and not value.alias_info.is_write for value in schema.returns):
        return NO_DATA, "a view: computes nothing"
    return COMPUTES, ""
