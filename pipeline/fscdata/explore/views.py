"""The views `samples`, `negatives` and `coverage` over a data set's Parquet files.

- `samples`: the samples table of all shards, and its `shard`.
- `negatives`: the negatives of all styles and shards, and their `style` and `shard`.
- `coverage`: a row for each style and outcome, 'with negatives' or the named reason why there is
  none: how many captions, their share of the style's captions, how many negatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from fscdata.contract import (
    FsckitError,
    negatives_schema,
    printable,
    read_table,
    refuse_mixed,
    refuse_orphans,
    refuse_stale,
    samples_path,
    styles_present,
)

WITH_NEGATIVES = "with negatives"  # the outcome of a caption that got one


def connect(data: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory with the three views.

    Raises:
        FsckitError: there is no samples table, or a table that fscdata cannot vouch for.
    """
    connection = duckdb.connect()
    _create_views(connection, data)
    return connection


# The file's format: an older duckdb command on somebody's path reads it too.
_READABLE_BY = {"storage_compatibility_version": "v1.2.0"}


def write_database(data: Path, path: Path | None = None) -> Path:
    """Write a `.duckdb` file with the three views, by default `DATA/<name of DATA>.duckdb`.

    It holds the absolute paths of the Parquet files, no rows. In a database that is there already
    the views are replaced and the rest is left alone. Returns the file's path.

    Raises:
        FsckitError: as `connect`, or `path` is a file of another kind, or in use.
    """
    path = path or data / f"{data.resolve().name}.duckdb"
    if path.exists():
        with duckdb_errors(), duckdb.connect(path) as connection:
            _create_views(connection, data)
        return path
    if not path.parent.is_dir():
        raise FsckitError(f"{path.parent}: no such folder")
    # DuckDB takes no empty file for a new database, so not storage.atomic_file.
    with TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as folder:
        unfinished = Path(folder, path.name)
        with duckdb_errors(), duckdb.connect(unfinished, config=_READABLE_BY) as connection:
            _create_views(connection, data)
        unfinished.rename(path)
    return path


@contextmanager
def duckdb_errors() -> Iterator[None]:
    """DuckDB's errors as one sentence of ours."""
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        # After the empty line DuckDB repeats the SQL.
        message = str(error).partition("\n\n")[0]
        raise FsckitError(f"DuckDB: {printable(' '.join(message.split()))}") from None


def table_files(data: Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """The samples table's Parquet files and those of each style's negatives, by shard.

    Raises:
        FsckitError: there is no samples table, or a file is not to be relied on.
    """
    if not data.is_dir():
        raise FsckitError(f"{data}: no such folder")
    samples = sorted((data / "samples").glob("*.parquet"))
    if not samples:
        raise FsckitError(
            f"{data}: no samples table; make it with "
            f"'fscdata make-negatives {data} --recipe RECIPE'"
        )
    negatives = {
        style: sorted((data / "negatives" / style).glob("*.parquet"))
        for style in styles_present(data)
    }
    refuse_orphans(data)
    for paths in (samples, *negatives.values()):
        refuse_mixed(paths)
        for path in paths:
            read_table(path, columns=[])
    for paths in negatives.values():
        for path in paths:
            refuse_stale(path, samples_path(data, path.stem))
    return samples, negatives


def _create_views(connection: duckdb.DuckDBPyConnection, data: Path) -> None:
    samples, styles = table_files(data.resolve())
    negatives = [path for paths in styles.values() for path in paths]
    connection.begin()
    for name, query in (
        ("samples", _rows(samples, "")),
        ("negatives", _rows(negatives, "parse_path(filename)[-2] AS style,")),
        ("coverage", _coverage(negatives)),
    ):
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    connection.commit()


def _rows(files: list[Path], columns: str) -> str:
    if not files:
        return _no_negatives()
    return f"""
        SELECT * EXCLUDE (filename), {columns} parse_filename(filename, true) AS shard
        FROM read_parquet({_quoted(files)}, filename = true, hive_partitioning = false)"""


def _no_negatives() -> str:
    """The negatives of a data set without any: no row, the columns' right types."""
    empty = duckdb.from_arrow(negatives_schema().empty_table())
    columns = ", ".join(
        f"NULL::{kind} AS {name}" for name, kind in zip(empty.columns, empty.types, strict=True)
    )
    return f"SELECT {columns}, NULL::VARCHAR AS style, NULL::VARCHAR AS shard WHERE false"


def _coverage(files: list[Path]) -> str:
    """Captions with negatives are counted from the rows, those without from the files' metadata."""
    records = (
        f"""SELECT decode(value)::JSON AS record FROM parquet_kv_metadata({_quoted(files)})
            WHERE decode(key) = 'fsckit'"""
        if files
        else "SELECT NULL::JSON AS record WHERE false"
    )
    return f"""
        WITH records AS ({records}),
        reasons AS (
            SELECT record->'provenance'->>'style' AS style,
                unnest(map_entries((record->'shard'->'without')::MAP(VARCHAR, BIGINT))) AS reason
            FROM records),
        outcomes AS (
            SELECT style, '{WITH_NEGATIVES}' AS outcome,
                count(DISTINCT (key, caption_index)) AS captions, count(*) AS negatives
            FROM negatives GROUP BY style
            UNION ALL
            SELECT style, reason.key, sum(reason.value)::BIGINT, 0 FROM reasons GROUP BY ALL)
        SELECT style, outcome, captions,
            captions / sum(captions) OVER (PARTITION BY style) AS share, negatives
        FROM outcomes ORDER BY style, negatives DESC, captions DESC, outcome"""


def _quoted(files: list[Path]) -> str:
    """A SQL list of the paths."""
    return "[" + ", ".join("'" + str(file).replace("'", "''") + "'" for file in files) + "]"
