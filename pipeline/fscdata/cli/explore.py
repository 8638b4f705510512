"""fscdata inspect, sql and db."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fscdata.base.paths import data_path
from fscdata.base.text import printable
from fscdata.cli.options import Data


class Output(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def inspect(
    data: Data,
    style: Annotated[str | None, typer.Option(help="this style alone")] = None,
    examples: Annotated[int, typer.Option(min=0, help="captions to show")] = 5,
) -> None:
    """Summarize a data set and show examples.

    Coverage by style and operator, captions without a negative by reason, sizes.
    """
    from fscdata import explore

    explore.inspect(data_path(data), Console(), style, examples)


def sql(
    data: Data,
    query: Annotated[str, typer.Argument(help="over the views samples, negatives, coverage")],
    output: Annotated[Output, typer.Option("--format")] = Output.TABLE,
) -> None:
    """Query a data set's tables with DuckDB."""
    from fscdata import explore

    explore.print_query(data_path(data), query, output.value, Console())


def db(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="default: DATA/<name>.duckdb")] = None,
) -> None:
    """Write a .duckdb file with views of a data set's tables."""
    from fscdata import explore

    path = explore.write_database(data_path(data), out)
    typer.echo(printable(f"{path}: views of the tables that are there now; write it again later"))
