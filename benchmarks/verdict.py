"""How often is a verdict wrong about chance, and how often does it see what is there?

    python -m benchmarks.verdict

Simulates pairs that differ by chance alone, gives them to the rule that `detprobe compare` uses, and counts REAL:

- at 3, 5, 10 and 20 pairs, for normal and heavy-tailed numbers (Student's t of 2 degrees of freedom, which have no
  variance), with A and B within a pair independent or correlated;
- for a user who starts with 5 pairs and adds what the verdict advises (8 pairs at most) three times, beside the same
  user with a plain t test at 5 % each time.

Exit code 1 where the rule's rate is above 5 %: where the 99 % lower bound (Clopper and Pearson) is. The power table
compares the advised number of pairs with what it gives.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import numpy as np
from scipy.stats import beta

from detprobe.verdict import _statistics as statistics
from detprobe.verdict._rule import decide

NOMINAL = 0.05
PAIRS = (3, 5, 10, 20)
CORRELATIONS = (0.0, 0.8)
EFFECTS = (0.75, 1.0, 1.5, 2.0)
LOOKS = 4
MOST = 8  # pairs added at a time: beyond 40 in all the sign-flip test draws, and the simulation takes minutes


def lower_bound(hits: int, n: int) -> float:
    """99 % one-sided lower bound of a rate."""
    return float(beta.ppf(0.01, hits, n - hits + 1)) if hits else 0.0


def is_real(a: np.ndarray, b: np.ndarray) -> bool:
    return decide([(a.tolist(), b.tolist())], advise=False)[0].verdict == "REAL"


def null_hits(rng: np.random.Generator, n: int, heavy: bool, correlation: float, simulations: int) -> int:
    size = (simulations, 3, n)
    drawn = rng.standard_t(2, size) if heavy else rng.standard_normal(size)
    own, shared = drawn[:, :2], drawn[:, 2:]
    sides = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
    return sum(is_real(a, b) for a, b in sides)


def extending_hits(rng: np.random.Generator, simulations: int) -> tuple[int, int]:
    """Users whom the rule tells REAL at one of their looks, and whom a t test at 5 % would have."""
    paid, unpaid = 0, 0
    for _ in range(simulations):
        values: list[float] = rng.standard_normal(5).tolist()
        real = small = False
        for look in range(1, LOOKS + 1):
            found = decide([([0.0] * len(values), values)], look=look, advise=look < LOOKS)[0]
            real |= found.verdict == "REAL"
            small |= statistics.t_test(values) <= NOMINAL
            values += rng.standard_normal(min(found.more_pairs or MOST, MOST)).tolist()
        paid += real
        unpaid += small
    return paid, unpaid


def line(name: str, hits: int, simulations: int) -> tuple[str, bool]:
    """The rate in words, and whether it is held."""
    bound = lower_bound(hits, simulations)
    held = bound <= NOMINAL
    return f"{name:<44} {100 * hits / simulations:6.2f} %  {100 * bound:6.2f} %{'' if held else '  ABOVE 5 %'}", held


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Calibration and power of the rule of detprobe compare.")
    parser.add_argument("--simulations", type=int, default=2000)
    simulations = parser.parse_args(argv).simulations
    rng, start, fine = np.random.default_rng(0), time.perf_counter(), True
    print(f"False REAL by chance alone, {simulations} simulations\n{'':<44}     rate    >= (99 %)")
    for heavy in (False, True):
        for correlation in CORRELATIONS:
            for n in PAIRS:
                name = f"{'heavy-tailed' if heavy else 'normal'}, correlation {correlation}, {n} pairs"
                said, held = line(name, null_hits(rng, n, heavy, correlation, simulations), simulations)
                print(said)
                fine &= held
    paid, unpaid = extending_hits(rng, simulations)
    said, held = line("extended as advised, three times", paid, simulations)
    print(said)
    fine &= held
    print(f"{line('the same, with a t test at 5 % each time', unpaid, simulations)[0]}, for comparison")
    print("\nPower: pairs that the formula asks for at the first look, for 80 %, and the rate of REAL there")
    level = statistics.look_level(1)
    for effect in EFFECTS:
        needed = statistics.pairs_for_power(effect, 1.0, level) or 0
        needed = statistics.past_equal_signs(needed, effect, 1.0, level)
        hits = sum(is_real(np.zeros(needed), row + effect) for row in rng.standard_normal((simulations, needed)))
        print(f"difference of {effect} sd: {needed:>3} pairs  {100 * hits / simulations:5.1f} %")
    print(f"\n{'held' if fine else 'NOT HELD'}; took {time.perf_counter() - start:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
