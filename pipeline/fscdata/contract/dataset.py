"""All tables of a data set, checked against each other and against their tars."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic

import pyarrow as pa
import pyarrow.compute as pc

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath, PathT, entries, size_of
from fscdata.base.text import printable
from fscdata.contract.schema import SAMPLES, Provenance, caption_hash
from fscdata.contract.tables import (
    Metadata,
    command_for,
    negatives_path,
    read_both,
    read_footers,
    read_table,
    samples_path,
    shard_paths,
    styles_present,
    tars_of,
)
from fscdata.contract.tar import CaptionSource, TarIndex, index_tar


@dataclass(frozen=True)
class Dataset(Generic[PathT]):
    """A data set whose tables match each other and its tars.

    `samples` and each of `negatives` hold one table per shard, in the order of `tars`. A negative
    belongs to the samples row with its (key, caption_index). `variants` is the maximum number of
    negatives per caption that each style was asked for.
    """

    tars: list[PathT]
    samples: list[pa.Table]
    negatives: dict[str, list[pa.Table]]
    tokenizer: str | None
    variants: dict[str, int]


@dataclass(frozen=True)
class Footers(Generic[PathT]):
    """The metadata of a data set's tables by path, in the order of `tars`."""

    tars: list[PathT]
    samples: dict[PathT, Metadata]
    negatives: dict[str, dict[PathT, Metadata]]

    @property
    def variants(self) -> dict[str, int]:
        """The maximum number of negatives per caption that each style was asked for."""
        firsts = {style: next(iter(of.values())) for style, of in self.negatives.items()}
        return {style: first.provenance.variants or 1 for style, first in firsts.items()}


def open_footers(data: PathT, styles: list[str]) -> Footers[PathT]:
    """Read and check the footers of a data set's tables; rows and tars are not read.

    Raises:
        FsckitError: a table is missing or unreadable, has a different schema version or mixed
            provenance, or its negatives were made from other samples.
    """
    tars = shard_paths(data)
    present = styles_present(data)
    for style in styles:
        if style not in present:
            raise FsckitError(
                f"{data}: no negatives of style '{style}' (found: {', '.join(present) or 'none'}); "
                f"make them with 'fscdata make-negatives {data} --recipe {style}'"
            )
    samples = read_footers([samples_path(data, tar.stem) for tar in tars])
    refuse_mixed(samples)
    negatives = {}
    for style in styles:
        footers = read_footers([negatives_path(data, style, tar.stem) for tar in tars])
        refuse_mixed(footers)
        for negatives_footer, samples_footer in zip(footers.items(), samples.items(), strict=True):
            refuse_stale(*negatives_footer, *samples_footer)
        negatives[style] = footers
    return Footers(tars, samples, negatives)


def open_dataset(data: PathT, styles: list[str]) -> Dataset[PathT]:
    """Read the tables of a data set and check everything the contract promises.

    The tars' headers and captions are read too; in an object store, that means reading whole tars.

    Raises:
        FsckitError: see `open_footers`; a tar has changed; a key or caption hash does not match.
    """
    footers = open_footers(data, styles)
    samples = [
        _checked_samples(path, tar) for path, tar in zip(footers.samples, footers.tars, strict=True)
    ]
    negatives = {
        style: [
            _checked_negatives(path, table) for path, table in zip(of_style, samples, strict=True)
        ]
        for style, of_style in footers.negatives.items()
    }
    check_unique(data, samples)
    first = next(iter(footers.samples.values()))
    tokenizer = first.provenance.tokenizer
    return Dataset(footers.tars, samples, negatives, tokenizer, footers.variants)


def refuse_orphans(data: DataPath) -> None:
    """Raise FsckitError if a table has no tar; a data set without any tars passes."""
    shards = {tar.stem for tar in tars_of(data)}
    folders = [data / SAMPLES, *entries(data / "negatives", "")]
    orphans = [p for folder in folders for p in entries(folder, ".parquet") if p.stem not in shards]
    if shards and orphans:
        raise FsckitError(
            f"{orphans[0]}: has no tar in {data} (tables without a tar: {len(orphans):,}); "
            f"restore the tars or delete the tables"
        )


def _difference(
    ours: Provenance, theirs: Provenance, other: DataPath, fields: Iterable[str]
) -> str | None:
    """The first field that differs between two provenances, as a clause.

    `theirs` is the provenance of `other`.
    """
    for field in fields:
        if getattr(ours, field) != getattr(theirs, field):
            return (
                f"its {field} is {getattr(ours, field)!r}, but {other} has "
                f"{getattr(theirs, field)!r}"
            )
    return None


def refuse_stale(path: DataPath, ours: Metadata, samples_file: DataPath, theirs: Metadata) -> None:
    """Raise FsckitError if negatives (`ours`) were made from different captions than their samples
    (`theirs`); otherwise a stale table would look like captions without negatives."""
    difference = _difference(
        ours.provenance, theirs.provenance, samples_file, ("caption_source", "tokenizer")
    )
    if (ours.shard.tar_digest, ours.shard.captions_digest) != (
        theirs.shard.tar_digest,
        theirs.shard.captions_digest,
    ):
        difference = f"made from a different tar or captions than {samples_file}"
    if difference is not None:
        raise FsckitError(f"{path}: {difference}; run {command_for(path, ' --overwrite')}")


def refuse_changed(path: DataPath, metadata: Metadata, tar: DataPath) -> None:
    """Raise FsckitError if a samples table was made from a tar with another name or size."""
    shard, size = metadata.shard, size_of(tar)
    if (shard.tar, shard.tar_size) != (tar.name, size):
        raise FsckitError(
            f"{path}: made from {shard.tar} with {shard.tar_size} bytes, but {tar} has {size}: the "
            f"tar has changed; run {command_for(path)}"
        )


def refuse_mixed(footers: Mapping[PathT, Metadata]) -> None:
    """Raise FsckitError if the shards of one table were made with different settings."""
    fields = [field.name for field in dataclasses.fields(Provenance)]
    (first, theirs), *others = footers.items()
    for path, ours in others:
        difference = _difference(ours.provenance, theirs.provenance, first, fields)
        if difference is not None:
            raise FsckitError(
                f"{path}: shards have mixed provenance: {difference}; run "
                f"{command_for(path, ' --overwrite')} to remake them all"
            )


def _checked_samples(path: DataPath, tar: DataPath) -> pa.Table:
    """A samples table, checked against its tar."""
    metadata, table = read_both(path)
    shard = metadata.shard
    refuse_changed(path, metadata, tar)
    source = CaptionSource.inside_tar(metadata.provenance.caption_source)
    index = index_tar(tar, source or CaptionSource())
    if index.digest != shard.tar_digest:
        raise FsckitError(f"{path}: {tar} has been rewritten; run {command_for(path)}")
    if source is not None and index.captions_digest != shard.captions_digest:
        _name_changed_caption(path, table, tar, index)
    return table


def _name_changed_caption(path: DataPath, table: pa.Table, tar: DataPath, index: TarIndex) -> None:
    """Raise FsckitError with the first sample whose caption differs from the table's."""
    actual = {
        (sample.key, i): caption_hash(caption)
        for sample in index.samples
        for i, caption in sample.captions
    }
    columns = (table[name].to_pylist() for name in ("key", "caption_index", "caption_hash"))
    changed = (key for key, i, hash_ in zip(*columns, strict=True) if actual.get((key, i)) != hash_)
    raise FsckitError(
        f"{path}: the caption hash of sample '{printable(next(changed, '?'))}' does not match "
        f"{tar}: the tar has changed; run {command_for(path)}"
    )


def _checked_negatives(path: DataPath, samples: pa.Table) -> pa.Table:
    """A shard's negatives, after checking that each has a samples row with the same caption."""
    negatives = read_table(path)
    keys = ["key", "caption_index", "caption_hash"]
    orphans = negatives.select(keys).join(samples.select(keys), keys=keys, join_type="left anti")
    if orphans.num_rows:
        key = printable(orphans["key"][0].as_py())
        raise FsckitError(
            f"{path}: the negatives of sample '{key}' were made from a caption that is not in the "
            f"samples table; run {command_for(path, ' --overwrite')}"
        )
    return negatives


def check_unique(data: DataPath, samples: list[pa.Table]) -> None:
    """Raise FsckitError if a (key, caption_index) occurs twice in the data set."""
    rows = pa.concat_tables([t.select(["key", "caption_index"]) for t in samples])
    counts = rows.group_by(["key", "caption_index"]).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if twice.num_rows:
        key = printable(twice["key"][0].as_py())
        raise FsckitError(
            f"{data}: the key '{key}' occurs in two tars; keys must be unique, so repack the tars"
        )
