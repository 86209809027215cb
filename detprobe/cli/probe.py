"""`detprobe probe`: ask this device what leaves the order of additions free, and say so with the exit code."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from detprobe.cli.output import check_writable, show

__all__ = ["add_to"]

_EPILOG = """\
exit codes: 0 no float-ordering freedom seen, 1 seen by at least one probe, 2 usage, 3 not available on this machine

example: detprobe probe gemm advise --device cpu --html probes.html"""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "probe",
        help="show why results move on this device: atomics, convolutions, products, orders of sums, settings",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="probes to run; all of them without a name (--list shows them)")
    devices = "cpu, cuda, cuda:1 or emulator (default: the GPU where there is one, else cpu and emulator)"
    add("--device", metavar="D", help=devices)
    add("--json", metavar="F", help="write the reports as JSON too; - for stdout instead of the text")
    add("--html", metavar="F", help="write the reports as one HTML file too")
    add("--list", action="store_true", help="list the probes and the devices that they know")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    for path in (arguments.json, arguments.html):
        check_writable(path)
    from detprobe.probes._registry import PROBES, run_all

    if arguments.list:
        width = max(len(probe.name) for probe in PROBES)
        for probe in PROBES:
            print(f"{probe.name:<{width}}  {', '.join(probe.devices)}")
        return 0
    reports = run_all(arguments.device, only=arguments.names, progress=sys.stderr.isatty())
    show(reports, json=arguments.json, html=arguments.html)
    return 0 if reports.ok else 1
