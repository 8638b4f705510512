"""fscdata verify: its options and the table of what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fscdata.base.paths import data_path
from fscdata.base.text import printable
from fscdata.cli.options import Data

if TYPE_CHECKING:
    from fscdata.steps.verify import Report

_LONGEST = 500  # characters of a cell: a stranger may have written much into a file


def verify(
    data: Data,
    repair: Annotated[bool, typer.Option("--repair", help="make again what is broken")] = False,
    captions_dir: Annotated[
        Path | None, typer.Option(help="folder of <key>.txt files, where captions came from one")
    ] = None,
) -> None:
    """Check every table against its tar.

    Exit code 0 if all is well, else 1.

    Pictures are not read; a damaged one is left out in training.
    """
    from fscdata.executors import create_executor
    from fscdata.steps import verify as step

    place = data_path(data)
    with _display() as show:
        report = step.verify(place, captions_dir, progress=show)
        if repair:
            report = step.repair(place, report, captions_dir, create_executor("local"), show)
    print_report(data, report, Console())
    if report.faults:
        raise typer.Exit(1)


@contextmanager
def _display() -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import Progress

    stderr = Console(stderr=True)
    with Progress(console=stderr, disable=not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(
            task, description=f"{stage} shards", completed=done, total=total
        )


def print_report(data: str, report: Report, console: Console) -> None:
    """A table of the findings, then one line with their counts."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if report.findings:
        table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
        table.add_column("file", overflow="fold")
        table.add_column("what is wrong", overflow="fold")
        table.add_column("repairable", no_wrap=True)
        for finding in report.findings:
            name = str(finding.path).removeprefix(f"{data}/")
            cells = (name, finding.problem, finding.mend.value)
            table.add_row(*(Text(printable(cell[:_LONGEST])) for cell in cells))
        console.print(table)
    console.print(Text(printable(_closing(data, report))), soft_wrap=True)


def _closing(data: str, report: Report) -> str:
    line = f"{data}: {len(report.survey.tars):,} tars, {report.tables:,} tables"
    if report.mended:
        line += f", {len(report.mended):,} tables made again"
    faults = report.faults
    if not faults:
        return f"{line}; all is well"
    files = len({fault.path for fault in faults})
    line += f"; {_counted(len(faults), 'fault')} in {_counted(files, 'file')}"
    if repairable := len(report.repairable):
        line += f", {repairable:,} of them repairable: 'fscdata verify {data} --repair'"
    return line


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
