"""Reports as data: they come back from JSON as they were, and a file from elsewhere is refused with a sentence."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detprobe import DetprobeError, Finding, OpRow, Report, Trial
from detprobe.result import FINDING_VERDICTS, OTHER_VERDICTS, bound

texts = st.text(max_size=20)
floats = st.floats(allow_nan=False)
counts = st.integers(0, 2**63)
trials = st.builds(
    Trial, fix=texts, result=st.sampled_from(["identical", "refuses", "still differs"]), cost=st.none() | floats
)
findings = st.builds(
    Finding,
    verdict=st.sampled_from(FINDING_VERDICTS),
    calls=counts,
    distinct=counts,
    replays=counts,
    changed=floats,
    max_ulp=st.none() | counts,
    max_abs=st.none() | floats,
    trials=st.lists(trials, max_size=3).map(tuple),
)
rows = st.builds(OpRow, verdict=st.sampled_from((*FINDING_VERDICTS, *OTHER_VERDICTS)), bound=st.none() | floats)
reports = st.builds(
    Report,
    findings=st.lists(findings, max_size=3).map(tuple),
    ops=st.lists(rows, max_size=3).map(tuple),
    environment=st.dictionaries(texts, texts | st.none() | st.booleans()),
    settings=st.dictionaries(texts, texts | counts),
    notes=st.lists(texts, max_size=3).map(tuple),
    seconds=floats,
    schema=st.just(1),
)


@given(reports)
def test_a_report_comes_back_from_json_as_it_was(report: Report) -> None:
    text = report.to_json()
    assert Report.from_json(text) == report
    assert Report.from_json(text).to_json() == text


def sample(**changes: Any) -> Report:
    finding = Finding(
        op="aten::index_put",
        phase="backward",
        module="graph",
        location="model.py:7",
        verdict="nondeterministic",
        axis="rerun",
        calls=2,
        distinct=8,
        replays=8,
        changed=0.18,
        max_ulp=512,
        max_abs=2.4e-7,
        cause="Values differ.",
        trials=(Trial("torch.use_deterministic_algorithms(True)", "identical", 0.5),),
    )
    row = OpRow("aten::mm", "forward", "", "model.py:9", "stable", 3, 8, bound(8), "", "float32[4, 4]")
    report = Report("Net", (finding,), (row,), {"torch": "2"}, {"replays": 8, "device": "cpu"}, ("A note.",), 1.5)
    return dataclasses.replace(report, **changes)


def test_infinite_and_nan_measures_survive_strict_json() -> None:
    finding = dataclasses.replace(sample().findings[0], max_abs=math.inf, changed=math.nan)
    text = sample(findings=(finding,)).to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    again = Report.from_json(text).findings[0]
    assert again.max_abs == math.inf
    assert math.isnan(again.changed)


def edited(*path: Any, value: Any) -> str:
    raw = json.loads(sample().to_json())
    inner = raw
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the JSON text of a detprobe report, got something else"),
        ("[" * 100_000, "expected the JSON text of a detprobe report"),
        ("[]", "an object with a 'schema' entry"),
        ("{}", "an object with a 'schema' entry"),
        ('{"schema": 1}', "findings: expected a list, got NoneType"),
        ('{"schema": 2}', "expected schema 1, got 2: read it with the detprobe that wrote it"),
        (edited("findings", value=[3]), "Finding: expected an object, got int"),
        (edited("findings", 0, "trials", value=None), "trials: expected a list, got NoneType"),
        (edited("findings", 0, "calls", value="<script>"), "Finding.calls: expected int, got '<script>'"),
        (edited("findings", 0, "verdict", value="fine"), "Finding.verdict: expected one of nondeterministic"),
        (edited("ops", 0, "bound", value=[]), "OpRow.bound: expected float | None, got []"),
        (edited("ops", 0, "calls", value=True), "OpRow.calls: expected int, got True"),
        (edited("notes", value=[1]), "notes: expected strings"),
        (edited("environment", value=[]), "Report.environment: expected dict"),
        (edited("surprise", value=1), "unexpected keyword argument 'surprise'"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(DetprobeError) as caught:
        Report.from_json(text)
    assert said in str(caught.value)


def test_a_missing_entry_is_named() -> None:
    raw = json.loads(sample().to_json())
    del raw["findings"][0]["op"]
    with pytest.raises(DetprobeError, match=r"Finding\.op is missing"):
        Report.from_json(json.dumps(raw))


@pytest.mark.parametrize("replays", [2, 8, 59, 1000])
def test_the_bound_is_the_probability_that_stays_unseen_one_time_in_twenty(replays: int) -> None:
    assert (1 - bound(replays)) ** (replays - 1) == pytest.approx(0.05)
