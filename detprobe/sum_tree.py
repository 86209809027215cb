"""The order of the additions of a sum, as plain data: which partial sums are added to which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Parting", "SumTree"]


@dataclass(frozen=True)
class SumTree:
    """A summation tree over `n` elements.

    Leaves are 0 .. n-1, the elements. `nodes[k]` is the sum number n + k, as the numbers of what it adds; children come
    before their sum, and the last one is the result. A node of more than two children adds them in one step that
    rounds once, as the fused units of tensor cores do.

    Example:
        >>> a = SumTree(4, ((0, 1), (2, 3), (4, 5)))  # (x0 + x1) + (x2 + x3)
        >>> b = SumTree(4, ((0, 1), (4, 2), (5, 3)))  # ((x0 + x1) + x2) + x3
        >>> a.nested
        ((0, 1), (2, 3))
        >>> print(a.parting(b))
        4 elements from x[0] to x[3]: 2 from x[0] + 2 from x[2], against 3 from x[0] + x[3]
    """

    n: int
    nodes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        below = sum(map(len, self.nodes))  # before anything is made of that size: n may come from a file
        if self.n < 1 or below != self.n + len(self.nodes) - 1:
            raise ArgumentValueError(f"not a summation tree: not every one of {self.n} elements is under the last sum")
        used = bytearray(self.n + len(self.nodes))
        for k, children in enumerate(self.nodes):
            if len(children) < 2 or any(not 0 <= child < self.n + k or used[child] for child in children):
                raise ArgumentValueError(f"not a summation tree: sum {self.n + k} cannot be of {children!r:.80}")
            for child in children:
                used[child] = 1

    @classmethod
    def from_plain(cls, raw: Any) -> SumTree:
        """Read what JSON made of it."""
        try:
            n, nodes = raw["n"], tuple(tuple(children) for children in raw["nodes"])
        except (TypeError, KeyError):
            raise ArgumentValueError("not a summation tree: expected an object of n and nodes") from None
        if any(type(number) is not int for number in (n, *(child for children in nodes for child in children))):
            raise ArgumentValueError("not a summation tree: expected whole numbers")
        return cls(n, nodes)

    @classmethod
    def from_nested(cls, nested: Any) -> SumTree:
        """The tree of nested tuples or lists, as `nested` gives it: ((0, 1), (2, 3))."""
        leaves: list[int] = []
        order: list[Any] = []  # parents first; reversed, children first
        stack = [nested]
        while stack:
            item = stack.pop()
            if isinstance(item, tuple | list):
                order.append(item)
                stack += item
            elif type(item) is int:
                leaves.append(item)
            else:
                raise ArgumentTypeError(f"nested: expected whole numbers and tuples of them, got {item!r:.80}")
        if sorted(leaves) != list(range(len(leaves))):
            raise ArgumentValueError(f"nested: expected each of 0 .. {len(leaves) - 1} once as a leaf")
        number: dict[int, int] = {}
        nodes = []
        for item in reversed(order):
            nodes.append(tuple(number[id(child)] if isinstance(child, tuple | list) else child for child in item))
            number[id(item)] = len(leaves) + len(nodes) - 1
        return cls(len(leaves), tuple(nodes))

    @property
    def root(self) -> int:
        return self.n + len(self.nodes) - 1

    @property
    def nested(self) -> Any:
        """Nested tuples with the element numbers as leaves; as deep as the tree is."""
        made: list[Any] = list(range(self.n))
        for children in self.nodes:
            made.append(tuple(made[child] for child in children))
        return made[-1]

    def children(self, number: int) -> tuple[int, ...]:
        """What a sum adds; nothing for an element."""
        return self.nodes[number - self.n] if number >= self.n else ()

    def leaves(self, number: int) -> list[int]:
        """The elements under a sum, from the left to the right of the tree."""
        found = []
        stack = [number]
        while stack:
            at = stack.pop()
            if at < self.n:
                found.append(at)
            stack += reversed(self.children(at))
        return found

    @cached_property
    def sizes(self) -> list[int]:
        """How many elements are under each number."""
        found = [1] * self.n
        for children in self.nodes:
            found.append(sum(found[child] for child in children))
        return found

    @cached_property
    def firsts(self) -> list[int]:
        """The smallest element under each number."""
        found = list(range(self.n))
        for children in self.nodes:
            found.append(min(found[child] for child in children))
        return found

    @cached_property
    def depth(self) -> int:
        """Additions on the longest way from an element to the result."""
        found = [0] * self.n
        for children in self.nodes:
            found.append(1 + max(found[child] for child in children))
        return found[-1]

    @property
    def widest(self) -> int:
        """Terms of the widest addition: 2 where every one is of two."""
        return max(map(len, self.nodes), default=1)

    def fingerprint(self) -> str:
        """32 hexadecimal digits, equal exactly for equal orders of additions: a + b and b + a are one.

        It is a 128-bit hash, stable from version to version.
        """
        return self._digests[-1].hex()

    @cached_property
    def _digests(self) -> list[bytes]:
        found = [_digest(b"element %d" % i) for i in range(self.n)]
        for children in self.nodes:
            found.append(_digest(b"sum of" + b"".join(sorted(found[child] for child in children))))
        return found

    @cached_property
    def _contents(self) -> list[int]:
        """A number for the set of elements under each number: the sum of a hash of each, modulo 2^128."""
        found = [int.from_bytes(_digest(b"member %d" % i), "little") for i in range(self.n)]
        for children in self.nodes:
            found.append(sum(found[child] for child in children) % 2**128)
        return found

    def parting(self, other: SumTree) -> Parting | None:
        """The first place, from the result downwards, where two trees add the same elements in another way.

        Returns:
            None where they are equal.

        Raises:
            ArgumentValueError: they are not over the same number of elements.
        """
        if self.n != other.n:
            raise ArgumentValueError(f"expected two trees over the same elements, got {self.n} and {other.n}")
        mine, its = self.root, other.root
        while self._digests[mine] != other._digests[its]:
            theirs = {other._contents[child]: child for child in other.children(its)}
            pairs = [(child, theirs.get(self._contents[child])) for child in self.children(mine)]
            if len(theirs) != len(pairs) or any(twin is None for _, twin in pairs):
                return Parting(tuple(sorted(self.leaves(mine))), _parts(self, mine), _parts(other, its))
            mine, its = next((a, b) for a, b in pairs if b is not None and self._digests[a] != other._digests[b])
        return None


@dataclass(frozen=True)
class Parting:
    """A place where two trees part: the same elements, split in two ways."""

    elements: tuple[int, ...]
    left: tuple[tuple[int, ...], ...]
    """What the first tree adds there: the elements of each term."""
    right: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        first, last = self.elements[0], self.elements[-1]
        ways = [" + ".join(_named(term) for term in side) for side in (self.left, self.right)]
        return f"{len(self.elements)} elements from x[{first}] to x[{last}]: {ways[0]}, against {ways[1]}"


def _parts(tree: SumTree, number: int) -> tuple[tuple[int, ...], ...]:
    return tuple(sorted(tuple(sorted(tree.leaves(child))) for child in tree.children(number)))


def _named(term: tuple[int, ...]) -> str:
    return f"x[{term[0]}]" if len(term) == 1 else f"{len(term)} from x[{term[0]}]"


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
