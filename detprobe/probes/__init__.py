"""Show why a result moves, on this very device, with numbers."""

from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.probes._advise import advise
from detprobe.probes._gemm import gemm
from detprobe.probes._reduction_order import reduction_order
from detprobe.probes._registry import run_all
from detprobe.probes._sensitivity import environment_sensitivity
from detprobe.sum_tree import SumTree

__all__ = [
    "ProbeReport",
    "ProbeReports",
    "SumTree",
    "advise",
    "environment_sensitivity",
    "gemm",
    "reduction_order",
    "run_all",
]
