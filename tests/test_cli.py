"""The command line as a user meets it: a process, its exit code, and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detprobe import Report

CLEAN = """
import torch
def make():
    return torch.nn.Linear(4, 4), torch.randn(2, 4)
def with_loss():
    return torch.nn.Linear(4, 4), torch.randn(2, 4), torch.sum
def raises():
    return [][1]
def leaves():
    raise SystemExit(7)
def alone():
    return torch.nn.Linear(4, 4)
def model_raises():
    def model(x):
        raise RuntimeError("the model's own words")
    return model, torch.randn(2)
number = 3
"""

RACY = """
import torch
torch.manual_seed(0)
def make():
    table = torch.nn.Parameter(torch.randn(50, 64))
    index = torch.randint(0, 50, (200000,))
    return lambda index: table[index], index
def unread():
    return lambda x: torch.empty(10) + x, torch.randn(10)
"""


def detprobe(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "2", **environment}
    command = [sys.executable, "-m", "detprobe", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    (path / "clean.py").write_text(CLEAN)
    (path / "racy.py").write_text(RACY)
    (path / "broken.py").write_text("import nothing_of_this_name\n")
    return path


@pytest.mark.parametrize("target", ["clean.py:make", "clean:make", "clean.py:with_loss"])
def test_a_clean_model_gives_0(folder: Path, target: str) -> None:
    done = detprobe("scan", target, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "nothing found" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_finding_gives_1_and_both_files_hold_it(folder: Path) -> None:
    done = detprobe("scan", "racy.py:make", "--json", "r.json", "--html", "r.html", cwd=folder)
    assert done.returncode == 1, done.stderr
    report = Report.from_json((folder / "r.json").read_text())
    assert [(f.op, f.location) for f in report.findings] == [("aten::index_put", "racy.py:7")]
    assert done.stdout.strip() == str(report)
    assert "aten::index_put" in (folder / "r.html").read_text()


def test_json_to_stdout_is_nothing_but_json(folder: Path) -> None:
    done = detprobe("scan", "racy.py:make", "--json", "-", cwd=folder)
    assert done.returncode == 1
    assert not Report.from_json(done.stdout).ok


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--fail-on", "nondeterministic"], 1),
        (["--fail-on", "never"], 0),
        (["--ignore", "aten::index_*"], 0),
        (["--ignore", "racy.py:*"], 0),
        (["--ignore", "aten::mm"], 1),
    ],
)
def test_what_counts_can_be_chosen(folder: Path, options: list[str], code: int) -> None:
    done = detprobe("scan", "racy.py:make", *options, cwd=folder)
    assert done.returncode == code
    assert "aten::index_put" in done.stdout  # it is shown all the same
    assert ("1 finding does not count" in done.stderr) == (code == 0)
    assert ("matches no finding" in done.stderr) == ("aten::mm" in options)


def test_a_milder_finding_does_not_count_above_its_level(folder: Path) -> None:
    assert detprobe("scan", "racy.py:unread", cwd=folder).returncode == 1
    assert detprobe("scan", "racy.py:unread", "--fail-on", "nondeterministic", cwd=folder).returncode == 0


def test_with_a_baseline_only_new_findings_count(folder: Path) -> None:
    assert detprobe("scan", "racy.py:make", "--json", "old.json", cwd=folder).returncode == 1
    assert detprobe("scan", "racy.py:make", "--baseline", "old.json", cwd=folder).returncode == 0
    (folder / "moved.py").write_text("# one line more\n" + RACY)
    raw = (folder / "old.json").read_text().replace("racy.py", "moved.py")
    (folder / "moved.json").write_text(raw)
    assert detprobe("scan", "moved.py:make", "--baseline", "moved.json", cwd=folder).returncode == 0
    assert detprobe("scan", "moved.py:make", "--baseline", "old.json", cwd=folder).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nofile.py:make"], "there is no such file"),
        (["clean.py:mak"], "did you mean 'make'?"),
        (["clean.py"], "expected FILE.py:factory or package.module:factory, got 'clean.py'"),
        (["no.module:make"], "there is no module 'no' here"),
        (["broken:make"], "No module named 'nothing_of_this_name'"),
        (["broken.py:make"], "No module named 'nothing_of_this_name'"),
        (["clean.py:raises"], "IndexError: list index out of range"),
        (["clean.py:leaves"], "SystemExit: 7"),
        (["clean.py:number"], "expected a function that returns (model, inputs), got int"),
        (["clean.py:alone"], "expected it to return (model, inputs) or (model, inputs, loss), got Linear"),
        (["clean.py:model_raises"], "RuntimeError: the model's own words"),
        (["clean.py:make", "--replays", "1"], "replays: expected at least 2, got 1"),
        (["clean.py:make", "--axes", "rerun,moon"], "got 'moon'"),
        (["clean.py:make", "--budget", "-1"], "budget: expected at least 0"),
        (["clean.py:make", "--baseline", "none.json"], "--baseline none.json: cannot be read"),
        (["clean.py:make", "--baseline", "clean.py"], "expected the JSON text of a detprobe report"),
        (["clean.py:make", "--json", "no/such/folder.json"], "expected a file name in a folder that exists"),
        (["clean.py:make", "--fail-on", "friday"], "invalid choice: 'friday'"),
        ([], "the following arguments are required"),
    ],
)
def test_usage_errors_give_2_and_a_sentence(folder: Path, arguments: list[str], said: str) -> None:
    done = detprobe("scan", *arguments, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert "detprobe/cli" not in done.stderr.replace(os.sep, "/")


def test_the_traceback_of_a_factory_shows_the_users_line(folder: Path) -> None:
    done = detprobe("scan", "clean.py:raises", cwd=folder)
    assert "return [][1]" in done.stderr


def test_a_second_device_that_is_not_there_gives_3(folder: Path) -> None:
    done = detprobe("scan", "clean.py:make", "--axes", "rerun,device", cwd=folder, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 3
    assert "only a CPU" in done.stderr


def test_a_report_survives_a_locale_without_unicode(folder: Path) -> None:
    (folder / "zürich.py").write_text(RACY)
    done = detprobe("scan", "zürich.py:make", cwd=folder, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 1, done.stderr
    assert "z\\xfcrich.py:7" in done.stdout


def test_env_prints_what_a_bug_report_needs(folder: Path) -> None:
    import torch

    text = detprobe("env", cwd=folder)
    values = json.loads(detprobe("env", "--json", cwd=folder).stdout)
    assert text.returncode == 0
    assert values["torch"] == torch.__version__
    assert values["build"].startswith("compiler ")
    for name in ("detprobe", "python", "threads", "cuda", "gpus", "deterministic_algorithms"):
        assert name in values
        assert name in text.stdout


def test_the_console_script_is_the_same_command(folder: Path) -> None:
    script = Path(sys.executable).with_name("detprobe")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout == detprobe("--version", cwd=folder).stdout
