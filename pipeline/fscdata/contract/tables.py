"""Where the tables lie, and readers that refuse what they cannot vouch for."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fscdata.contract.errors import FsckitError
from fscdata.contract.schema import (
    SCHEMA_VERSION,
    Provenance,
    ShardRecord,
    caption_hash,
    negatives_schema,
    samples_schema,
)
from fscdata.contract.tar import CaptionSource, index_tar, printable

METADATA_KEY = b"fsckit"


@dataclass(frozen=True)
class Metadata:
    """What a Parquet file says of itself."""

    provenance: Provenance
    shard: ShardRecord


def shard_paths(data: Path) -> list[Path]:
    """The tars of a data set, by name: in `DATA/shards`, or in `DATA` itself (img2dataset).

    Raises:
        FsckitError: there is no such folder, or no tar in it.
    """
    if not data.is_dir():
        raise FsckitError(f"{data}: no such folder")
    for folder in (data / "shards", data):
        tars = sorted(folder.glob("*.tar"))
        if tars:
            return tars
    raise FsckitError(
        f"{data}: no .tar in it nor in its folder 'shards'; make some with 'fscdata pack {data}'"
    )


def samples_path(data: Path, shard: str) -> Path:
    return data / "samples" / f"{shard}.parquet"


def negatives_path(data: Path, style: str, shard: str) -> Path:
    return data / "negatives" / style / f"{shard}.parquet"


def styles_present(data: Path) -> list[str]:
    """The styles whose negatives a data set has, by name."""
    return sorted(p.name for p in (data / "negatives").glob("*") if any(p.glob("*.parquet")))


def write_metadata(schema: pa.Schema, metadata: Metadata) -> pa.Schema:
    """The schema with the metadata attached, as JSON with sorted keys."""
    record = {
        "provenance": dataclasses.asdict(metadata.provenance),
        "shard": dataclasses.asdict(metadata.shard),
    }
    return schema.with_metadata({METADATA_KEY: json.dumps(record, sort_keys=True).encode()})


def read_metadata(path: Path) -> Metadata:
    """The metadata of a table's file.

    Raises:
        FsckitError: not a Parquet file, not one of ours, or of another schema version.
    """
    return _metadata(path, _schema(path))


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A table's rows, its metadata and schema checked first.

    Raises:
        FsckitError: as `read_metadata`, or the columns are not those of the contract.
    """
    schema = _schema(path)
    metadata = _metadata(path, schema)
    wanted = samples_schema() if metadata.provenance.table == "samples" else negatives_schema()
    if not schema.remove_metadata().equals(wanted):
        raise FsckitError(f"{path}: its columns are not those of schema {SCHEMA_VERSION}; {_AGAIN}")
    try:
        table: pa.Table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise FsckitError(f"{path}: damaged ({_short(error)}); {_AGAIN}") from None
    if table.num_rows != metadata.shard.rows:
        raise FsckitError(
            f"{path}: {table.num_rows} rows, where its metadata says {metadata.shard.rows}; "
            f"{_AGAIN}"
        )
    return table


_AGAIN = "delete it and run 'fscdata make-negatives' again"


def _short(error: Exception) -> str:
    return printable(str(error).splitlines()[0][:200]) if str(error) else type(error).__name__


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except FileNotFoundError:
        raise FsckitError(f"{path}: missing; run 'fscdata make-negatives'") from None
    except (pa.ArrowException, OSError) as error:
        raise FsckitError(f"{path}: not a Parquet file ({_short(error)}); {_AGAIN}") from None


def _metadata(path: Path, schema: pa.Schema) -> Metadata:
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise FsckitError(f"{path}: a Parquet file that fscdata did not write")
    try:
        record: dict[str, Any] = json.loads(raw)
        version = record["provenance"].get("schema_version")
        if version != SCHEMA_VERSION:
            raise FsckitError(
                f"{path}: schema version {printable(str(version))}, where this fsckit reads "
                f"{SCHEMA_VERSION}; {_AGAIN}"
            )
        return Metadata(Provenance(**record["provenance"]), ShardRecord(**record["shard"]))
    except FsckitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FsckitError(f"{path}: its metadata cannot be read; {_AGAIN}") from None


@dataclass(frozen=True)
class Dataset:
    """A data set whose tables agree with one another and with its tars.

    `samples` and each of `negatives` have one table a shard, in the order of `tars`; a negative
    belongs to the sample row with its (key, caption_index).
    """

    tars: list[Path]
    samples: list[pa.Table]
    negatives: dict[str, list[pa.Table]]
    tokenizer: str | None


def open_dataset(data: Path, styles: list[str]) -> Dataset:
    """Read the tables of a data set and check all that the contract promises of them.

    Raises:
        FsckitError: a table is missing or unreadable, of another schema version or of mixed
            provenance; a tar changed since; a key or a caption hash does not match.
    """
    tars = shard_paths(data)
    present = styles_present(data)
    for style in styles:
        if style not in present:
            raise FsckitError(
                f"{data}: no negatives of style '{style}' (there are: "
                f"{', '.join(present) or 'none'}); make them with "
                f"'fscdata make-negatives {data} --recipe {style}'"
            )
    first: dict[str, tuple[Path, Provenance]] = {}
    samples: list[pa.Table] = []
    negatives: dict[str, list[pa.Table]] = {style: [] for style in styles}
    for tar in tars:
        path = samples_path(data, tar.stem)
        metadata = _agreeing(path, first)
        table = read_table(path)
        check_samples(path, table, metadata, tar)
        samples.append(table)
        for style in styles:
            path = negatives_path(data, style, tar.stem)
            metadata = _agreeing(path, first)
            check_tar(path, metadata, tar)
            rows = read_table(path)
            _check_negatives(path, rows, table)
            negatives[style].append(rows)
    _check_unique(data, samples)
    return Dataset(tars, samples, negatives, next(iter(first.values()))[1].tokenizer)


def _agreeing(path: Path, first: dict[str, tuple[Path, Provenance]]) -> Metadata:
    """The file's metadata, its provenance the same as that of the table's first shard."""
    metadata = read_metadata(path)
    origin, provenance = first.setdefault(path.parent.name, (path, metadata.provenance))
    for field in dataclasses.fields(Provenance):
        ours, theirs = (getattr(p, field.name) for p in (metadata.provenance, provenance))
        if ours != theirs:
            raise FsckitError(
                f"{path}: shards of mixed provenance: its {field.name} is {ours!r}, that of "
                f"{origin.name} is {theirs!r}; run 'fscdata make-negatives --overwrite' to make "
                f"them alike"
            )
    return metadata


def check_tar(path: Path, metadata: Metadata, tar: Path) -> None:
    """Raises FsckitError where the table was made from a tar of another name or size."""
    size = tar.stat().st_size
    if (metadata.shard.tar, metadata.shard.tar_size) != (tar.name, size):
        raise FsckitError(
            f"{path}: made from a {metadata.shard.tar} of {metadata.shard.tar_size} bytes, but "
            f"{tar} has {size}: the tar changed since; run 'fscdata make-negatives' again"
        )


def check_samples(path: Path, table: pa.Table, metadata: Metadata, tar: Path) -> None:
    """Raises FsckitError where the samples table and the tar's members or captions differ."""
    check_tar(path, metadata, tar)
    index = index_tar(tar, CaptionSource.parse(metadata.provenance.caption_source))
    if index.digest == metadata.shard.tar_digest:
        return
    there = {
        (sample.key, i): caption_hash(caption)
        for sample in index.samples
        for i, caption in sample.captions
    }
    columns = (table[name].to_pylist() for name in ("key", "caption_index", "caption_hash"))
    for key, i, hash_ in zip(*columns, strict=True):
        if there.get((key, i)) != hash_:
            raise FsckitError(
                f"{path}: the caption hash of sample '{printable(key)}' does not match {tar}: the "
                f"tar changed since; run 'fscdata make-negatives' again"
            )
    raise FsckitError(f"{path}: {tar} was written again since; run 'fscdata make-negatives' again")


def _check_negatives(path: Path, negatives: pa.Table, samples: pa.Table) -> None:
    """Every negative belongs to a sample of the same caption."""
    keys = ["key", "caption_index", "caption_hash"]
    orphans = negatives.select(keys).join(samples.select(keys), keys=keys, join_type="left anti")
    if orphans.num_rows:
        key = printable(orphans["key"][0].as_py())
        raise FsckitError(
            f"{path}: the negatives of sample '{key}' were made from another caption than the "
            f"samples table has; run 'fscdata make-negatives --overwrite'"
        )


def _check_unique(data: Path, samples: list[pa.Table]) -> None:
    """No (key, caption_index) twice in the whole data set."""
    rows = pa.concat_tables([t.select(["key", "caption_index"]) for t in samples])
    counts = rows.group_by(["key", "caption_index"]).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if twice.num_rows:
        key = printable(twice["key"][0].as_py())
        raise FsckitError(
            f"{data}: the key '{key}' comes in two of its tars; keys must be unique, pack again"
        )
