"""The views `samples`, `negatives` and `coverage` over a data set's Parquet files.

- `samples`: the samples of all shards, with their `shard`.
- `negatives`: the negatives of all styles and shards, with their `style` and `shard`.
- `coverage`: one row per style and outcome ('with negatives' or the reason for having none), with
  the number of captions, their share of the style's captions, and the number of negatives.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb

from fscdata.base.errors import FsckitError, first_line, last_line
from fscdata.base.paths import DataPath, access, cannot_be, entries
from fscdata.base.text import printable
from fscdata.contract import (
    SAMPLES,
    Metadata,
    negatives_schema,
    read_footers,
    read_metadata,
    refuse_mixed,
    refuse_orphans,
    refuse_stale,
    samples_path,
    styles_present,
)

if TYPE_CHECKING:
    from upath import UPath

WITH_NEGATIVES = "with negatives"  # the outcome of captions that have negatives


@dataclass(frozen=True)
class Tables:
    """The Parquet files of a data set with their metadata: samples, and negatives by style."""

    samples: dict[DataPath, Metadata]
    negatives: dict[str, dict[DataPath, Metadata]]


def connect(data: DataPath, *, unrestricted: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory with the three views.

    Unless `unrestricted`, DuckDB itself refuses to touch files outside `data`.

    Raises:
        FsckitError: the samples table is missing, or a table breaks the contract.
    """
    return connect_tables(data, read_tables(data), unrestricted=unrestricted)


def connect_tables(
    data: DataPath, tables: Tables, *, unrestricted: bool = False
) -> duckdb.DuckDBPyConnection:
    """Like `connect`, for tables whose footers have been read."""
    connection = duckdb.connect()
    if not isinstance(data, Path):
        connection.register_filesystem(_listed(data, tables.negatives))
    _create_views(connection, tables)
    if not unrestricted:
        _restrict(connection, data)
    return connection


def _restrict(connection: duckdb.DuckDBPyConnection, data: DataPath) -> None:
    """Let SQL reach only the files in `data`, for good."""
    names = [str(data)]
    if not isinstance(data, Path):  # names of remote files are patterns, and a match is normalized
        names += [glob.escape(str(data)), data.fs.unstrip_protocol(data.path)]
    connection.execute("SET allowed_directories = ?", [[f"{name}/" for name in names]])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _listed(data: UPath, styles: Iterable[str]) -> Any:
    """The file system of a remote data set, with its tables' listings cached: DuckDB asks for the
    size of each file eight times per query, and the cache answers without a request."""
    # Only for this connection: cached listings do not show files written later.
    files = type(data)(data, use_listings_cache=True, skip_instance_cache=True).fs
    with access(data, "read"):
        for folder in (data / SAMPLES, *(data / "negatives" / style for style in styles)):
            files.ls(folder.path)
    return files


# A file format that older duckdb commands can read.
_READABLE_BY = {"storage_compatibility_version": "v1.2.0"}


def write_database(data: DataPath, path: Path | None = None) -> Path:
    """Write a `.duckdb` file with the three views, by default `DATA/<name of DATA>.duckdb`.

    It contains the absolute paths of the Parquet files, but no rows. In an existing database, only
    the views are replaced. Returns the file's path.

    Raises:
        FsckitError: see `connect`; `data` is remote; `path` is not a database, is in use, or cannot
            be written.
    """
    if not isinstance(data, Path):
        raise FsckitError(
            f"{data}: a .duckdb file can only view local tables; query these with "
            f"'fscdata sql {data} QUERY'"
        )
    tables = read_tables(data.resolve())
    path = path or data / f"{data.resolve().name}.duckdb"
    if path.exists():
        with duckdb_errors(), duckdb.connect(path) as connection:
            _create_views(connection, tables)
        return path
    if not path.parent.is_dir():
        raise FsckitError(f"{path.parent}: no such folder")
    try:
        # Not atomic_file: DuckDB does not accept an existing empty file as a new database.
        with TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as folder:
            unfinished = Path(folder, path.name)
            with duckdb_errors(), duckdb.connect(unfinished, config=_READABLE_BY) as connection:
                _create_views(connection, tables)
            unfinished.rename(path)
    except OSError as error:
        raise cannot_be("written", path, error) from None
    return path


@contextmanager
def duckdb_errors() -> Iterator[None]:
    """Turn DuckDB's errors into one sentence."""
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.PermissionException as error:
        reason = printable(first_line(error).partition(" - ")[0])
        raise FsckitError(
            f"DuckDB: {reason}: SQL can use only the data set's files; to use others, add "
            f"`unrestricted`"
        ) from None
    except duckdb.Error as error:
        # After an empty line DuckDB repeats the SQL.
        message = str(error).partition("\n\n")[0]
        if "Traceback (most recent call last)" in message:  # from a remote file system in Python
            message = last_line(message)
        raise FsckitError(f"DuckDB: {printable(' '.join(message.split()))}") from None


def read_tables(data: DataPath) -> Tables:
    """Read and compare the footers of a data set's tables.

    Raises:
        FsckitError: the samples table is missing, or a table breaks the contract.
    """
    with access(data, "read"):
        if not data.is_dir():
            raise FsckitError(f"{data}: no such folder")
    samples = read_footers(entries(data / SAMPLES, ".parquet"))
    if not samples:
        raise FsckitError(
            f"{data}: no samples table; make it with "
            f"'fscdata make-negatives {data} --recipe RECIPE'"
        )
    negatives = {
        style: read_footers(entries(data / "negatives" / style, ".parquet"))
        for style in styles_present(data)
    }
    refuse_orphans(data)
    for footers in (samples, *negatives.values()):
        refuse_mixed(footers)
    for footers in negatives.values():
        for path, metadata in footers.items():
            samples_file = samples_path(data, path.stem)
            theirs = samples.get(samples_file) or read_metadata(samples_file)
            refuse_stale(path, metadata, samples_file, theirs)
    return Tables(samples, negatives)


def _create_views(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    negatives = [path for of_style in tables.negatives.values() for path in of_style]
    connection.begin()
    for name, query in (
        (SAMPLES, _rows(list(tables.samples), "")),
        ("negatives", _rows(negatives, "parse_path(filename)[-2] AS style,")),
        ("coverage", _coverage(negatives)),
    ):
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    connection.commit()


def _rows(files: list[DataPath], columns: str) -> str:
    if not files:
        return _no_negatives()
    return f"""
        SELECT * EXCLUDE (filename), {columns} parse_filename(filename, true) AS shard
        FROM read_parquet({_quoted(files)}, filename = true, hive_partitioning = false)"""


def _no_negatives() -> str:
    """The view for a data set without negatives: no rows, but the right column types."""
    empty = duckdb.from_arrow(negatives_schema().empty_table())
    columns = ", ".join(
        f"NULL::{kind} AS {name}" for name, kind in zip(empty.columns, empty.types, strict=True)
    )
    return f"SELECT {columns}, NULL::VARCHAR AS style, NULL::VARCHAR AS shard WHERE false"


def _coverage(files: list[DataPath]) -> str:
    """Counts captions with negatives from the rows, and those without from the files' metadata.

    With JSON functions, not the arrow operators, which DuckDB 2.0.0 stores in a way that other
    versions read differently.
    """
    records = (
        f"""SELECT decode(value)::JSON AS record FROM parquet_kv_metadata({_quoted(files)})
            WHERE decode(key) = 'fsckit'"""
        if files
        else "SELECT NULL::JSON AS record WHERE false"
    )
    return f"""
        WITH records AS ({records}),
        reasons AS (
            SELECT json_extract_string(record, '$.provenance.style') AS style,
                unnest(map_entries(json_extract(record, '$.shard.without')::MAP(VARCHAR, BIGINT)))
                    AS reason
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


def _quoted(files: list[DataPath]) -> str:
    """A SQL list of the paths."""
    # DuckDB reads brackets literally in a local name, but as a pattern in a remote one.
    names = [str(file) if isinstance(file, Path) else glob.escape(str(file)) for file in files]
    return "[" + ", ".join("'" + name.replace("'", "''") + "'" for name in names) + "]"
