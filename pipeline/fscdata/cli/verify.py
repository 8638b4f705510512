"""fscdata verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fscdata.base.display import display
from fscdata.base.paths import data_path
from fscdata.base.text import plural, printable
from fscdata.cli.options import Data
from fscdata.executors import create_executor
from fscdata.steps import verify as step

_LONGEST = 500  # characters per cell; footers may contain untrusted text of any length


def verify(
    data: Data,
    repair: Annotated[bool, typer.Option("--repair", help="remake the broken tables")] = False,
    captions_dir: Annotated[
        Path | None,
        typer.Option(help="folder of <key>.txt files, if the captions came from one"),
    ] = None,
) -> None:
    """Check every table against its tar.

    The exit code is 0 if there are no faults, else 1.

    Images are not decoded; training skips damaged ones.
    """
    place = data_path(data)
    with display() as reporter:
        report = step.verify(place, captions_dir, reporter=reporter)
        if repair:
            executor = create_executor("local")
            report = step.repair(place, report, captions_dir, executor, reporter)
    _print_report(data, report, Console())
    if report.faults:
        raise typer.Exit(1)


def _print_report(data: str, report: step.VerifyReport, console: Console) -> None:
    """Print a table of the findings, then one line with totals."""
    if report.findings:
        table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
        table.add_column("file", overflow="fold")
        table.add_column("problem", overflow="fold")
        table.add_column("repairable", no_wrap=True)
        for finding in report.findings:
            name = str(finding.path).removeprefix(f"{data}/")
            cells = (name, finding.problem, finding.repair.value)
            table.add_row(*(Text(printable(cell[:_LONGEST])) for cell in cells))
        console.print(table)
    console.print(Text(printable(_summary(data, report))), soft_wrap=True)


def _summary(data: str, report: step.VerifyReport) -> str:
    line = f"{data}: {len(report.survey.tars):,} tars, {report.tables:,} tables"
    if report.repaired:
        line += f", {len(report.repaired):,} tables repaired"
    faults = report.faults
    if not faults:
        return f"{line}; no faults"
    files = len({fault.path for fault in faults})
    line += f"; {plural(len(faults), 'fault')} in {plural(files, 'file')}"
    if repairable := len(report.repairable):
        line += f", {repairable:,} repairable: run 'fscdata verify {data} --repair'"
    return line
