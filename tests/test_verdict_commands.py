"""`detprobe compare`: commands that end well, fail, hang or lie; the file that keeps their runs; interruptions."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from detprobe import Comparison
from detprobe.cli import main
from detprobe.errors import ArgumentValueError
from detprobe.verdict._commands import run_command
from detprobe.verdict._results import open_results

OUT = "detprobe-compare.jsonl"


def gives(formula: str, digest: str = "") -> str:
    """A command that notes that it ran, and writes the value of the formula in awk (s is the seed)."""
    more = f', \\"digest\\": \\"{digest}\\"' if digest else ""
    return (
        f'echo {{seed}} >> ran; awk -v s={{seed}} \'BEGIN {{ printf "{{\\"acc\\": %.6f, \\"epoch\\": 3{more}}}", '
        f"{formula} }}' > {{json}}"
    )


A = gives("90 + (s * 7) % 5 / 10")
B = gives("91 + (s * 7) % 5 / 10 + (s * 3) % 4 / 50")
NULL = gives("90 + (s * 3) % 5 / 10")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*arguments: str, a: str = A, b: str = B, runs: int = 4) -> int:
    return main(["compare", "--metric", "acc", "--a", a, "--b", b, "--runs", str(runs), *arguments])


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(OUT).read_text().splitlines()]


def test_a_real_difference_gives_1_and_every_run_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("--json", "v.json", "--html", "v.html") == 1
    said = capsys.readouterr().out
    assert said.startswith("REAL: acc of B is 1.030 higher (better) on average than A's, in 4 pairs")
    found = Comparison.from_json(Path("v.json").read_text())
    assert str(found) == said.strip()
    assert (found.a, found.b, found.repeats) == (A, B, "metrics")
    assert "<h1>REAL</h1>" in Path("v.html").read_text()
    runs = [line["run"] for line in lines() if "run" in line]
    assert [(run["side"], run["seed"], run["repeat"]) for run in runs[:3]] == [
        ("A", 0, False),
        ("B", 0, False),
        ("A", 0, True),
    ]
    assert len(runs) == 9
    assert runs[0]["metrics"] == {"acc": 90.0, "epoch": 3.0}


def test_no_difference_gives_0_and_equal_digests_are_inert(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(b=NULL) == 0
    assert compare("--out", "noise", "--min-effect", "50", b=NULL) == 0
    assert compare("--out", "inert", a=gives("90", "abc"), b=gives("90", "abc"), runs=1) == 0
    said = capsys.readouterr().out
    assert [word for word in ("UNDECIDED: ", "NOISE: ", "INERT: ") if word not in said] == []


def test_only_what_is_missing_runs_and_each_verdict_on_more_pairs_is_a_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare(b=NULL)
    assert len(Path("ran").read_text().split()) == 9
    compare(b=NULL)
    assert len(Path("ran").read_text().split()) == 9
    assert "look 1" in capsys.readouterr().out
    compare(b=NULL, runs=6)
    assert len(Path("ran").read_text().split()) == 13
    assert "look 2" in capsys.readouterr().out
    assert main(["compare", OUT, "--metric", "acc"]) == 0
    assert "look 2" in capsys.readouterr().out
    assert [line["look"] for line in lines() if "look" in line] == [4, 6]


def test_fewer_than_three_pairs_are_no_look() -> None:
    compare(runs=2)
    assert not any("look" in line for line in lines())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo my last words >&2; exit 3", "exit status 3: my last words"),
        ("kill -9 $$", "killed by signal 9"),
        ("true", "wrote nothing to {json}"),
        ("echo no > {json}", "wrote no JSON to {json}"),
        ("echo '[1]' > {json}", "wrote no JSON object to {json}, but list"),
        ("echo '{\"loss\": 1}' > {json}", "gave no acc, but loss: left out"),
        ("echo '{\"acc\": true}' > {json}", "gave no acc, but nothing: left out"),
        ("echo '{\"acc\": NaN}' > {json}", "gave acc = nan: left out"),
        ("echo '{\"acc\": 1e999}' > {json}", "gave acc = inf: left out"),
        ("head -c 2000000 /dev/zero > {json}", "wrote more than 1 MiB to {json}"),
    ],
)
def test_a_command_that_goes_wrong_is_named_with_its_seed_and_left_out(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On seed 2 of B alone."""
    assert compare(b=f"if [ {{seed}} = 2 ]; then {command}; else {B}; fi") == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "in 3 pairs" in text
    assert f"note: B on seed 2 failed: {said}" in text or f"note: B on seed 2 {said}" in text


def test_a_metric_that_the_first_run_does_not_write_ends_it_there(capsys: pytest.CaptureFixture[str]) -> None:
    command = "echo '{\"loss\": {seed}}' > {json}"
    assert main(["compare", "--runs", "4", "--metric", "acc", "--out", OUT, "--a", command, "--b", command]) == 2
    assert "got 'acc': A on seed 0 wrote 'loss'; its run is kept in" in capsys.readouterr().err
    assert len([line for line in lines() if "run" in line]) == 1
    assert main(["compare", "--runs", "4", "--metric", "loss", "--out", OUT, "--a", command, "--b", command]) == 0


def test_a_failed_run_is_tried_again_and_no_longer_named(capsys: pytest.CaptureFixture[str]) -> None:
    flaky = f"[ -e there ] || [ {{seed}} != 1 ] || exit 1; {B}"
    compare(b=flaky)
    assert "B on seed 1 failed: exit status 1" in capsys.readouterr().out
    Path("there").touch()
    compare(b=flaky)
    said = capsys.readouterr().out
    assert "failed" not in said
    assert "in 4 pairs" in said


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    run = run_command("echo hm; sleep 99 & echo $! > child; wait; : {json}", "A", 0, False, 0.3)
    assert run.failure == "no end after 0.3 s: hm"
    assert gone(int(Path("child").read_text()))


def test_a_child_that_does_not_listen_is_ended_too() -> None:
    run_command("(trap '' TERM; echo $$ > leader; sleep 99 & echo $! > child; wait) & wait", "A", 0, False, 0.3)
    assert gone(int(Path("child").read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_loses_no_finished_run_and_ends_the_children(number: int) -> None:
    hangs = f"if [ {{seed}} = 1 ]; then sleep 99 & echo $! > child.part; mv child.part child; wait; fi; {B}"
    command = [sys.executable, "-m", "detprobe", "compare", "--metric", "acc", "--a", A, "--b", hangs]
    path = os.pathsep.join([str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not Path("child").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert gone(int(Path("child").read_text()))
    assert [(line["run"]["side"], line["run"]["seed"]) for line in lines()[1:]] == [
        ("A", 0),
        ("B", 0),
        ("A", 0),
        ("A", 1),
    ]


def test_a_second_writer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with open(OUT, "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert compare() == 2
    assert "another detprobe is writing to it" in capsys.readouterr().err
    assert not Path("ran").exists()


def test_a_line_that_was_cut_off_is_named_and_runs_again(capsys: pytest.CaptureFixture[str]) -> None:
    compare()
    whole = Path(OUT).read_bytes()
    last = whole.rindex(b'{"run"')
    Path(OUT).write_bytes(whole[: last + 30])
    assert compare() == 1
    said = capsys.readouterr()
    assert "the last line of detprobe-compare.jsonl was cut off and is left out: 30 bytes" in said.err
    assert "in 4 pairs" in said.out
    assert len(Path("ran").read_text().split()) == 10
    assert all(isinstance(line, dict) for line in lines())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not ours", "no whole line"),
        (b"not ours\n", "line 1: expected one JSON object a line"),
        (b"\x80\x04\x95pickle\n", "line 1: expected one JSON object a line"),
        (b"[" * 100_000 + b"\n", "line 1: expected one JSON object a line"),
        (b"[]\n", "line 1: expected a JSON object, got list"),
        (b'{"kind": "scan"}\n', "line 1: expected a file that `detprobe compare` wrote"),
        (b'{"kind": "detprobe-runs", "schema": 2, "a": "", "b": ""}\n', "expected schema 1, got 2"),
        (b'{"kind": "detprobe-runs", "schema": 1, "a": "x", "b": "y"}\n', "--a was 'x': choose another --out"),
        (b'{"kind": "detprobe-runs", "schema": 1, "a": "x", "b": "y"}\n{"run": 5}\n', "line 2: not a detprobe report"),
        (b'{"kind": "detprobe-runs", "schema": 1, "a": "x", "b": "y"}\n{"look": []}\n', "expected a run or a look"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_was(
    data: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(OUT).write_bytes(data)
    assert compare() == 2
    assert said in capsys.readouterr().err
    assert Path(OUT).read_bytes() == data
    assert not Path("ran").exists()


def test_every_cut_of_a_file_and_every_flipped_byte_is_read_or_refused() -> None:
    compare(runs=1)
    whole = Path(OUT).read_bytes()
    outcomes = set()
    for at in range(0, len(whole), 7):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            Path(OUT).write_bytes(data)
            try:
                with open_results(OUT, create=False) as results:
                    outcomes.add(len(results.latest))
            except ArgumentValueError:
                outcomes.add(-1)
    assert {-1, 0, 1, 2, 3} <= outcomes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected --a and --b, or a file of results"),
        (["--a", A], "expected --a and --b, or a file of results"),
        ([OUT, "--a", A], "got both"),
        (["none.jsonl"], "none.jsonl: cannot be opened"),
        (["."], "no regular file"),
        (["--a", "x {json}", "--b", B], "--a: expected {seed} in the command"),
        (["--a", A, "--b", "x {seed}"], "--b: expected {json} in the command"),
        (["--a", A, "--b", B, "--runs", "0"], "--runs: expected at least 1"),
        (["--a", A, "--b", B, "--min-effect", "0"], "--min-effect: expected a finite number above 0"),
        (["--a", A, "--b", B, "--timeout", "nan"], "--timeout: expected a finite number above 0"),
        (["--a", A, "--b", B, "--json", "no/such/file"], "expected a file name in a folder that exists"),
    ],
)
def test_usage_errors_give_2_and_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--metric", "acc", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not Path("ran").exists()


def test_when_nothing_ends_well_the_reasons_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(a="exit 4 # {seed} {json}") == 2
    assert "A on seed 0 failed: exit status 4" in capsys.readouterr().err
