"""Measurements: of scans (scan.py), and `detprobe bench` of a checkout (`python -m benchmarks.reductions`)."""
