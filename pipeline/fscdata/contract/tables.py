"""Where the tables lie, and readers that refuse what they cannot vouch for."""

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
    SCHEMA_VERSION,
    Provenance,
    ShardRecord,
    negatives_schema,
    samples_schema,
)

METADATA_KEY = b"fsckit"


@dataclass(frozen=True)
class Metadata:
    """What a Parquet file says of itself."""

    provenance: Provenance
    shard: ShardRecord


def shard_paths(data: PathT) -> list[PathT]:
    """The tars of a data set, by name: in `DATA/shards`, or in `DATA` itself (img2dataset).

    Raises:
        FsckitError: there is no such folder, or it cannot be read, or no tar is in it.
    """
    with access(data, "read"):
        if not data.is_dir():
            raise FsckitError(f"{data}: no such folder")
    tars = tars_of(data)
    if tars:
        return tars
    pack = f"'fscdata pack {data}'" if isinstance(data, Path) else "'fscdata pack', copy them there"
    raise FsckitError(f"{data}: no .tar in it nor in its folder 'shards'; make some with {pack}")


def tars_of(data: PathT) -> list[PathT]:
    """As `shard_paths`, but none where there is none."""
    return entries(data / "shards", ".tar") or entries(data, ".tar")


def samples_path(data: PathT, shard: str) -> PathT:
    return data / "samples" / f"{shard}.parquet"


def negatives_path(data: PathT, style: str, shard: str) -> PathT:
    return data / "negatives" / style / f"{shard}.parquet"


def styles_present(data: DataPath) -> list[str]:
    """The styles whose negatives a data set has, by name."""
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
        FsckitError: not a Parquet file, not one of ours, or of another schema version.
    """
    with _parquet(path) as file:
        return _metadata(path, file.schema_arrow)


def read_footers(paths: list[PathT]) -> dict[PathT, Metadata]:
    """The metadata of tables, no rows read; what the footers promise is checked.

    Raises:
        FsckitError: as `read_table`.
    """
    return dict(zip(paths, parallel_map(_read_footer, paths), strict=True))


def _read_footer(path: DataPath) -> Metadata:
    metadata, _ = read_both(path, [])
    return metadata


def read_table(path: DataPath, columns: list[str] | None = None) -> pa.Table:
    """A table's rows, its metadata and schema checked first.

    Raises:
        FsckitError: as `read_metadata`, or the columns are not those of the contract.
    """
    _, table = read_both(path, columns)
    return table


def read_both(path: DataPath, columns: list[str] | None = None) -> tuple[Metadata, pa.Table]:
    """A table's metadata and rows, as `read_metadata` and `read_table` at once."""
    with _parquet(path) as file:
        metadata = _metadata(path, file.schema_arrow)
        wanted = samples_schema() if metadata.provenance.table == "samples" else negatives_schema()
        if not file.schema_arrow.remove_metadata().equals(wanted):
            raise FsckitError(
                f"{path}: its columns are not those of schema {SCHEMA_VERSION}: "
                f"{_first_difference(wanted, file.schema_arrow)}; {_again(path)}"
            )
        with _intact(path, "damaged"):
            table = file.read(columns)
    if table.num_rows != metadata.shard.rows:
        raise FsckitError(
            f"{path}: {table.num_rows} rows, where its metadata says {metadata.shard.rows}; "
            f"{_again(path)}"
        )
    return metadata, table


def _first_difference(wanted: pa.Schema, there: pa.Schema) -> str:
    """The first column that is not as it should be."""
    for field in wanted:
        found = there.field(field.name) if there.names.count(field.name) == 1 else None
        if found is None:
            times = there.names.count(field.name)
            return f"{field.name} ({field.type}) is wanted, and is there {times} times"
        if not found.equals(field):
            null = "" if field.nullable else " without nulls"
            return f"{field.name} is wanted as {field.type}{null}, and is {printable(str(found))}"
    names = ", ".join(wanted.names)
    return f"{names} are wanted in this order, and there are {printable(', '.join(there.names))}"


@contextmanager
def _parquet(path: DataPath) -> Iterator[pq.ParquetFile]:
    """A table's file, its footer read."""
    with ExitStack() as stack:
        with _intact(path, "not a Parquet file"):
            try:
                # Arrow reads a local file faster than it is handed one.
                local = isinstance(path, Path)
                source = path if local else stack.enter_context(open_binary(path))
                file = stack.enter_context(
                    pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
                )
                _ = file.schema_arrow.names  # decoded, or found not to be text
            except FileNotFoundError:
                raise FsckitError(f"{path}: missing; run {_command_to_bring_back(path)}") from None
        yield file


@contextmanager
def _intact(path: DataPath, otherwise: str) -> Iterator[None]:
    """Arrow's errors in the block say what the file is otherwise."""
    try:
        with access(path, "read"):
            yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FsckitError(f"{path}: {otherwise} ({first_line(error)}); {_again(path)}") from None


def command_for(path: DataPath, options: str = "") -> str:
    """The command that makes a table, in quotes."""
    style = "RECIPE" if path.parent.name == "samples" else path.parent.name
    return f"'fscdata make-negatives {_data_of(path)} --recipe {style}{options}'"


def _command_to_bring_back(path: DataPath) -> str:
    """In quotes too; the tables of other shards know how this one was made."""
    if any(path.parent.glob("*.parquet")):
        return f"'fscdata verify {_data_of(path)} --repair'"
    return command_for(path)


def _data_of(path: DataPath) -> DataPath:
    return path.parents[1] if path.parent.name == "samples" else path.parents[2]


def _again(path: DataPath) -> str:
    return f"delete it and run {command_for(path)}"


def _metadata(path: DataPath, schema: pa.Schema) -> Metadata:
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise FsckitError(f"{path}: a Parquet file that fscdata did not write")
    try:
        record: dict[str, Any] = json.loads(raw)
        version = record["provenance"].get("schema_version")
        if version != SCHEMA_VERSION:
            raise FsckitError(
                f"{path}: schema version {printable(str(version))}, where this fsckit reads "
                f"{SCHEMA_VERSION}; {_again(path)}"
            )
        return Metadata(Provenance(**record["provenance"]), ShardRecord(**record["shard"]))
    except FsckitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FsckitError(f"{path}: its metadata cannot be read; {_again(path)}") from None
