"""Show why a result moves, on this very device, with numbers."""

from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.probes._registry import run_all

__all__ = ["ProbeReport", "ProbeReports", "run_all"]
