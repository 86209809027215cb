"""Streams, steps, isolation, flags and state of a seeded run, in this process and in fresh ones."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import detprobe
from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.seeding import _flags, _keys, _registry, _run


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with detprobe.isolate_rng():
        yield


def seed(value: int = 42, **options: Any) -> detprobe.Run:
    return detprobe.seed_everything(value, quiet=True, **options)


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_keys_are_the_golden_ones() -> None:
    golden = {
        (0,): 11014355077683719173,
        (42, "init"): 17228232707379640827,
        (2**64 - 1, "step", -1, 3): 8160896252969753418,
    }
    assert {parts: _keys.derive(*parts) for parts in golden} == golden


def test_keys_tell_parts_and_types_apart() -> None:
    keys = {_keys.derive(0, *parts) for parts in [("a", "bc"), ("ab", "c"), ("abc",), ("1",), (1,), (1, 1), (11,)]}
    assert len(keys) == 7


def test_no_stream_is_shared_among_seeds_ranks_and_epochs() -> None:
    low = {
        _keys.derive(s, "step", e, 0, "rank", r) & _keys.LOW for s in range(10) for r in range(64) for e in range(10)
    }
    assert len(low) == 6400
    assert len({s + r + e for s in range(10) for r in range(64) for e in range(10)}) < 100  # what adding gives


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    found = []
    for value in (1, 1, 2, 1 + 2**32):
        seed(value)
        found.append(tuple(draws()))
    assert found[0] == found[1]
    for column in zip(found[0], found[2], found[3], strict=True):
        assert len(set(column)) == 3


def test_a_stream_shifts_nothing_and_is_shifted_by_nothing() -> None:
    run = seed()
    with run.stream("init"):
        first = draws()
    outside = draws()
    run = seed()
    torch.rand(1000)
    with run.stream("init"):
        assert draws() == first
    seed()
    assert draws() == outside
    with run.stream("other"):
        assert draws() != first
    with run.stream("init", 1):
        assert draws() != first


def test_scopes() -> None:
    runs = [_run.Run(7, None, rank, 2) for rank in range(2)]
    shared, own = (
        [torch.rand(3, generator=r.generator("x", per_rank=p)).tolist() for r in runs] for p in (False, True)
    )
    assert shared[0] == shared[1]
    assert own[0] != own[1]


def test_a_step_draws_the_same_whatever_was_drawn_before() -> None:
    def steps(extra: int) -> list[list[float]]:
        run = seed()
        found = []
        for epoch in range(2):
            run.epoch(epoch)
            for _ in range(2):
                run.step()
                found.append(draws())
                torch.rand(extra)
        return found

    assert steps(0) == steps(5)
    assert len({tuple(row) for row in steps(0)}) == 4


def test_isolation_survives_an_exception_and_keeps_the_result() -> None:
    seed()
    expected = draws()
    seed()
    with pytest.raises(ZeroDivisionError), detprobe.isolate_rng():
        _ = draws()[0] / 0
    assert draws() == expected
    assert detprobe.isolate_rng()(lambda: 3)() == 3
    assert not torch.cuda.is_initialized()


@pytest.fixture
def sim() -> Iterator[list[int]]:
    state = [0]
    detprobe.register_rng(
        "sim",
        seed=lambda s: state.__setitem__(0, s),
        get_state=lambda: state[0] >> 1,
        set_state=lambda s: state.__setitem__(0, s << 1),
    )
    yield state
    del _registry._known["sim"]


def test_a_registered_generator_is_seeded_and_isolated(sim: list[int]) -> None:
    run = seed()
    assert sim[0] > 2**32
    sim[0] = 10
    with detprobe.isolate_rng():
        sim[0] = 4
    assert sim[0] == 10
    assert run.report.row("sim").status == "OK"


def test_resume_in_the_middle_of_an_epoch() -> None:
    run = seed()
    run.epoch(1)
    run.step()
    draws()
    file = io.BytesIO()
    torch.save(run.state_dict(), file)
    rest = draws()
    run.step()
    following = draws()
    again = seed()
    draws()
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert draws() == rest
    again.epoch(1)
    again.step()
    assert draws() == following
    assert again.report.row("torch cpu").status == "OK"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"world_size": 2}, "world_size: the state was saved with 2, and here it is 1"),
        ({"rank": 1}, "rank: the state was saved with 1"),
        ({"seed": "7"}, "seed: the state was saved with 7, and here it is 42"),
        ({"devices": {"cuda": 8}}, "devices: the state was saved with {'cuda': 8}"),
        ({"version": 9}, "version 1, got 9"),
        ({"more": 1}, "gave; foreign: more"),
        ({"generators": {"python": 1}}, "gave; missing: numpy, cpu, devices, registered"),
        ({"loaders": {"train": {"epoch": 1}}}, "gave; missing: samples"),
        ({"generators": 3}, "a dict with python, numpy, cpu, devices, registered is a int"),
    ],
)
def test_a_state_from_elsewhere_is_a_loud_error_and_changes_nothing(change: dict[str, Any], said: str) -> None:
    run = seed()
    state = run.state_dict()
    expected = draws()
    run = seed()
    with pytest.raises(ArgumentValueError, match=said.replace("{", r"\{")):
        run.load_state_dict({**state, **change})
    assert draws() == expected


def test_a_state_that_lacks_a_key_says_which() -> None:
    state = seed().state_dict()
    del state["step"]
    with pytest.raises(ArgumentValueError, match="missing: step"):
        seed().load_state_dict(state)


@pytest.mark.parametrize("drawn", [0, 1, 700, 20_000])
def test_a_reseeded_python_or_numpy_generator_is_seen_and_a_drawn_one_is_not(drawn: int) -> None:
    def statuses(run: detprobe.Run) -> list[str]:
        return [run.report.row(name).status for name in ("random", "numpy.random")]

    run = seed()
    np.random.rand(drawn)  # noqa: NPY002
    for _ in range(drawn):
        random.random()
    assert statuses(run) == ["OK", "OK"]
    random.seed(0)
    assert statuses(run) == ["OVERRIDDEN", "OK"]
    np.random.seed(0)  # noqa: NPY002
    assert statuses(run) == ["OVERRIDDEN", "OVERRIDDEN"]
    run.step()
    assert statuses(run) == ["OK", "OK"]


def test_a_missing_registered_generator_is_an_error(sim: list[int]) -> None:
    state = seed().state_dict()
    state["generators"]["registered"].clear()
    with pytest.raises(ArgumentValueError, match=r"register the same ones"):
        seed().load_state_dict(state)


def test_a_mode_sets_flags_and_restore_undoes_them() -> None:
    names = ("deterministic_algorithms", "cudnn.deterministic", "mkldnn.deterministic")
    before = seed().report
    assert {before.row(name).status for name in names} == {"NOT REQUESTED"}
    with seed(mode="error") as run:
        assert {run.report.row(name).status for name in names} == {"OK"}
        assert torch.is_deterministic_algorithms_warn_only_enabled() is False
        assert torch.are_deterministic_algorithms_enabled()
    after = seed().report
    assert [after.row(name).effective for name in names] == [before.row(name).effective for name in names]


def test_a_library_that_changes_a_flag_or_reseeds_is_seen_and_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy_lib.py").write_text(
        "import torch\n\ndef f():\n    torch.backends.{}.deterministic = False\n".format("mkldnn")
    )
    monkeypatch.syspath_prepend(tmp_path)
    import noisy_lib

    # Other tests, which are loaded beside this one, may hold such a line as well.
    monkeypatch.setattr(_flags, "sys", types.SimpleNamespace(modules={"noisy_lib": noisy_lib, "torch": torch}))
    with seed(mode="warn") as run:
        noisy_lib.f()
        row = run.report.row("mkldnn.deterministic")
        assert (row.status, row.wanted, row.effective) == ("OVERRIDDEN", "on", "off")
        assert row.fix.startswith("set at noisy_lib.py:4, the only line found in the loaded sources")
        torch.manual_seed(5)
        assert run.report.row("torch cpu").status == "OVERRIDDEN"
        assert "OVERRIDDEN" in str(run.report)
        assert not run.report.ok


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_seed_out_of_range(value: int) -> None:
    with pytest.raises(ArgumentValueError, match=rf"expected an integer from 0 to 2\*\*64 - 1, got {value}"):
        seed(value)


@pytest.mark.parametrize("value", [1.0, "42", True, None])
def test_a_seed_of_another_type(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="seed: expected an integer"):
        seed(value)


def test_an_unknown_mode_and_a_stream_without_a_name() -> None:
    with pytest.raises(ArgumentValueError, match="mode: expected None, 'warn' or 'error', got 'loud'"):
        seed(mode="loud")
    with pytest.raises(ArgumentValueError, match="expected a name"):
        seed().generator("")


FRESH = """
import os, sys, torch, detprobe
{before}
run = detprobe.seed_everything(1, mode="warn", quiet=True)
print(*(run.report.row(n).status for n in ("PYTHONHASHSEED", "CUBLAS_WORKSPACE_CONFIG")), sep=",")
print(any(r.name == "first draw" for r in run.report.rows))
"""
CUDA = (
    "torch.version.cuda = '13.0'; torch.cuda.is_initialized = lambda: {started}; torch.cuda.default_generators = ()\n"
)


@pytest.mark.parametrize(
    ("before", "environment", "said"),
    [
        (CUDA.format(started=False), {}, "RANDOM,OK\nFalse"),
        (CUDA.format(started=True) + "torch.rand(1)", {"PYTHONHASHSEED": "3"}, "OK,LATE\nTrue"),
        (
            CUDA.format(started=True) + "os.environ.update(PYTHONHASHSEED='0', CUBLAS_WORKSPACE_CONFIG=':16:8')",
            {},
            "LATE,LATE\nFalse",
        ),
        (
            CUDA.format(started=True),
            {"PYTHONHASHSEED": "0", "CUBLAS_WORKSPACE_CONFIG": ":16:8"},
            "OK,OK\nFalse",
        ),
        (
            CUDA.format(started=False) + "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
            {"CUBLAS_WORKSPACE_CONFIG": ":0:0"},
            "RANDOM,OVERRIDDEN\nFalse",
        ),
    ],
)
def test_what_must_be_set_before_the_start(before: str, environment: dict[str, str], said: str) -> None:
    command = [sys.executable, "-c", FRESH.format(before=before)]
    done = subprocess.run(command, env={"PATH": "", **environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == said
