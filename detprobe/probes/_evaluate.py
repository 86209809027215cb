"""A recovered tree put to the test: does adding in its order give the callable's own bits?"""

from __future__ import annotations

import math

import torch

from detprobe.sum_tree import SumTree

__all__ = ["ACCUMULATORS", "evaluate", "random_values"]

ACCUMULATORS = {
    torch.float64: (torch.float64,),
    torch.float32: (torch.float32, torch.float64),
    torch.bfloat16: (torch.bfloat16, torch.float32, torch.float64),
    torch.float16: (torch.float16, torch.float32, torch.float64),
}
"""Formats that a sum of a dtype may keep its partial sums in, its own first."""


def random_values(m: int, dtype: torch.dtype, rows: int) -> torch.Tensor:
    """[rows, m]: normal numbers over eight binary orders of size, so that the order of their sum shows."""
    generator = torch.Generator().manual_seed(m)
    x = torch.randn((rows, m), generator=generator, dtype=torch.float64)
    return (x * torch.exp2(torch.randint(-4, 4, x.shape, generator=generator).double())).to(dtype)


def evaluate(tree: SumTree, values: torch.Tensor, accumulator: torch.dtype) -> torch.Tensor:
    """[rows]: the sums of `values` [rows, n] in the tree's order; each addition rounds to the accumulator's format.

    An addition of more than two terms is exact and rounds once.
    """
    made: list[torch.Tensor | None] = list(values.to(accumulator).unbind(1))
    for children in tree.nodes:
        terms = [made[child] for child in children]
        for child in children:
            made[child] = None  # a sum is needed once: thousands of them need not stay
        made.append(_add([term for term in terms if term is not None]))
    result = made[-1]
    assert result is not None
    return result.to(values.dtype)


def _add(terms: list[torch.Tensor]) -> torch.Tensor:
    if len(terms) == 2:
        return terms[0] + terms[1]
    columns = zip(*(term.double().tolist() for term in terms), strict=True)
    return torch.tensor([math.fsum(column) for column in columns], dtype=torch.float64).to(terms[0].dtype)
