"""Prints the result of a SQL query as a table, CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import duckdb
from duckdb import StatementType
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath
from fscdata.base.text import printable
from fscdata.explore.views import connect, duckdb_errors

MAX_ROWS = 200  # in a table; CSV and JSON print all rows


# Statements that write files, even inside the data set.
_WRITING = frozenset(
    {StatementType.COPY, StatementType.EXPORT, StatementType.ATTACH, StatementType.PREPARE}
)


def print_query(
    data: DataPath,
    sql: str,
    output: Literal["table", "csv", "json"],
    console: Console,
    unrestricted: bool = False,
) -> None:
    """Run `sql` over the views of `data` and print the rows.

    The SQL can read the data set's files only, and write none, unless `unrestricted`.

    Raises:
        FsckitError: the tables cannot be read, or DuckDB rejects the SQL.
    """
    with duckdb_errors(), connect(data, unrestricted=unrestricted) as connection:
        for statement in () if unrestricted else connection.extract_statements(sql):
            if statement.type in _WRITING:
                raise FsckitError(
                    f"{statement.type.name} can write files; to allow it, add `unrestricted`"
                )
        result = connection.execute(sql)
        if result is None:
            raise FsckitError("the SQL is empty; write a query such as 'FROM coverage'")
        names = [column[0] for column in result.description or []]
        {"table": _print_table, "csv": _print_csv, "json": _print_json}[output](
            result, names, console
        )


def new_table(names: Sequence[str], numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """A plain table with text columns, then number columns."""
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        title_style="bold",
    )
    for name in names:
        table.add_column(Text(printable(name)), overflow="fold")
    for name in numbers:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table


def cell(value: object) -> Text:
    """Make a value safe for a terminal; numbers are right-aligned."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return Text(printable(_text(value)))
    return Text(f"{value:,.4g}" if isinstance(value, float) else f"{value:,}", justify="right")


def _print_table(result: duckdb.DuckDBPyConnection, names: list[str], console: Console) -> None:
    table = new_table(names)
    rows = result.fetchmany(MAX_ROWS + 1)
    for row in rows[:MAX_ROWS]:
        table.add_row(*map(cell, row))
    console.print(table)
    if len(rows) > MAX_ROWS:
        console.print(f"only the first {MAX_ROWS} rows are shown; print all as csv or json")


def _print_csv(result: duckdb.DuckDBPyConnection, names: list[str], console: Console) -> None:
    shown = printable if console.is_terminal else str
    writer = csv.writer(console.file, lineterminator="\n")
    writer.writerow(map(shown, names))
    while rows := result.fetchmany(1000):
        writer.writerows([shown(_text(value)) for value in row] for row in rows)


def _print_json(result: duckdb.DuckDBPyConnection, names: list[str], console: Console) -> None:
    """Print an array of objects, one per line."""
    separator = "[\n"
    while rows := result.fetchmany(1000):
        for row in rows:
            record = dict(zip(names, row, strict=True))
            console.file.write(separator + json.dumps(record, default=_jsonable))
            separator = ",\n"
    console.file.write("[]\n" if separator == "[\n" else "\n]\n")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=_jsonable)
    return str(value)


def _jsonable(value: Any) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)
