"""Which runs are still to be made, in which order, and how many looks were taken at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detprobe.report.progress import Progress
from detprobe.verdict._rule import FEWEST
from detprobe.verdict_report import Run

__all__ = ["looks_after", "run_missing"]


def run_missing(seeds: Sequence[int], runs: list[Run], run: Callable[[str, int, bool], Run], tick: Progress) -> None:
    """Append to `runs` what it lacks: A and B on each seed, and A again on the first seed on which it ended well.

    A runs again after B, so that what B leaves behind shows too. Pairs are finished one by one: what an interruption
    leaves can be judged.
    """
    total = 2 * len(seeds) + 1
    for at, seed in enumerate(seeds):
        for side in ("A", "B"):
            tick(2 * at + (side == "B"), total, f"{side}, seed {seed}")
            if not any((one.side, one.seed, one.repeat) == (side, seed, False) for one in runs):
                runs.append(run(side, seed, False))
        ended_well = any((one.side, one.seed, one.failure) == ("A", seed, "") for one in runs)
        if ended_well and not any(one.repeat for one in runs):
            tick(2 * at + 2, total, f"A again, seed {seed}")
            runs.append(run("A", seed, True))
    tick(total, total, "")


def looks_after(looks: int, pairs_before: int, pairs_now: int) -> int:
    """How many looks there are with this one. Seeing the same pairs again is none, nor was seeing fewer than 3."""
    return looks + (pairs_now > pairs_before >= FEWEST)
