"""Paths of the tables, and readers that reject files that break the contract."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.parallel import parallel_map
from fscdata.base.paths import DataPath, PathT, access, entries, open_binary
from fscdata.base.text import printable
from fscdata.contract.schema import (
    SAMPLES,
    SCHEMA_VERSION,
    Provenance,
    ShardRecord,
    negatives_schema,
    samples_schema,
)

METADATA_KEY = b"fsckit"


@dataclass(frozen=True)
class Metadata:
    """The contents of a Parquet footer.

    A table needs no separate "done" marker: Parquet writes the footer last, and the file is renamed
    when it is complete. A table is done if it exists and its footer matches its tar.
    """

    provenance: Provenance
    shard: ShardRecord


def shard_paths(data: PathT) -> list[PathT]:
    """The tars of a data set, sorted by name: in `DATA/shards`, else in `DATA` (img2dataset).

    Raises:
        FsckitError: the folder is missing, cannot be read or contains no tars.
    """
    with access(data, "read"):
        if not data.is_dir():
            raise FsckitError(f"{data}: no such folder")
    tars = tars_of(data)
    if tars:
        return tars
    fix = f"create them with 'fscdata pack {data}'"
    if not isinstance(data, Path):
        fix = "create them with 'fscdata pack' and upload them"
    raise FsckitError(f"{data}: no .tar files here or in its 'shards' folder; {fix}")


def tars_of(data: PathT) -> list[PathT]:
    """Like `shard_paths`, but empty if the data set has no tars."""
    return entries(data / "shards", ".tar") or entries(data, ".tar")


def samples_path(data: PathT, shard: str) -> PathT:
    return data / SAMPLES / f"{shard}.parquet"


def negatives_path(data: PathT, style: str, shard: str) -> PathT:
    return data / "negatives" / style / f"{shard}.parquet"


def table_path(data: PathT, table: str, shard: str) -> PathT:
    """The path of one shard of a table; `table` is `SAMPLES` or a style."""
    return samples_path(data, shard) if table == SAMPLES else negatives_path(data, table, shard)


def styles_present(data: DataPath) -> list[str]:
    """The styles that a data set has negatives of, sorted by name."""
    folders = entries(data / "negatives", "")
    return [folder.name for folder in folders if entries(folder, ".parquet")]


def write_metadata(schema: pa.Schema, metadata: Metadata) -> pa.Schema:
    """The schema with the metadata attached, as JSON with sorted keys."""
    record = {
        "provenance": dataclasses.asdict(metadata.provenance),
        "shard": dataclasses.asdict(metadata.shard),
    }
    return schema.with_metadata({METADATA_KEY: json.dumps(record, sort_keys=True).encode()})


def read_metadata(path: DataPath) -> Metadata:
    """The metadata of a table's file.

    Raises:
        FsckitError: the file is missing, is not Parquet, was not written by fscdata, or has a
            different schema version.
    """
    with _parquet(path) as file:
        return _metadata(path, file.schema_arrow)


def read_footers(paths: list[PathT]) -> dict[PathT, Metadata]:
    """The metadata of tables; no rows are read, but the columns and row counts are checked.

    Raises:
        FsckitError: see `read_table`.
    """
    return dict(zip(paths, parallel_map(_read_footer, paths), strict=True))


def _read_footer(path: DataPath) -> Metadata:
    metadata, _ = read_both(path, [])
    return metadata


def read_table(path: DataPath, columns: list[str] | None = None) -> pa.Table:
    """A table's rows, after checking its metadata and schema.

    Raises:
        FsckitError: see `read_metadata`; the columns or row count break the contract.
    """
    _, table = read_both(path, columns)
    return table


def read_both(path: DataPath, columns: list[str] | None = None) -> tuple[Metadata, pa.Table]:
    """A table's metadata and rows; see `read_metadata` and `read_table`."""
    with _parquet(path) as file:
        metadata = _metadata(path, file.schema_arrow)
        expected = samples_schema() if metadata.provenance.table == SAMPLES else negatives_schema()
        if not file.schema_arrow.remove_metadata().equals(expected):
            raise FsckitError(
                f"{path}: its columns do not match schema version {SCHEMA_VERSION}: "
                f"{_first_difference(expected, file.schema_arrow)}; {_remake(path)}"
            )
        with _intact(path, "damaged"):
            table = file.read(columns)
    if table.num_rows != metadata.shard.rows:
        raise FsckitError(
            f"{path}: has {table.num_rows} rows, but its metadata says {metadata.shard.rows}; "
            f"{_remake(path)}"
        )
    return metadata, table


def _first_difference(expected: pa.Schema, actual: pa.Schema) -> str:
    """The first column that does not match."""
    for field in expected:
        count = actual.names.count(field.name)
        if count != 1:
            return f"expected one column {field.name} ({field.type}), found {count}"
        found = actual.field(field.name)
        if not found.equals(field):
            null = "" if field.nullable else " without nulls"
            return f"expected {field.name} as {field.type}{null}, found {printable(str(found))}"
    return (
        f"expected the columns {', '.join(expected.names)}, "
        f"found {printable(', '.join(actual.names))}"
    )


@contextmanager
def _parquet(path: DataPath) -> Iterator[pq.ParquetFile]:
    """Open a table's file and read its footer."""
    with ExitStack() as stack:
        with _intact(path, "not a Parquet file"):
            try:
                # Arrow opens local files faster itself than through a Python file object.
                local = isinstance(path, Path)
                source = path if local else stack.enter_context(open_binary(path))
                file = stack.enter_context(
                    pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
                )
                _ = file.schema_arrow.names  # raises if a name is not UTF-8
            except FileNotFoundError:
                raise FsckitError(f"{path}: missing; run {_restore_command(path)}") from None
        yield file


@contextmanager
def _intact(path: DataPath, problem: str) -> Iterator[None]:
    """Turn Arrow's errors in the block into a sentence about `problem`."""
    try:
        with access(path, "read"):
            yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FsckitError(f"{path}: {problem} ({first_line(error)}); {_remake(path)}") from None


def command_for(path: DataPath, options: str = "") -> str:
    """The command that makes a table, in quotes."""
    style = "RECIPE" if path.parent.name == SAMPLES else path.parent.name
    return f"'fscdata make-negatives {_data_of(path)} --recipe {style}{options}'"


def _restore_command(path: DataPath) -> str:
    """The command that makes a missing table, in quotes.

    `verify --repair` takes the settings from the table's other shards, if it has any.
    """
    if any(path.parent.glob("*.parquet")):
        return f"'fscdata verify {_data_of(path)} --repair'"
    return command_for(path)


def _data_of(path: DataPath) -> DataPath:
    return path.parents[1] if path.parent.name == SAMPLES else path.parents[2]


def _remake(path: DataPath) -> str:
    return f"delete it and run {command_for(path)}"


def _metadata(path: DataPath, schema: pa.Schema) -> Metadata:
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise FsckitError(f"{path}: not written by fscdata; move it elsewhere")
    try:
        record: dict[str, Any] = json.loads(raw)
        version = record["provenance"].get("schema_version")
        if version != SCHEMA_VERSION:
            raise FsckitError(
                f"{path}: schema version {printable(str(version))}, but this fsckit reads version "
                f"{SCHEMA_VERSION}; {_remake(path)}"
            )
        return Metadata(Provenance(**record["provenance"]), ShardRecord(**record["shard"]))
    except FsckitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FsckitError(f"{path}: its metadata is unreadable; {_remake(path)}") from None
