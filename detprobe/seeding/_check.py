"""`Run.check`: what seeding leaves free on this device, as rows of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detprobe.seeding import _report as status
from detprobe.seeding._report import Setting

if TYPE_CHECKING:
    from detprobe.probe_report import ProbeReport
    from detprobe.result import Report

__all__ = ["check_rows"]


def _rows_of_scan(report: Report) -> list[Setting]:
    """Of each finding what differed, and the fix that was tried."""
    if not report.findings:
        return [Setting("scan", "same bits", f"{len(report.ops)} ops, none seen to differ", status.OK)]
    rows = []
    for one in report.findings:
        place = one.location or one.module
        said = f"{one.verdict} ({one.axis}): {one.distinct} results in {one.replays} replays"
        fix = f"{one.fix}: {one.fix_result}" if one.fix else one.cause
        rows.append(Setting(f"{one.op} {place}".strip(), "same bits", said, status.FREE, fix))
    return rows


def _rows_of_advice(report: ProbeReport) -> list[Setting]:
    """Of each setting that the probes asked about whether it leaves the order of additions free."""
    rows = []
    for name, now, free, evidence, fix, _ in report.tables[0].rows:
        found = status.FREE if free else status.OK
        rows.append(Setting(f"probe: {name}", "fixed order", f"{now}: {evidence}", found, str(fix) if free else ""))
    return rows


def check_rows(model: Any, inputs: Any, options: dict[str, Any]) -> list[Setting]:
    """Scan the model, and ask the probes about the device that it is on."""
    from detprobe.probes import advise
    from detprobe.scanning import scan
    from detprobe.scanning._tree import tensors_in

    report = scan(model, inputs, **options)
    parameters = list(model.parameters()) if hasattr(model, "parameters") else []
    kinds = {tensor.device.type for tensor in (*parameters, *tensors_in(inputs))}
    return [*_rows_of_scan(report), *_rows_of_advice(advise("cuda" if "cuda" in kinds else "cpu"))]
