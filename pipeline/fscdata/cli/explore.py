"""fscdata inspect, sql and db."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fscdata import explore
from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.base.text import printable
from fscdata.cli.options import Data


class Output(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def inspect(
    data: Data,
    style: Annotated[str | None, typer.Option(help="show only this style")] = None,
    examples: Annotated[int, typer.Option(min=0, help="number of captions to show")] = 5,
) -> None:
    """Summarize a data set and show examples.

    Shows sizes, coverage by style and operator, and why captions have no negative.
    """
    explore.inspect(data_path(data), Console(), style, examples)


def sql(
    data: Data,
    query: Annotated[
        str, typer.Argument(help="SQL over the views samples, negatives and coverage")
    ],
    output: Annotated[Output, typer.Option("--format", help="output format")] = Output.TABLE,
    unrestricted: Annotated[
        bool,
        typer.Option(
            "--unrestricted", help="let the SQL write files, and read files outside the data set"
        ),
    ] = False,
) -> None:
    """Query a data set's tables with DuckDB."""
    explore.print_query(data_path(data), query, output.value, Console(), unrestricted)


def db(
    data: Data,
    out: Annotated[
        str | None,
        typer.Option(help="local file to write", show_default="DATA/<name>.duckdb"),
    ] = None,
) -> None:
    """Write a .duckdb file with views of a data set's tables."""
    dest = None if out is None else data_path(out)
    if dest is not None and not isinstance(dest, Path):
        raise FsckitError(f"--out {out}: expected a local file")
    path = explore.write_database(data_path(data), dest)
    typer.echo(printable(f"{path}: views of the current tables; rerun this after adding tables"))
