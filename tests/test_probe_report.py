"""Reports of probes: they come back from JSON as they were, every view says what the data say, and nothing more."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import HOSTILE, Elements

from detprobe import DetprobeError, Report
from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.probe_report import Bars, Column, Histogram, ProbeReport, ProbeReports, Table, TreeFigure
from detprobe.report import probe_wording as wording
from detprobe.report.html import render_fragment, render_page
from detprobe.report.terminal import render_text
from detprobe.sum_tree import SumTree

TREE = SumTree(4, ((0, 1), (2, 3), (4, 5)))
NAMES = st.text(max_size=12)
CELLS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NAMES


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = tuple(draw(st.lists(st.builds(Column, NAMES, NAMES, st.integers(1, 9)), min_size=1, max_size=4)))
    rows = draw(st.lists(st.tuples(*[CELLS] * len(columns)), max_size=4))
    return Table(draw(NAMES), columns, tuple(rows))


VALUES = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30)
FIGURES = st.one_of(
    st.builds(lambda title, values, unit: Histogram.of(title, values, unit=unit), NAMES, VALUES, NAMES),
    st.lists(st.tuples(NAMES, st.none() | st.floats(0, 1e300)), max_size=5).map(
        lambda bars: Bars("b", "ms", tuple(name for name, _ in bars), tuple(value for _, value in bars))
    ),
    st.just(TreeFigure("t", TREE)),
)
REPORTS = st.builds(
    ProbeReport,
    environment=st.dictionaries(NAMES, NAMES),
    settings=st.dictionaries(NAMES, st.integers()),
    findings=st.lists(NAMES, max_size=3).map(tuple),
    tables=st.lists(tables(), max_size=2).map(tuple),
    figures=st.lists(FIGURES, max_size=2).map(tuple),
    notes=st.lists(NAMES, max_size=3).map(tuple),
    seconds=st.floats(0, 1e9),
    schema=st.just(1),
)


def sample(**changes: Any) -> ProbeReport:
    report = ProbeReport(
        name="atomic_add",
        question="Does a sum by atomic adds repeat?",
        device="cpu",
        environment={"torch": "2"},
        settings={"runs": 50},
        free=True,
        findings=("50 runs gave 37 distinct results.",),
        tables=(
            Table(
                "By size",
                (Column("n"), Column("dtype"), Column("spread", "ULP"), Column("time", "ms", 2)),
                ((1048576, "float32", 12, 1.23456), (64, "nan", None, math.inf)),
            ),
        ),
        figures=(
            Histogram.of("Results", [1, 2, 2, 3, 5], unit="ULP from the exact sum", marks=[("fixed order", 1.0)]),
            Bars("Time", "ms", ("a", "b"), (1.0, None)),
            TreeFigure("Order", TREE),
        ),
        notes=("There is no GPU.",),
        seconds=1.5,
    )
    return dataclasses.replace(report, **changes)


def hostile() -> ProbeReport:
    return sample(
        name=HOSTILE,
        question=HOSTILE,
        device=HOSTILE,
        environment={HOSTILE: HOSTILE},
        settings={HOSTILE: HOSTILE},
        findings=(HOSTILE,),
        tables=(Table(HOSTILE, (Column(HOSTILE, HOSTILE),), ((HOSTILE,),)),),
        figures=(
            Histogram.of(HOSTILE, [1.0], unit=HOSTILE, marks=[(HOSTILE, 1.0)]),
            Bars(HOSTILE, HOSTILE, (HOSTILE,), (1.0,)),
            TreeFigure(HOSTILE, TREE),
        ),
        notes=(HOSTILE,),
    )


def several(*reports: ProbeReport) -> ProbeReports:
    return ProbeReports("cpu", reports, (("conv", "There is no cuDNN."),), 2.0)


@settings(max_examples=30, deadline=None)
@given(REPORTS)
def test_a_report_comes_back_from_json_as_it_was(report: ProbeReport) -> None:
    assert ProbeReport.from_json(report.to_json()) == report
    assert ProbeReports.from_json(several(report).to_json()) == several(report)


def test_cells_that_json_has_no_number_for_come_back_and_stay_apart_from_texts() -> None:
    rows = ProbeReport.from_json(sample().to_json()).tables[0].rows
    assert rows[1][1] == "nan"
    assert rows[1][3] == math.inf


@settings(max_examples=30, deadline=None)
@given(REPORTS)
def test_every_report_can_be_shown(report: ProbeReport) -> None:
    for what in (report, several(report)):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", str(what))
        elements = Elements()
        elements.feed(render_page(what))
        assert elements.open == []


@pytest.mark.parametrize("report", [sample(), hostile(), several(sample(), hostile()), several()])
def test_the_page_is_whole_offline_and_has_only_its_own_script(report: Any) -> None:
    elements = Elements()
    elements.feed(render_page(report))
    assert elements.open == []
    assert elements.links == []
    assert elements.names.count("script") == 1
    fragment = Elements()
    fragment.feed(render_fragment(report))
    assert {"script", "html", "body"}.isdisjoint(fragment.names)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_asked(width: int) -> None:
    assert max(map(len, render_text(several(hostile(), sample()), width=width).splitlines())) <= width


def test_the_text_says_what_the_data_say() -> None:
    text = str(sample())
    assert text.splitlines()[0] == "atomic_add on cpu: the order of additions is free"
    assert "- 50 runs gave 37 distinct results." in text
    assert re.search(r"1048576 +float32 +12 +1\.2\n", text)
    assert re.search(r"64 +nan +- +inf", text)
    assert re.search(r" 1 +#{20} +1 +fixed order", text)
    assert re.search(r" 2 +#{40} +2", text)
    assert "pairwise over 4 elements" in text
    assert text.endswith("note: There is no GPU.")
    assert "no float-ordering freedom seen" in str(sample(free=False))


def test_several_reports_start_with_a_table_of_all() -> None:
    reports = several(sample(), sample(name="gemm", free=False, findings=()))
    text = str(reports)
    assert text.startswith("2 probes on cpu: float-ordering freedom seen by atomic_add")
    assert re.search(r"atomic_add +free +1\.5 +50 runs", text)
    assert re.search(r"gemm +fixed +1\.5", text)
    assert re.search(r"conv +not run +- +There is no cuDNN\.", text)
    assert not reports.ok
    assert reports["gemm"].ok
    with pytest.raises(KeyError):
        reports["conv"]


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(4.0, 3, "4"), (1234.5, 3, "1230"), (0.000012, 2, "1.2e-05"), (1e12, 3, "1e+12"), (math.nan, 3, "nan")],
)
def test_numbers_are_printed_to_their_digits(value: float, digits: int, said: str) -> None:
    assert wording.number(value, digits) == said


@settings(deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40), st.integers(1, 20))
def test_a_histogram_counts_every_value_once_and_in_its_bin(values: list[float], bins: int) -> None:
    found = Histogram.of("h", values, unit="ULP", bins=bins)
    for i, count in enumerate(found.counts):
        low, high = found.edges[i], found.edges[i + 1]
        last = i + 1 == len(found.counts)
        assert count == sum(low <= value < high or (last and value == high) for value in values)
    assert sum(found.counts) == len(values)


def test_few_whole_numbers_get_a_bin_each() -> None:
    found = Histogram.of("h", [-1, 0, 0, 2], unit="ULP")
    assert wording.bins(found) == [("-1", 1, ""), ("0", 2, ""), ("1", 0, ""), ("2", 1, "")]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Histogram.of("h", [], unit=""), "at least one value"),
        (lambda: Histogram.of("h", [math.nan], unit=""), "all of them finite"),
        (lambda: Histogram("h", "", (0.0, 0.0), (1,)), "rising edges"),
        (lambda: Histogram("h", "", (0.0, 1.0), (1,), (("exact", math.inf),)), "finite marks"),
        (lambda: Bars("b", "", ("a",), (-1.0,)), "none negative"),
        (lambda: Table("t", (Column("a"),), ((1, 2),)), "expected 1 cells in each row, got 2"),
        (lambda: SumTree(3, ((0, 1),)), "not every one of 3 elements"),
        (lambda: SumTree(2, ((0, 2),)), "sum 2 cannot be of (0, 2)"),
        (lambda: SumTree.from_nested(((0, 1), 1)), "each of 0 .. 2 once"),
        (lambda: SumTree.from_nested(("a", 1)), "whole numbers"),
        (lambda: TREE.parting(SumTree(2, ((0, 1),))), "over the same elements, got 4 and 2"),
    ],
)
def test_data_that_cannot_be_shown_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError)) as caught:
        make()
    assert said in str(caught.value)


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
        ("[]", "an object with a 'schema' entry"),
        (edited("kind", value="scan"), "expected a report of kind 'probe', got 'scan'"),
        (edited("kind", value=[]), "expected a report of kind 'probe', got []"),
        (edited("schema", value=2), "expected schema 1, got 2"),
        (edited("free", value=1), "ProbeReport.free: expected bool, got 1"),
        (edited("device", value=None), "ProbeReport.device: expected str, got None"),
        (edited("findings", value=[1]), "findings: expected strings"),
        (edited("tables", value=3), "tables: expected a list, got int"),
        (edited("tables", 0, value="<script>"), "columns: expected a list, got NoneType"),
        (edited("tables", 0, "rows", 0, value=[1]), "expected 4 cells in each row, got 1"),
        (edited("tables", 0, "rows", 0, 0, value=[1]), "a cell: expected a number, a text or null, got [1]"),
        (edited("tables", 0, "rows", 0, 0, value={"float": 3}), "a cell: expected a number"),
        (edited("tables", 0, "columns", 0, "digits", value="many"), "Column.digits: expected int, got 'many'"),
        (edited("figures", 0, "figure", value="pie"), "expected one of histogram, bars, tree, got 'pie'"),
        (edited("figures", 0, "edges", value=[1]), "expected finite, rising edges"),
        (edited("figures", 0, "counts", value=["1"]), "counts: expected numbers"),
        (edited("figures", 0, "marks", value=[1]), "marks: expected pairs"),
        (edited("figures", 1, "values", value=[-1, 2]), "none negative"),
        (edited("figures", 2, "tree", "nodes", value=[[0, 1]]), "not every one of 4 elements"),
        (edited("figures", 2, "tree", "nodes", value=[["0", 1]]), "expected whole numbers"),
        (edited("figures", 2, "tree", "n", value=10**15), "not every one of 1000000000000000 elements"),
        (edited("figures", 2, "tree", "n", value=-1), "not a summation tree"),
        (edited("figures", 2, "tree", value=3), "expected an object of n and nodes"),
        (edited("surprise", value=1), "unexpected keyword argument 'surprise'"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(DetprobeError) as caught:
        ProbeReport.from_json(text)
    assert said in str(caught.value)


def test_a_report_of_another_kind_is_refused() -> None:
    for text, kind in ((sample().to_json(), Report), (several(sample()).to_json(), ProbeReport)):
        with pytest.raises(DetprobeError, match="expected a report of kind"):
            kind.from_json(text)
    with pytest.raises(DetprobeError, match="reports: expected a list"):
        ProbeReports.from_json('{"kind": "probes", "schema": 1}')


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32))
def test_a_fingerprint_knows_the_order_and_not_the_sides(n: int, seed: int) -> None:
    own = Random(seed)

    def tree(sides: bool) -> tuple[Any, Any]:
        choices, terms = Random(seed), [(i, i) for i in range(n)]
        while len(terms) > 1:
            a, b = (terms.pop(choices.randrange(len(terms))) for _ in range(2))
            terms.append(((a[0], b[0]), (b[1], a[1]) if own.random() < 0.5 or sides else (a[1], b[1])))
        return terms[0]

    left, right = (SumTree.from_nested(item) for item in tree(True))
    assert left.fingerprint() == right.fingerprint()
    assert left.parting(right) is None
    assert SumTree.from_nested(left.nested).fingerprint() == left.fingerprint()


def test_fingerprints_are_the_same_in_every_version() -> None:
    assert TREE.fingerprint() == "597ca88278bff22fbd5a38ef48fac94c"


def test_two_trees_part_where_they_split_the_same_elements_in_two_ways() -> None:
    a, b = (SumTree.from_nested(((0, ((1, 2), 3)), inner)) for inner in ((4, (5, 6)), ((4, 5), 6)))
    parting = a.parting(b)
    assert parting is not None
    assert parting.elements == (4, 5, 6)
    assert str(parting) == "3 elements from x[4] to x[6]: x[4] + 2 from x[5], against 2 from x[4] + x[6]"
