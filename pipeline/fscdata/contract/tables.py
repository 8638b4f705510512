"""Where the tables lie, and readers that refuse what they cannot vouch for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
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
from fscdata.contract.tar import CaptionSource, TarIndex, index_tar, printable

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
    tars = _tars(data)
    if tars:
        return tars
    raise FsckitError(
        f"{data}: no .tar in it nor in its folder 'shards'; make some with 'fscdata pack {data}'"
    )


def _tars(data: Path) -> list[Path]:
    return sorted((data / "shards").glob("*.tar")) or sorted(data.glob("*.tar"))


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
        raise FsckitError(
            f"{path}: its columns are not those of schema {SCHEMA_VERSION}; {_again(path)}"
        )
    try:
        table: pa.Table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise FsckitError(f"{path}: damaged ({_short(error)}); {_again(path)}") from None
    if table.num_rows != metadata.shard.rows:
        raise FsckitError(
            f"{path}: {table.num_rows} rows, where its metadata says {metadata.shard.rows}; "
            f"{_again(path)}"
        )
    return table


def _command(path: Path, options: str = "") -> str:
    """The command that makes a table."""
    style = "RECIPE" if path.parent.name == "samples" else path.parent.name
    data = path.parents[1] if path.parent.name == "samples" else path.parents[2]
    return f"'fscdata make-negatives {data} --recipe {style}{options}'"


def _again(path: Path) -> str:
    return f"delete it and run {_command(path)}"


def _short(error: Exception) -> str:
    return printable(str(error).splitlines()[0][:200]) if str(error) else type(error).__name__


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except FileNotFoundError:
        raise FsckitError(f"{path}: missing; run {_command(path)}") from None
    except (pa.ArrowException, OSError) as error:
        raise FsckitError(f"{path}: not a Parquet file ({_short(error)}); {_again(path)}") from None


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
                f"{SCHEMA_VERSION}; {_again(path)}"
            )
        return Metadata(Provenance(**record["provenance"]), ShardRecord(**record["shard"]))
    except FsckitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FsckitError(f"{path}: its metadata cannot be read; {_again(path)}") from None


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
    paths = [samples_path(data, tar.stem) for tar in tars]
    refuse_mixed(paths)
    samples = [_checked_samples(path, tar) for path, tar in zip(paths, tars, strict=True)]
    negatives = {}
    for style in styles:
        of_style = [negatives_path(data, style, tar.stem) for tar in tars]
        refuse_mixed(of_style)
        negatives[style] = [
            _checked_negatives(*row) for row in zip(of_style, paths, samples, strict=True)
        ]
    check_unique(data, samples)
    return Dataset(tars, samples, negatives, read_metadata(paths[0]).provenance.tokenizer)


def refuse_orphans(data: Path) -> None:
    """Raises FsckitError where a table belongs to no tar, unless all tars are elsewhere."""
    shards = {tar.stem for tar in _tars(data)}
    tables = [*data.glob("samples/*.parquet"), *data.glob("negatives/*/*.parquet")]
    lost = sorted(path for path in tables if path.stem not in shards)
    if shards and lost:
        raise FsckitError(
            f"{lost[0]}: belongs to no tar of {data} ({len(lost):,} tables do not); bring the tars "
            f"back, or delete the tables"
        )


def _difference(
    ours: Provenance, theirs: Provenance, other: Path, fields: Iterable[str]
) -> str | None:
    """What of these fields differs between two provenances, as a clause; `other` has `theirs`."""
    for field in fields:
        if getattr(ours, field) != getattr(theirs, field):
            return (
                f"its {field} is {getattr(ours, field)!r}, that of {other} is "
                f"{getattr(theirs, field)!r}"
            )
    return None


def refuse_stale(path: Path, samples_file: Path) -> None:
    """Raises FsckitError where negatives were made from other captions than their samples have."""
    ours, theirs = read_metadata(path), read_metadata(samples_file)
    difference = _difference(
        ours.provenance, theirs.provenance, samples_file, ("caption_source", "tokenizer")
    )
    if (ours.shard.tar_digest, ours.shard.captions_digest) != (
        theirs.shard.tar_digest,
        theirs.shard.captions_digest,
    ):
        difference = f"made from another tar or other captions than {samples_file}"
    if difference is not None:
        raise FsckitError(f"{path}: {difference}; run {_command(path, ' --overwrite')}")


def refuse_mixed(paths: list[Path]) -> None:
    """Raises FsckitError where the shards of one table were made in different ways."""
    fields = [field.name for field in dataclasses.fields(Provenance)]
    first = read_metadata(paths[0]).provenance
    for path in paths[1:]:
        difference = _difference(read_metadata(path).provenance, first, paths[0], fields)
        if difference is not None:
            raise FsckitError(
                f"{path}: shards of mixed provenance: {difference}; run "
                f"{_command(path, ' --overwrite')} to make them alike"
            )


def _checked_samples(path: Path, tar: Path) -> pa.Table:
    """The samples of a tar, which has not changed since."""
    metadata = read_metadata(path)
    table = read_table(path)
    shard = metadata.shard
    size = tar.stat().st_size
    if (shard.tar, shard.tar_size) != (tar.name, size):
        raise FsckitError(
            f"{path}: made from a {shard.tar} of {shard.tar_size} bytes, but {tar} has {size}: the "
            f"tar changed since; run {_command(path)}"
        )
    source = CaptionSource.inside_tar(metadata.provenance.caption_source)
    index = index_tar(tar, source or CaptionSource())
    if index.digest != shard.tar_digest:
        raise FsckitError(f"{path}: {tar} was written again since; run {_command(path)}")
    if source is not None and index.captions_digest != shard.captions_digest:
        _name_changed_caption(path, table, tar, index)
    return table


def _name_changed_caption(path: Path, table: pa.Table, tar: Path, index: TarIndex) -> None:
    """Raises FsckitError with the first sample whose caption is not the table's."""
    there = {
        (sample.key, i): caption_hash(caption)
        for sample in index.samples
        for i, caption in sample.captions
    }
    columns = (table[name].to_pylist() for name in ("key", "caption_index", "caption_hash"))
    changed = (key for key, i, hash_ in zip(*columns, strict=True) if there.get((key, i)) != hash_)
    raise FsckitError(
        f"{path}: the caption hash of sample '{printable(next(changed, '?'))}' does not match "
        f"{tar}: the tar changed since; run {_command(path)}"
    )


def _checked_negatives(path: Path, samples_file: Path, samples: pa.Table) -> pa.Table:
    """The negatives of a shard, made from the captions and for the tokens that its samples have."""
    refuse_stale(path, samples_file)
    table = read_table(path)
    _check_negatives(path, table, samples)
    return table


def _check_negatives(path: Path, negatives: pa.Table, samples: pa.Table) -> None:
    """Every negative belongs to a sample of the same caption."""
    keys = ["key", "caption_index", "caption_hash"]
    orphans = negatives.select(keys).join(samples.select(keys), keys=keys, join_type="left anti")
    if orphans.num_rows:
        key = printable(orphans["key"][0].as_py())
        raise FsckitError(
            f"{path}: the negatives of sample '{key}' were made from another caption than the "
            f"samples table has; run {_command(path, ' --overwrite')}"
        )


def check_unique(data: Path, samples: list[pa.Table]) -> None:
    """Raises FsckitError where a (key, caption_index) comes twice in the whole data set."""
    rows = pa.concat_tables([t.select(["key", "caption_index"]) for t in samples])
    counts = rows.group_by(["key", "caption_index"]).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if twice.num_rows:
        key = printable(twice["key"][0].as_py())
        raise FsckitError(
            f"{data}: the key '{key}' comes in two of its tars; keys must be unique, pack again"
        )
