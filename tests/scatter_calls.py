"""One call of each public op of the scatter family that has a gradient: what the tests of all of them share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from op_cases import Case
from torch import Tensor

from detprobe import ops

SIZE, N, D = 5, 7, 3
INDEX = torch.tensor([4, 1, 1, 0, 4, 1, 3])  # [7] into 5: one is never named, one three times
SOME = torch.tensor([4, -1, 1, 0, -4, 1])
PLACES = torch.tensor([[0, 4], [1, 1], [1, 0], [3, 4]])  # fewer rows and columns than src has
PAIR = (torch.tensor([[1, 0], [-1, 1]]), torch.tensor([2, 0]))  # they broadcast to [2, 2]
MASK = torch.tensor([True, False, True, True, False])
OFFSETS = torch.tensor([1, 3, 3, 6])  # of 7 records two belong to no segment
LENGTHS = torch.tensor([2, 0, 4, 1])
BAGS = torch.tensor([0, 2, 2, 7])  # three of them with include_last_offset
X, S, R = (SIZE, D), (N, D), (N,)
REDUCES = ("sum", "prod", "mean", "amax", "amin")


def plan() -> ops.IndexPlan:
    return ops.index_plan(INDEX, SIZE)


def rows(src: Tensor) -> Tensor:
    return INDEX.unsqueeze(1).expand_as(src)


def reduce_case(reduce: str, include_self: bool) -> Case:
    return Case(
        f"scatter_reduce, {reduce}{'' if include_self else ', without self'}",
        (X, S),
        lambda x, s: ops.scatter_reduce(x, 0, rows(s), s, reduce, include_self=include_self),
        lambda x, s: torch.scatter_reduce(x, 0, rows(s), s, reduce, include_self=include_self),
        "scatter_reduce",
    )


def bag_case(mode: str, **options: object) -> Case:
    def ours(weight: Tensor, *samples: Tensor) -> Tensor:
        per_sample = samples[0] if samples else None
        return ops.embedding_bag(INDEX, weight, BAGS, mode=mode, per_sample_weights=per_sample, **options)

    def torchs(weight: Tensor, *samples: Tensor) -> Tensor:
        per_sample = samples[0] if samples else None
        return F.embedding_bag(INDEX, weight, BAGS, mode=mode, per_sample_weights=per_sample, **options)

    name = f"embedding_bag, {mode}" + "".join(f", {key}" for key in options)
    return Case(name, (X,), ours, torchs, "embedding_bag")


def weighed_bags(weight: Tensor, samples: Tensor) -> Tensor:
    return ops.embedding_bag(INDEX, weight, BAGS, mode="sum", per_sample_weights=samples, padding_idx=1)


SCATTER_CASES = [
    Case(
        "index_add",
        (X, S),
        lambda x, s: ops.index_add(x, 0, INDEX, s),
        lambda x, s: torch.index_add(x, 0, INDEX, s),
        "index_add",
    ),
    Case(
        "index_add, alpha",
        (X, S),
        lambda x, s: ops.index_add(x, 0, INDEX.int(), s, alpha=-0.7),
        lambda x, s: torch.index_add(x, 0, INDEX, s, alpha=-0.7),
        "index_add",
    ),
    Case(
        "index_add, last dim",
        ((D, SIZE), (D, N)),
        lambda x, s: ops.index_add(x, -1, INDEX, s),
        lambda x, s: torch.index_add(x, -1, INDEX, s),
        "index_add",
    ),
    Case(
        "index_add, plan",
        (X, S),
        lambda x, s: ops.index_add(x, 0, plan(), s),
        lambda x, s: torch.index_add(x, 0, INDEX, s),
        "index_add",
    ),
    Case(
        "scatter_add",
        (X, S),
        lambda x, s: ops.scatter_add(x, 0, rows(s), s),
        lambda x, s: torch.scatter_add(x, 0, rows(s), s),
        "scatter_reduce",
    ),
    Case(
        "scatter_add, plan",
        (X, S),
        lambda x, s: ops.scatter_add(x, 0, plan(), s),
        lambda x, s: torch.scatter_add(x, 0, rows(s), s),
        "index_add",
    ),
    *(reduce_case(reduce, include) for reduce in REDUCES for include in (True, False)),
    Case(
        "scatter_reduce, src beyond index",
        (X, S),
        lambda x, s: ops.scatter_reduce(x, 0, PLACES, s, "mean"),
        lambda x, s: torch.scatter_reduce(x, 0, PLACES, s[:4, :2], "mean"),
        "scatter_reduce",
    ),
    Case(
        "scatter_reduce, plan",
        (X, S),
        lambda x, s: ops.scatter_reduce(x, 0, plan(), s, "amax"),
        lambda x, s: torch.scatter_reduce(x, 0, rows(s), s, "amax"),
        "scatter_reduce",
    ),
    Case(
        "scatter",
        (X, (4, 2)),
        lambda x, s: ops.scatter(x, 1, PLACES.clamp(max=2)[:, :2], s),
        None,
        "scatter",
    ),
    Case(
        "index_copy",
        (X, S),
        lambda x, s: ops.index_copy(x, 0, INDEX, s),
        None,
        "index_copy",
    ),
    Case(
        "index_put",
        (X, (6,)),
        lambda x, v: ops.index_put(x, (SOME, torch.tensor(2)), v),
        None,
        "index_put",
    ),
    Case(
        "index_put, accumulate",
        (X, (6, D)),
        lambda x, v: ops.index_put(x, (SOME,), v, accumulate=True),
        lambda x, v: torch.index_put(x, (SOME,), v, accumulate=True),
        "index_put",
    ),
    Case(
        "index_put, broadcast",
        ((2, SIZE, D), (2, 1)),
        lambda x, v: ops.index_put(x, (None, SOME[:2], PAIR[1]), v, True),
        lambda x, v: torch.ops.aten.index_put(x, [None, SOME[:2], PAIR[1]], v, True),
        "index_put",
    ),
    Case(
        "index_put, mask",
        (X, (D,)),
        lambda x, v: ops.index_put(x, (MASK,), v),
        lambda x, v: torch.index_put(x, (MASK,), v),
        "index_put",
    ),
    Case("put", (X, (6,)), lambda x, v: ops.put(x, SOME, v), None, "put"),
    Case(
        "put, accumulate",
        (X, (6,)),
        lambda x, v: ops.put(x, SOME, v, accumulate=True),
        lambda x, v: torch.put(x, SOME, v, accumulate=True),
        "put",
    ),
    Case(
        "gather",
        (X,),
        lambda x: ops.gather(x, 0, PLACES),
        lambda x: torch.gather(x, 0, PLACES),
        "gather",
    ),
    Case(
        "gather, plan",
        (X,),
        lambda x: ops.gather(x, 0, plan()),
        lambda x: torch.index_select(x, 0, INDEX),
        "index_select",
    ),
    Case(
        "index_select",
        (X,),
        lambda x: ops.index_select(x, 0, INDEX),
        lambda x: torch.index_select(x, 0, INDEX),
        "index_select",
    ),
    Case("take", (X,), lambda x: ops.take(x, SOME), lambda x: torch.take(x, SOME), "take"),
    Case(
        "index",
        ((2, SIZE, D),),
        lambda x: ops.index(x, (None, PAIR[0], PAIR[1])),
        lambda x: x[:, PAIR[0], PAIR[1]],
        "index",
    ),
    Case(
        "index, apart, one is a number",
        ((SIZE, 2, D),),
        lambda x: ops.index(x, (SOME, None, torch.tensor(2))),
        lambda x: torch.ops.aten.index(x, [SOME, None, torch.tensor(2)]),
        "index",
    ),
    Case("index, mask", (X,), lambda x: ops.index(x, (MASK,)), lambda x: x[MASK], "index"),
    Case(
        "segment_sum",
        (S,),
        lambda x: ops.segment_sum(x, lengths=LENGTHS),
        lambda x: torch.segment_reduce(x, "sum", lengths=LENGTHS),
        "segment_reduce",
    ),
    Case(
        "segment_mean",
        (S,),
        lambda x: ops.segment_mean(x, lengths=LENGTHS + torch.tensor([-1, 1, 0, 0])),
        lambda x: torch.segment_reduce(x, "mean", lengths=LENGTHS + torch.tensor([-1, 1, 0, 0])),
        "segment_reduce",
    ),
    Case(
        "segment_max",
        (S,),
        lambda x: ops.segment_max(x, offsets=torch.tensor([0, 3, 7])),
        lambda x: torch.segment_reduce(x, "max", lengths=torch.tensor([3, 4])),
        "segment_reduce",
    ),
    Case(
        "segment_sum, records in none",
        (S,),
        lambda x: ops.segment_sum(x, offsets=OFFSETS.int()),
        lambda x: torch.segment_reduce(x[1:6], "sum", lengths=OFFSETS.diff()),
        "segment_reduce",
    ),
    Case(
        "embedding",
        (X,),
        lambda w: ops.embedding(PAIR[0].abs(), w, padding_idx=-5),
        lambda w: F.embedding(PAIR[0].abs(), w, padding_idx=-5),
        "embedding",
    ),
    Case(
        "embedding, by frequency, plan",
        (X,),
        lambda w: ops.embedding(plan(), w, padding_idx=4, scale_grad_by_freq=True),
        None,
        "embedding",
    ),
    *(bag_case(mode) for mode in ("sum", "mean", "max")),
    *(bag_case(mode, padding_idx=1, include_last_offset=True) for mode in ("sum", "mean", "max")),
    Case(
        "embedding_bag, weights",
        (X, R),
        weighed_bags,
        lambda w, s: F.embedding_bag(INDEX, w, BAGS, mode="sum", per_sample_weights=s, padding_idx=1),
        "embedding_bag",
    ),
    Case(
        "embedding_bag, by frequency",
        (X,),
        lambda w: ops.embedding_bag(INDEX.view(1, -1), w, mode="mean", scale_grad_by_freq=True),
        None,
        "embedding_bag",
    ),
]
NAMES = [case.name for case in SCATTER_CASES]
assert len(set(NAMES)) == len(NAMES)
