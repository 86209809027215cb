"""Show why a result moves, on this very device, with numbers."""

from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.probes._atomic_add import atomic_add
from detprobe.probes._conv import conv
from detprobe.probes._conv_problems import PROBLEMS, ConvProblem
from detprobe.probes._registry import run_all

__all__ = ["PROBLEMS", "ConvProblem", "ProbeReport", "ProbeReports", "atomic_add", "conv", "run_all"]
