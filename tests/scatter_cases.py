"""Arguments of the scatter ops as hypothesis draws them, and what two results are held to."""

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from index_patterns import indices, some_negative

REDUCES = ("sum", "prod", "mean", "amax", "amin")
CASES = settings(deadline=None, max_examples=50)
INCLUDED = pytest.mark.parametrize("include_self", [True, False])
EVERY_REDUCE = pytest.mark.parametrize("reduce", REDUCES)


def equal(got, stock):
    """One dtype, shape and value everywhere; the sign of a zero, on which torch differs, is asked for elsewhere."""
    stock = stock.detach().numpy()
    assert got.dtype == stock.dtype
    assert got.shape == stock.shape
    np.testing.assert_array_equal(got, stock)


def t(array):
    return torch.tensor(array)


@st.composite
def shaped(draw):
    """A shape with one dimension that is indexed: shape, dim, index, numbers."""
    index, size, rng = draw(indices())
    shape = [int(v) for v in rng.integers(1, 4, draw(st.integers(0, 2)))]
    dim = draw(st.integers(0, len(shape)))
    shape.insert(dim, size)
    return tuple(shape), draw(st.sampled_from([dim, dim - len(shape)])), index, rng


def with_size(shape, dim, n):
    sizes = list(shape)
    sizes[dim] = n
    return tuple(sizes)


def element_index(shape, dim, index, rng):
    """A scatter index: the pattern along dim, turned otherwise for every other coordinate, and not larger than x."""
    sizes = [int(rng.integers(1, s + 1)) for s in shape]
    sizes[dim] = len(index)
    whole_index = np.empty(sizes, np.int64)
    moved = np.moveaxis(whole_index, dim, -1)
    for at in np.ndindex(moved.shape[:-1]):
        moved[at] = (index + rng.integers(shape[dim])) % shape[dim]
    return whole_index


ADVANCED = {
    "first": lambda a, b: (a,),
    "last": lambda a, b: (None, None, b),
    "two, adjacent": lambda a, b: (None, a % 3, b),
    "two, apart": lambda a, b: (a, None, b),
    "two, apart, behind": lambda a, b: (None, a % 3, None, b % 2),
    "outer product": lambda a, b: (a[:, None], None, b[None, :]),
    "all": lambda a, b: (a, a % 3, b),
    "0-dim": lambda a, b: (a[:1].reshape(()) if a.size else np.array(0), None, b),
}


def read_by_torch(x, indices):
    """aten::index, which a 0-dim tensor reaches as an index; x[...] would make a select of it."""
    return torch.ops.aten.index.Tensor(t(x), [None if i is None else t(i) for i in indices]).numpy()


def advanced_case(name, case):
    index, size, rng = case
    chosen = ADVANCED[name](index, rng.permutation(index) % 4)
    shape = (size, 3, 4, 2)
    chosen = tuple(i if i is None else some_negative(i, shape[at], rng) for at, i in enumerate(chosen))
    return shape, chosen, rng
