"""Every kernel of the CPU shares its work out: a second thread is seen at work, and none where one is asked for.

at::parallel_for is a loop on the caller's thread in a file that is compiled without OpenMP, and no result shows it. So
the system is asked how long each thread of a fresh process has been running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

# The names say which loop of csrc/cpu they are for.
CALLS = {
    "rows, one after the other": "ops.softmax(torch.randn(3000, 100), -1)",
    "blocks of a row": "ops.sum(torch.randn(10**6))",
    "blocks of a row, another type": "ops.sum(torch.randn(10**6, dtype=torch.bfloat16))",
    "columns": "ops.sum(torch.randn(1000, 1000), 0)",
    "panels": "ops.sum(torch.randn(1000, 1000).t())",
    "a map along rows": "OPS.exp(torch.randn(10**6))",
    "a map across rows": "ops.batch_norm(torch.randn(2000, 500), torch.zeros(500), torch.ones(500))",
    "scans of rows": "ops.cumsum(torch.randn(1000, 1000), -1)",
    "the scan of a row": "ops.cumsum(torch.randn(10**6), -1)",
    "scans of columns": "ops.cumsum(torch.randn(1000, 1000), 0)",
    "exact sums": "ops.exact_sum(torch.randn(10**6))",
    "digests": "bits.digest(torch.randn(4 * 10**6))",
    "comparisons": "bits.difference(torch.ones(4 * 10**6), torch.ones(4 * 10**6))",
}

PROGRAM = """
import json, os, sys, threading
import torch
from detprobe import bits, ops
OPS = torch.ops.detprobe

def running():  # nanoseconds, of this thread and of all others
    me, found = threading.get_native_id(), [0, 0]
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/schedstat") as file:
            found[int(task) != me] += int(file.read().split()[0])
    return found

torch.set_num_threads(int(sys.argv[1]))
shares = {}
for name, text in json.loads(sys.argv[2]).items():
    call, _, arguments = text.partition("(")
    function = eval(call)
    arguments = eval(f"({arguments[:-1]},)")
    function(*arguments)
    before = running()
    while running()[0] - before[0] < 30_000_000:
        function(*arguments)
    mine, others = (b - a for a, b in zip(before, running()))
    shares[name] = others / mine
print(json.dumps(shares))
"""


def shares(threads: int) -> dict[str, float]:
    """How long the other threads ran, as a share of the caller's own time."""
    # Idle threads of the pool sleep, instead of waiting in a loop that looks like work.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", PROGRAM, str(threads), json.dumps(CALLS)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


linux = pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="reads /proc/self/task/*/schedstat")
openmp = pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="this torch has no OpenMP")


@linux
@openmp
def test_a_second_thread_works_in_every_kernel():
    idle = {name: share for name, share in shares(2).items() if share < 0.1}
    assert idle == {}


@linux
def test_with_one_thread_no_other_works():
    busy = {name: share for name, share in shares(1).items() if share > 0.02}
    assert busy == {}
