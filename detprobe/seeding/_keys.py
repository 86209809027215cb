"""Keys: a 64-bit seed for every use of randomness, derived from the run's seed and a name, never added to it.

`seed + rank`, `seed + epoch` and `seed + worker` overlap between root seeds. A hash does not: two uses share a key only
by chance, once in 2^64. torch's CPU engine keeps the low 32 bits alone, which of a hash are as good as any.
"""

from __future__ import annotations

import operator
from hashlib import blake2b
from typing import Any

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["LOW", "VERSION", "Prefix", "as_seed", "derive", "derive_bytes"]

VERSION = 1
"""Part of every key: another derivation gets another number, and with it other streams."""

LOW = 0xFFFF_FFFF
_PERSON = b"detprobe.key"
_LARGEST = 2**64 - 1


def as_seed(seed: Any, *, name: str = "seed") -> int:
    """The seed as an int, or an error that says what a seed is."""
    try:
        value = operator.index(seed)
    except TypeError:
        value = None
    if value is None or isinstance(seed, bool):
        raise ArgumentTypeError(
            f"{name}: expected an integer from 0 to 2**64 - 1, got {seed!r} ({type(seed).__name__})"
        )
    if not 0 <= value <= _LARGEST:
        raise ArgumentValueError(f"{name}: expected an integer from 0 to 2**64 - 1, got {value}")
    return value


def derive(seed: int, *names: str | int) -> int:
    """The key, 64 bits, of a use of randomness that the names tell.

    Example:
        >>> derive(42, "init")
        17228232707379640827

    Source: BLAKE2, RFC 7693, over the length-prefixed parts, so that ("a", "bc") is not ("ab", "c").
    """
    return int.from_bytes(derive_bytes(seed, *names, size=8), "little")


def derive_bytes(seed: int, *names: str | int, size: int) -> bytes:
    """As `derive`, `size` bytes of it (at most 64)."""
    return blake2b(_encoded(VERSION, seed, *names), digest_size=size, person=_PERSON).digest()


class Prefix:
    """Keys that begin with the same parts: `Prefix(seed, "a").derive("b")` is `derive(seed, "a", "b")`, and faster."""

    def __init__(self, seed: int, *names: str | int) -> None:
        self._begun = blake2b(_encoded(VERSION, seed, *names), digest_size=8, person=_PERSON)

    def derive(self, *names: str | int) -> int:
        """The key of the prefix and these."""
        digest = self._begun.copy()
        digest.update(_encoded(*names))
        return int.from_bytes(digest.digest(), "little")


def _encoded(*parts: str | int) -> bytes:
    found = b""
    for part in parts:
        kind, raw = (b"i", b"%d" % part) if isinstance(part, int) else (b"s", part.encode("utf-8", "surrogatepass"))
        found += kind + len(raw).to_bytes(8, "little") + raw
    return found
