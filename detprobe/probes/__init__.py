"""Show why a result moves, on this very device, with numbers."""

from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.probes._advise import advise
from detprobe.probes._atomic_add import atomic_add
from detprobe.probes._conv import conv
from detprobe.probes._conv_problems import PROBLEMS, ConvProblem
from detprobe.probes._gemm import gemm
from detprobe.probes._reduction_order import reduction_order
from detprobe.probes._registry import run_all
from detprobe.probes._sensitivity import environment_sensitivity
from detprobe.sum_tree import SumTree

__all__ = [
    "PROBLEMS",
    "ConvProblem",
    "ProbeReport",
    "ProbeReports",
    "SumTree",
    "advise",
    "atomic_add",
    "conv",
    "environment_sensitivity",
    "gemm",
    "reduction_order",
    "run_all",
]
