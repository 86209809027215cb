"""Measurements: of scans (scan.py) and of the ops (`python -m benchmarks.reductions`, `benchmarks.scatter`)."""
