"""`detprobe run`: what it sets, what it leaves alone, and what it passes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detprobe.cli import main

SCRIPT = """
import os, random, sys
import torch, neighbour
print(random.random(), float(torch.rand(())), hash("a"), sys.argv[1:], __name__)
print(os.environ["PYTHONHASHSEED"], os.environ.get("MKL_CBWR"), torch.get_num_threads())
torch.backends.mkldnn.deterministic = False
if __name__ == "__main__":
    sys.exit(int(sys.argv[2]))
"""


def run(folder: Path, *options: str, code: int = 0, **environment: str) -> tuple[str, dict[str, Any]]:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "neighbour.py").write_text("")
    here = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-m", "detprobe", "run", *options, "--", "script.py", "--seed", str(code)]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PYTHONPATH": here, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, json.loads((folder / "detprobe-run.json").read_text())


def test_a_run_repeats_and_tells_what_was_set(tmp_path: Path) -> None:
    options = ("--seed", "42", "--mode", "warn", "--profile", "portable-cpu")
    said, manifest = run(tmp_path, *options, code=7, MKL_CBWR="AVX2")
    assert said.splitlines()[1] == "42 AVX2 1"  # the user's own value stays
    assert "['--seed', '7'] __main__" in said
    assert manifest["variables"]["MKL_CBWR"] == {"value": "AVX2", "set_by": "user"}
    assert manifest["variables"]["PYTHONHASHSEED"] == {"value": "42", "set_by": "detprobe"}
    assert (manifest["exit_code"], manifest["seed"], manifest["mode"]) == (7, 42, "warn")
    rows = {row["name"]: row["status"] for row in manifest["settings"]["rows"]}
    assert rows["PYTHONHASHSEED"] == "OK"
    assert rows["mkldnn.deterministic"] == "OVERRIDDEN"  # by the script, seen at its end
    assert manifest["environment"]["threads"] == 1
    again, _ = run(tmp_path, *options, code=7, MKL_CBWR="AVX2")
    assert again == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "1", "--", "nowhere.py"], "nowhere.py: there is no such file"),
        (["--seed", "-1", "--", __file__], "expected an integer from 0"),
        (["--seed", "1", "--manifest", "no/folder.json", "--", __file__], "a folder that exists"),
    ],
)
def test_usage_errors(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_profile(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--seed", "1", "--profile", "fast", "--", __file__])
    assert "invalid choice: 'fast'" in capsys.readouterr().err
