"""Is it my change or the randomness? Pairs of runs on the same seeds, and a verdict on their differences."""

from detprobe.verdict._compare import compare
from detprobe.verdict._state import state_digest
from detprobe.verdict_report import Comparison, MetricVerdict, Run

__all__ = ["Comparison", "MetricVerdict", "Run", "compare", "state_digest"]
