"""EXP-1 and LOG-1: exp and log of additions, subtractions, multiplications, one division and integer operations.

Every line is one of csrc/README.md's, evaluated from the inside of its brackets; nothing is fused.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detprobe.reference.formats import Array, quiet

__all__ = ["exp", "log"]


@dataclass(frozen=True)
class Constants:
    """A column of the table of EXP-1; `f` and `b` are F and B."""

    f: int
    b: int
    lo: float
    hi: float
    l: str  # noqa: E741 - the contract's names
    m: str
    c1: str
    c2: str
    c: tuple[str, ...]


EXP = {
    np.dtype(np.float32): Constants(
        f=23,
        b=127,
        lo=-104.0,
        hi=89.0,
        l="0x1.715476p+0",
        m="0x1.8p+23",
        c1="0x1.62e4p-1",
        c2="0x1.7f7d1cp-20",
        c=("0x1.fffffcp-2", "0x1.555492p-3", "0x1.5558fp-5", "0x1.123a1p-7", "0x1.6a2612p-10"),
    ),
    np.dtype(np.float64): Constants(
        f=52,
        b=1023,
        lo=-746.0,
        hi=710.0,
        l="0x1.71547652b82fep+0",
        m="0x1.8p+52",
        c1="0x1.62e42fefa4p-1",
        c2="-0x1.8432a1b0e2634p-43",
        c=(
            *("0x1.000000000000ap-1", "0x1.55555555554fep-3", "0x1.5555555550854p-5", "0x1.1111111126a2ep-7"),
            *("0x1.6c16c18436645p-10", "0x1.a01a01309a454p-13", "0x1.a01999e7b13e2p-16", "0x1.71df170af496ep-19"),
            *("0x1.28ad95ecdadedp-22", "0x1.ad9641515b7bap-26"),
        ),
    ),
}
LOG = (
    *("0x1.5555555555592p-1", "0x1.999999997fd5bp-2", "0x1.24924941f87eep-2", "0x1.c71c52017d00fp-3"),
    *("0x1.746640e19d49fp-3", "0x1.39a17f75e9724p-3", "0x1.2f0805012e8d6p-3"),
)
ROOT_HALF = 0x3FE6A09E667F3BCD


@quiet
def exp(x: Array) -> Array:
    """EXP-1 of every element.

    Args:
        x: [...] float32 or float64.

    Source: csrc/README.md, EXP-1.
    """
    table = EXP[x.dtype]
    acc, words = x.dtype.type, np.dtype(f"i{x.dtype.itemsize}").type
    l, m, c1, c2 = (acc(float.fromhex(text)) for text in (table.l, table.m, table.c1, table.c2))  # noqa: E741
    c = [acc(float.fromhex(text)) for text in table.c]
    f, b, one = words(table.f), words(table.b), acc(1)
    x = np.where(x < table.lo, acc(table.lo), x)
    x = np.where(x > table.hi, acc(table.hi), x)
    t = x * l + m
    k = t - m
    i = t.view(words) - np.array([m]).view(words)[0]
    r = (x - k * c1) - k * c2
    q = np.full_like(r, c[-1])
    for j in range(len(c) - 2, -1, -1):
        q = q * r + c[j]
    p = ((r * r) * q + r) + one
    h = i >> words(1)
    return np.asarray((p * ((h + b) << f).view(acc)) * ((i - h + b) << f).view(acc))


@quiet
def log(x: Array) -> Array:
    """LOG-1 of every element; of float32 by way of float64, rounded once more.

    Args:
        x: [...] float32 or float64.

    Source: csrc/README.md, LOG-1.
    """
    return _log64(x.astype(np.float64)).astype(x.dtype)


def _log64(x: Array) -> Array:
    table = EXP[np.dtype(np.float64)]
    c1, c2 = np.float64.fromhex(table.c1), np.float64.fromhex(table.c2)
    coefficients = [np.float64.fromhex(text) for text in LOG]
    number = (x > 0) & (x < np.inf)
    y = np.where(number, x, 1.0)
    small = y < 2.0**-1022
    k = np.where(small, -54, 0)
    y = np.where(small, y * 2.0**54, y)
    bits = y.view(np.int64)
    e = (bits - ROOT_HALF) >> 52
    k = k + e
    m = (bits - (e << 52)).view(np.float64)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    scale = k.astype(np.float64)
    r = np.full_like(z, coefficients[6])
    for j in range(5, -1, -1):
        r = r * z + coefficients[j]
    r = r * z
    out = scale * c1 - ((s * (f - r) - scale * c2) - f)
    out = np.where(x == 0, -np.inf, np.where(x == np.inf, np.inf, out))
    return np.where(np.isnan(x) | (x < 0), np.nan, out)
