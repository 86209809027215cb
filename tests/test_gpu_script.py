"""`benchmarks/gpu.sh` runs its parts, keeps the lines of earlier calls, and says what failed: with a played python."""

import os
import subprocess

import pytest
from emulated_module import ROOT

PLAYED = """#!/usr/bin/env bash
case "$*" in
  *get_device_capability*) [[ -n "${WITHOUT_GPU:-}" ]] || echo 9.0 ;;
  *include/cccl*) ;;
  *"-m pytest"*) echo "2 failed"; exit 1 ;;
  *"probe conv"*) echo "conv: shown"; exit 1 ;;
  *"probe gemm"*) echo "gemm: not here"; exit 3 ;;
  *) echo "ran $*" ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Calls the script, and gives back its status and the lines of its table by name."""
    python = tmp_path / "python"
    python.write_text(PLAYED, encoding="utf-8")
    python.chmod(0o755)

    def call(*arguments, **more):
        env = {**os.environ, "PYTHON": str(python), "OUT": str(tmp_path / "out"), **more}
        command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        return done, dict(line.split(": ", 1) for line in done.stdout.splitlines())

    return call


def test_parts_run_one_by_one_and_the_table_keeps_them_all(run):
    done, table = run("--only", "build,scan")
    assert done.returncode == 0
    assert list(table) == ["build", "environment", "scan_cpu", "scan_cuda"]
    assert table["environment"].endswith("ran -m detprobe env")
    done, table = run("--only", "test")
    assert done.returncode == 1
    assert list(table) == ["build", "environment", "scan_cpu", "scan_cuda", "tests"]
    assert table["tests"] == "FAILED (1), see tests.log: 2 failed"


def test_a_probe_that_shows_something_has_not_failed_and_one_that_is_not_there_has(run):
    done, table = run("--only", "probes")
    assert done.returncode == 1
    assert table["probe_conv"].startswith("fine, ")
    assert table["probe_gemm"] == "FAILED (3), see probe_gemm.log: gemm: not here"
    assert table["probe_atomic_add"].startswith("fine, ")


def test_what_has_no_time_left_is_named(run):
    done, table = run("--only", "reductions", "--minutes", "0")
    assert done.returncode == 1
    assert table["reductions"] == "DID NOT RUN, no time left: --only reductions runs it by itself"


def test_what_takes_too_long_is_cut_off_and_named(run, tmp_path):
    cutter = tmp_path / "bin" / "timeout"
    cutter.parent.mkdir()
    cutter.write_text("#!/bin/sh\nexit 124\n", encoding="utf-8")
    cutter.chmod(0o755)
    done, table = run("--only", "scan", PATH=f"{cutter.parent}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1
    assert table["scan_cuda"] == "CUT OFF after 0 s: --only scan runs it by itself"


@pytest.mark.parametrize(
    ("arguments", "more", "status", "text"),
    [
        (
            ["--only", "plots"],
            {},
            2,
            "gpu.sh: no part is called plots: one of build test probes reductions scatter scan",
        ),
        (["--fast"], {}, 2, "Everything that wants a GPU"),
        (["--only"], {}, 2, "Everything that wants a GPU"),
        ([], {"WITHOUT_GPU": "1"}, 3, "gpu.sh: torch sees no GPU here"),
    ],
)
def test_what_cannot_be_is_refused(run, arguments, more, status, text):
    done, _ = run(*arguments, **more)
    assert done.returncode == status
    assert text in done.stderr
