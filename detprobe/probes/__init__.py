"""Show why a result moves, on this very device, with numbers."""

from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.probes._reduction_order import reduction_order
from detprobe.probes._registry import run_all
from detprobe.sum_tree import SumTree

__all__ = ["ProbeReport", "ProbeReports", "SumTree", "reduction_order", "run_all"]
