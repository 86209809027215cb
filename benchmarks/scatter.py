"""`detprobe bench scatter` of this checkout: speed and memory beside torch's functions, in the same run.

    python -m benchmarks.scatter                               # a CPU, about ten minutes
    python -m benchmarks.scatter --quick --only index_add,index_put
    python -m benchmarks.scatter --device cuda --json F --plot F

Cases and targets are in detprobe/bench/_scatter_cases.py.
"""

import sys

from detprobe.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "scatter", *sys.argv[1:]]))
