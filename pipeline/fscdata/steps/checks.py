"""Checks the footer and rows of one shard of a table against its tar.

Each function returns short sentences, one per kind of problem, with a count and the first key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fscdata.base.paths import DataPath, size_of
from fscdata.contract import CLIP_BPE, SAMPLES, Metadata, Provenance, ShardRecord, TarIndex
from fscdata.negatives.style import Edit, apply_edits
from fscdata.steps.to_arrow import token_ids
from fscdata.tokenizer import ClipTokenizer

_ROWS = 65_536  # converted to Python objects at a time, to bound memory
_OPERATOR = {"negclip": "swap"}  # other styles' operators start with the style's name


def is_well_formed(metadata: Metadata) -> bool:
    """Whether the values have the contract's types; the JSON is untrusted."""
    made, shard = metadata.provenance, metadata.shard
    if not isinstance(shard.without, dict) or not isinstance(made.options, dict):
        return False
    counts: list[Any] = [shard.rows, shard.captions, shard.tar_size, *shard.without.values()]
    if made.table == "negatives":
        counts += [made.variants, made.style_version]
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and (made.table == SAMPLES or type(made.seed) is int)
        and made.tokenizer in (None, CLIP_BPE)
        and isinstance(made.caption_source, str)
    )


def is_table(metadata: Metadata, name: str) -> bool:
    """Whether the metadata belongs to a shard of the named table."""
    made = metadata.provenance
    expected = (SAMPLES, None) if name == SAMPLES else ("negatives", name)
    return (made.table, made.style) == expected


def metadata_problem(
    metadata: Metadata,
    name: str,
    tar: DataPath,
    index: TarIndex | None,
    reference: Provenance,
) -> str | None:
    """The first problem with a table's footer.

    Args:
        metadata: the footer.
        name: the table's name.
        tar: the shard's tar.
        index: the tar's content; None if it is unreadable, to check only the footer.
        reference: the most common provenance among the table's shards.
    """
    made, shard = metadata.provenance, metadata.shard
    if not is_table(metadata, name):
        return f"its metadata belongs to table {made.style or made.table}"
    if shard.tar != tar.name:
        return f"its metadata belongs to {shard.tar}"
    for field, value in vars(reference).items():
        if getattr(made, field) != value:
            return f"made with {field} {getattr(made, field)!r}, but other shards with {value!r}"
    if index is None:
        return None
    if (shard.tar_size, shard.tar_digest) != (size_of(tar), index.digest):
        return "the tar has changed"
    if shard.captions_digest != index.captions_digest:
        return "the captions have changed"
    return None


def samples_problems(
    table: pa.Table, shard: ShardRecord, index: TarIndex, expected: pa.Table
) -> Iterator[str]:
    """The differences between a samples table and the table expected from its tar."""
    if table.num_rows != expected.num_rows:
        yield f"{table.num_rows:,} rows, but its tar has {expected.num_rows:,} captions"
        return
    for name in table.column_names:
        rows = _differing(table[name], expected[name])
        source = "tokenizer" if name == "token_ids" else "tar"
        yield from _fault(rows, expected["key"], f"{name} differs from the {source}")
    if (shard.captions, shard.without) != (expected.num_rows, index.without):
        yield "the counts in its metadata differ from the tar"


def negatives_problems(
    table: pa.Table, metadata: Metadata, samples: pa.Table, tokenizer: ClipTokenizer | None
) -> Iterator[str]:
    """The problems with a style's negatives; `samples` is the table expected from the tar."""
    keys = table["key"]
    place = _places(table, samples)
    strays = np.flatnonzero(place < 0)
    yield from _fault(strays, keys, "its caption is not in the tar")
    if strays.size:
        return  # the other checks need a caption for each row
    made, shard = metadata.provenance, metadata.shard
    hashes = samples["caption_hash"].to_numpy()[place]
    yield from _fault(
        np.flatnonzero(table["caption_hash"].to_numpy() != hashes),
        keys,
        "caption_hash does not match the caption",
    )
    yield from _order_problems(table, place, made.variants or 0)
    yield from _text_problems(table, place, samples["caption"], tokenizer)
    yield from _operator_problems(table, made.style or "")
    having = len(np.unique(place))
    without = sum(shard.without.values())
    if shard.captions != samples.num_rows or having + without != shard.captions:
        yield (
            f"{having:,} captions with negatives and {without:,} without (per its metadata), but "
            f"its tar has {samples.num_rows:,}"
        )


def _places(table: pa.Table, samples: pa.Table) -> NDArray[np.int64]:
    """[N] the samples row of each negative's caption, or -1."""
    names, known = (
        pc.binary_join_element_wise(t["key"], pc.cast(t["caption_index"], pa.string()), "\0")
        for t in (table, samples)
    )
    found: NDArray[np.int64] = (
        pc.cast(pc.index_in(names, value_set=known), pa.int64()).fill_null(-1).to_numpy()
    )
    return found


def _order_problems(table: pa.Table, place: NDArray[np.int64], most: int) -> Iterator[str]:
    """Rows must follow tar order, and each caption's variants must be 0, 1, 2, …"""
    keys = table["key"]
    earlier = np.flatnonzero(place[1:] < place[:-1]) + 1
    yield from _fault(earlier, keys, "not in tar order")
    row = np.arange(len(place))
    starts = np.append(True, place[1:] != place[:-1])[: len(place)]
    first = np.maximum.accumulate(np.where(starts, row, 0))  # [N] first row of the caption
    variant = table["variant"].to_numpy()
    rows = np.flatnonzero(variant != row - first)
    yield from _fault(rows, keys, "the caption's variants are not 0, 1, 2, …")
    yield from _fault(np.flatnonzero(variant >= most), keys, f"more than {most} variants")


def _text_problems(
    table: pa.Table,
    place: NDArray[np.int64],
    captions: pa.ChunkedArray,
    tokenizer: ClipTokenizer | None,
) -> Iterator[str]:
    """A negative must differ from its caption and from other variants, and match its edits and
    token ids."""
    keys, negatives = table["key"], table["negative"]
    same = pc.equal(negatives, captions.take(pa.array(place))).to_numpy()
    yield from _fault(np.flatnonzero(same), keys, "the negative equals the caption")
    codes = negatives.combine_chunks().dictionary_encode().indices.to_numpy()
    pairs = place * (len(codes) + 1) + codes
    _, first = np.unique(pairs, return_index=True)
    repeated = np.setdiff1d(np.arange(len(pairs)), first)
    yield from _fault(repeated, keys, "the negative repeats another variant")
    texts = captions.to_pylist()
    edits, ids = [], []
    for start in range(0, table.num_rows, _ROWS):
        part = table.slice(start, _ROWS)
        own = [texts[at] for at in place[start : start + _ROWS]]
        edits += [start + row for row in _wrong_edits(part, own)]
        expected = pa.chunked_array([token_ids(part["negative"].to_pylist(), tokenizer)])
        ids += [start + row for row in _differing(part["token_ids"], expected)]
    yield from _fault(edits, keys, "the edits do not turn the caption into the negative")
    yield from _fault(ids, keys, "token_ids differs from the tokenizer")


def _wrong_edits(table: pa.Table, captions: list[str]) -> list[int]:
    """The rows whose edits do not apply to the caption or do not yield the negative."""
    lists = table["edits"].combine_chunks()
    columns = (lists.flatten().field(name).to_pylist() for name in Edit._fields)
    edits = (Edit(*values) for values in zip(*columns, strict=True))
    lengths = pc.list_value_length(lists).fill_null(0).to_pylist()
    rows = zip(captions, table["negative"].to_pylist(), lengths, strict=True)
    return [
        row
        for row, (caption, negative, length) in enumerate(rows)
        if not _fit(caption, own := list(islice(edits, length)))
        or apply_edits(caption, own) != negative
    ]


def _fit(caption: str, edits: list[Edit]) -> bool:
    """Whether the edits are in order, do not overlap, and match the caption with their `old`."""
    position = 0
    for edit in edits:
        if not position <= edit.start <= edit.end <= len(caption):
            return False
        if caption[edit.start : edit.end] != edit.old:
            return False
        position = edit.end
    return True


def _operator_problems(table: pa.Table, style: str) -> Iterator[str]:
    """Operators must start with the style's prefix: "swap:noun", "shuffle:2"."""
    name, _, argument = style.partition("-")
    prefix = _OPERATOR.get(name, name) + (f":{argument}" if argument else "")
    operators = table["operator"]
    foreign = [
        operator
        for operator in pc.unique(operators).to_pylist()
        if operator != prefix and not operator.startswith(f"{prefix}:")
    ]
    rows = np.flatnonzero(pc.is_in(operators, pa.array(foreign, pa.string())).to_numpy())
    yield from _fault(rows, table["key"], f"the operator does not start with '{prefix}'")


def _differing(column: pa.ChunkedArray, expected: pa.ChunkedArray) -> list[int]:
    """The rows where two columns of equal length differ."""
    if column.equals(expected):
        return []
    pairs = zip(column.to_pylist(), expected.to_pylist(), strict=True)
    return [row for row, (value, other) in enumerate(pairs) if value != other]


def _fault(
    rows: Sequence[int] | NDArray[np.int64], keys: pa.ChunkedArray, what: str
) -> Iterable[str]:
    """A sentence about the rows; empty if there are none."""
    if len(rows) == 0:
        return []
    key = keys[int(rows[0])].as_py()
    return [f"{what}: {len(rows):,} of {len(keys):,} rows, first key '{key}'"]
