"""`detprobe bench reductions` of this checkout: speed and error beside torch's functions, in the same run.

    python -m benchmarks.reductions                            # a CPU, about four minutes
    python -m benchmarks.reductions --quick --only sum,softmax
    python -m benchmarks.reductions --capability avx2          # both without AVX-512: detprobe and torch
    python -m benchmarks.reductions --device cuda --json F --plot F

Cases and targets are in detprobe/bench/_reduction_cases.py.
"""

import sys

from detprobe.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "reductions", *sys.argv[1:]]))
