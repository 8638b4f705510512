"""Prints a summary of a data set: coverage, operators, reasons, sizes, examples."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter

import duckdb
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import parallel_map
from fscdata.base.paths import DataPath, size_of
from fscdata.base.text import printable
from fscdata.contract import Metadata, shard_paths
from fscdata.explore.query import cell, new_table
from fscdata.explore.views import WITH_NEGATIVES, connect_tables, duckdb_errors, read_tables
from fscdata.negatives.changes import changed_words, has_colours
from fscdata.negatives.style import Edit


def inspect(data: DataPath, console: Console, style: str | None = None, examples: int = 5) -> None:
    """Print coverage by style and operator, reasons, sizes and `examples` captions.

    Raises:
        FsckitError: the tables cannot be read, or none has this `style`.
    """
    tables = read_tables(data)
    files = {style: list(footers) for style, footers in tables.negatives.items()}
    if style is not None:
        if style not in files:
            raise FsckitError(
                f"{data}: no negatives of style '{style}' (found: {', '.join(files) or 'none'}); "
                f"choose another style"
            )
        files = {style: files[style]}
    with duckdb_errors(), connect_tables(data, tables) as connection:
        _print_samples(console, connection, data, tables.samples)
        if not files:
            command = f"fscdata make-negatives {data} --recipe RECIPE"
            console.print(Text(f"no negatives yet; make some with '{command}'"))
            return
        _print_styles(console, connection, files, len(tables.samples))
        _print_operators(console, connection, list(files))
        _print_reasons(console, connection, list(files))
        _print_examples(console, connection, list(files), examples)


def _print_samples(
    console: Console,
    connection: duckdb.DuckDBPyConnection,
    data: DataPath,
    samples: dict[DataPath, Metadata],
) -> None:
    [(captions, images)] = connection.execute(
        "SELECT count(*), count(DISTINCT key) FROM samples"
    ).fetchall()
    try:
        tars = f"{len(shard_paths(data))} tars"
    except FsckitError:  # the tars may be elsewhere
        tars = "no tars here"
    console.print(Text(printable(str(data)), style="bold"))
    tokenizer = next(iter(samples.values())).provenance.tokenizer
    console.print(
        f"{tars}, {len(samples)} with tables: {images:,} images, {captions:,} captions, "
        f"token ids: {printable(tokenizer or 'none')}, samples table: {_size(list(samples))}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    without: Counter[str] = Counter()
    for record in samples.values():
        without.update(record.shard.without)
    if without:
        table = new_table(["reason"], ["count"], "left out of the samples table")
        for reason, count in sorted(without.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(cell(reason), cell(count))
        console.print(table)


def _print_styles(
    console: Console,
    connection: duckdb.DuckDBPyConnection,
    files: dict[str, list[DataPath]],
    shards: int,
) -> None:
    counts = connection.execute(
        """SELECT style, sum(captions)::BIGINT, sum(negatives)::BIGINT,
            coalesce(sum(captions) FILTER (outcome = ?), 0)::BIGINT
        FROM coverage GROUP BY style""",
        [WITH_NEGATIVES],
    ).fetchall()
    by_style = {style: numbers for style, *numbers in counts}
    table = new_table(
        ["style"],
        ["captions", "covered", "%", "negatives", "variants", "size", "shards"],
        "negatives by style (covered: captions with a negative; variants: mean per caption)",
    )
    for style, paths in files.items():
        captions, negatives, covered = by_style.get(style, (0, 0, 0))
        table.add_row(
            cell(style),
            cell(captions),
            cell(covered),
            _percent(covered, captions),
            cell(negatives),
            f"{negatives / covered:.2f}" if covered else "",
            _size(paths),
            f"{len(paths)}/{shards}",
        )
    console.print(table)


def _print_operators(
    console: Console, connection: duckdb.DuckDBPyConnection, styles: list[str]
) -> None:
    rows = connection.execute(
        """SELECT style, operator, count(*), sum(count(*)) OVER (PARTITION BY style)
        FROM negatives WHERE list_contains(?, style)
        GROUP BY style, operator ORDER BY style, count(*) DESC, operator""",
        [styles],
    ).fetchall()
    table = new_table(["style", "operator"], ["negatives", "%"], "by operator")
    for style, operator, count, total in rows:
        table.add_row(cell(style), cell(operator), cell(count), _percent(count, total))
    console.print(table)


def _print_reasons(
    console: Console, connection: duckdb.DuckDBPyConnection, styles: list[str]
) -> None:
    rows = connection.execute(
        """SELECT style, outcome, captions, share FROM coverage
        WHERE outcome <> ? AND list_contains(?, style)""",
        [WITH_NEGATIVES, styles],
    ).fetchall()
    if not rows:
        console.print("every caption has a negative of every style")
        return
    table = new_table(["style", "reason"], ["captions", "%"], "captions without a negative")
    for style, reason, count, share in rows:
        table.add_row(cell(style), cell(reason), cell(count), _percent(share, 1))
    console.print(table)


def _print_examples(
    console: Console, connection: duckdb.DuckDBPyConnection, styles: list[str], examples: int
) -> None:
    """Print a fixed choice of captions, with the first variant of each style."""
    rows = connection.execute(
        """WITH wanted AS (SELECT * FROM negatives WHERE list_contains(?, style)),
        chosen AS (
            SELECT key, caption_index, caption, md5(key || ':' || caption_index) AS place
            FROM samples SEMI JOIN wanted USING (key, caption_index) ORDER BY place LIMIT ?)
        SELECT place, caption, style, operator, relation, negative, edits
        FROM chosen JOIN wanted USING (key, caption_index)
        QUALIFY row_number() OVER (PARTITION BY key, caption_index, style ORDER BY variant) = 1
        ORDER BY place, style""",
        [styles, examples],
    ).fetchall()
    coloured = has_colours(console)
    width = max((len(style) for style in styles), default=0)
    for _, group in groupby(rows, key=itemgetter(0)):
        for i, (_, caption, style, operator, relation, negative, edits) in enumerate(group):
            if i == 0:
                console.print(Text(printable(caption), style="bold"), soft_wrap=True)
            line = Text(f"  {printable(style):{width}}  ")
            changes = [Edit(**edit) for edit in edits or []]
            line.append_text(changed_words(caption, negative, changes, coloured))
            how = f"{operator}, {relation}" if relation else operator
            console.print(line.append(f"  ({printable(how)})", style="dim"), soft_wrap=True)


def _percent(part: float, total: float) -> str:
    return f"{100 * part / total:.1f}" if total else ""


def _size(files: list[DataPath]) -> str:
    return decimal(sum(parallel_map(size_of, files)))
