"""What is wrong with a table of one shard: its footer, its rows, against the tar they came from.

Every function gives short sentences, one for each kind of fault, with a count and the first key.
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
from fscdata.contract import CLIP_BPE, Metadata, Provenance, ShardRecord, TarIndex
from fscdata.negatives.style import Edit, apply_edits
from fscdata.steps.tables import token_ids
from fscdata.tokenizer import ClipTokenizer

_ROWS = 65_536  # as Python objects at a time
_OPERATOR = {"negclip": "swap"}  # of the other styles the operator begins with the style's name


def is_well_formed(metadata: Metadata) -> bool:
    """Whether the values have the types that the contract gives them: they are JSON of anyone."""
    made, shard = metadata.provenance, metadata.shard
    if not isinstance(shard.without, dict) or not isinstance(made.options, dict):
        return False
    counts: list[Any] = [shard.rows, shard.captions, shard.tar_size, *shard.without.values()]
    if made.table == "negatives":
        counts += [made.variants, made.style_version]
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and (made.table == "samples" or type(made.seed) is int)
        and made.tokenizer in (None, CLIP_BPE)
        and isinstance(made.caption_source, str)
    )


def belongs(metadata: Metadata, style: str | None) -> bool:
    """Whether a table in the folder of a style (None: of the samples) says that it is one."""
    made = metadata.provenance
    return (made.table, made.style) == ("samples" if style is None else "negatives", style)


def metadata_problem(
    metadata: Metadata,
    style: str | None,
    tar: DataPath,
    index: TarIndex | None,
    reference: Provenance,
) -> str | None:
    """What is wrong with a table's footer; `reference` is how most of its siblings were made.

    With no `index` (the tar cannot be read) nothing is said of the tar's content.
    """
    made, shard = metadata.provenance, metadata.shard
    if not belongs(metadata, style):
        return f"its metadata is that of a table of {made.style or made.table}"
    if shard.tar != tar.name:
        return f"its metadata is that of {shard.tar}"
    for field, value in vars(reference).items():
        if getattr(made, field) != value:
            return f"made with {field} {getattr(made, field)!r}, other shards of it with {value!r}"
    if index is None:
        return None
    if (shard.tar_size, shard.tar_digest) != (size_of(tar), index.digest):
        return "the tar changed since"
    if shard.captions_digest != index.captions_digest:
        return "the captions changed since"
    return None


def samples_problems(
    table: pa.Table, shard: ShardRecord, index: TarIndex, expected: pa.Table
) -> Iterator[str]:
    """What differs between a samples table and the one that its tar gives."""
    if table.num_rows != expected.num_rows:
        yield f"{table.num_rows:,} rows, where its tar has {expected.num_rows:,} captions"
        return
    for name in table.column_names:
        rows = _differing(table[name], expected[name])
        whose = "the tokenizer's" if name == "token_ids" else "the tar's"
        yield from _fault(rows, expected["key"], f"{name} other than {whose}")
    if (shard.captions, shard.without) != (expected.num_rows, index.without):
        yield "its metadata does not count what is in the tar"


def negatives_problems(
    table: pa.Table, metadata: Metadata, samples: pa.Table, tokenizer: ClipTokenizer | None
) -> Iterator[str]:
    """What is wrong with the negatives of a style; `samples` [S] are those that the tar gives."""
    keys = table["key"]
    place = _places(table, samples)
    strays = np.flatnonzero(place < 0)
    yield from _fault(strays, keys, "of no caption that the tar has")
    if strays.size:
        return  # the other checks need a caption a row
    made, shard = metadata.provenance, metadata.shard
    hashes = samples["caption_hash"].to_numpy()[place]
    yield from _fault(
        np.flatnonzero(table["caption_hash"].to_numpy() != hashes),
        keys,
        "caption_hash other than the caption's",
    )
    yield from _order_problems(table, place, made.variants or 0)
    yield from _text_problems(table, place, samples["caption"], tokenizer)
    yield from _operator_problems(table, made.style or "")
    having = len(np.unique(place))
    without = sum(shard.without.values())
    if shard.captions != samples.num_rows or having + without != shard.captions:
        yield (
            f"{having:,} captions with negatives and {without:,} without by its metadata, where "
            f"its tar has {samples.num_rows:,}"
        )


def _places(table: pa.Table, samples: pa.Table) -> NDArray[np.int64]:
    """The row of each negative's caption in the samples, -1 where there is none: [N]."""
    names, known = (
        pc.binary_join_element_wise(t["key"], pc.cast(t["caption_index"], pa.string()), "\0")
        for t in (table, samples)
    )
    found: NDArray[np.int64] = (
        pc.cast(pc.index_in(names, value_set=known), pa.int64()).fill_null(-1).to_numpy()
    )
    return found


def _order_problems(table: pa.Table, place: NDArray[np.int64], most: int) -> Iterator[str]:
    """Rows lie as the tar does, and the variants of each caption are 0, 1, 2, …"""
    keys = table["key"]
    earlier = np.flatnonzero(place[1:] < place[:-1]) + 1
    yield from _fault(earlier, keys, "not in the order of the tar")
    row = np.arange(len(place))
    begins = np.append(True, place[1:] != place[:-1])[: len(place)]
    first = np.maximum.accumulate(np.where(begins, row, 0))
    variant = table["variant"].to_numpy()
    rows = np.flatnonzero(variant != row - first)
    yield from _fault(rows, keys, "variants of a caption are not 0, 1, 2, …")
    yield from _fault(np.flatnonzero(variant >= most), keys, f"more than {most} variants")


def _text_problems(
    table: pa.Table,
    place: NDArray[np.int64],
    captions: pa.ChunkedArray,
    tokenizer: ClipTokenizer | None,
) -> Iterator[str]:
    """Each negative is new, what its edits make of the caption, and has the ids of its text."""
    keys, negatives = table["key"], table["negative"]
    same = pc.equal(negatives, captions.take(pa.array(place))).to_numpy()
    yield from _fault(np.flatnonzero(same), keys, "the negative is the caption")
    codes = negatives.combine_chunks().dictionary_encode().indices.to_numpy()
    pairs = place * (len(codes) + 1) + codes
    _, first = np.unique(pairs, return_index=True)
    again = np.setdiff1d(np.arange(len(pairs)), first)
    yield from _fault(again, keys, "the negative is that of another variant")
    texts = captions.to_pylist()
    edits, ids = [], []
    for start in range(0, table.num_rows, _ROWS):
        part = table.slice(start, _ROWS)
        own = [texts[at] for at in place[start : start + _ROWS]]
        edits += [start + row for row in _wrong_edits(part, own)]
        expected = pa.chunked_array([token_ids(part["negative"].to_pylist(), tokenizer)])
        ids += [start + row for row in _differing(part["token_ids"], expected)]
    yield from _fault(edits, keys, "the edits do not turn the caption into the negative")
    yield from _fault(ids, keys, "token_ids other than the tokenizer's")


def _wrong_edits(table: pa.Table, captions: list[str]) -> list[int]:
    """The rows whose edits do not fit their caption or do not make the negative of it."""
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
    """Whether the edits stand in order, do not overlap, and name what the caption reads there."""
    position = 0
    for edit in edits:
        if not position <= edit.start <= edit.end <= len(caption):
            return False
        if caption[edit.start : edit.end] != edit.old:
            return False
        position = edit.end
    return True


def _operator_problems(table: pa.Table, style: str) -> Iterator[str]:
    name, _, argument = style.partition("-")
    begin = _OPERATOR.get(name, name) + (f":{argument}" if argument else "")
    operators = table["operator"]
    foreign = [
        o for o in pc.unique(operators).to_pylist() if o != begin and not o.startswith(f"{begin}:")
    ]
    rows = np.flatnonzero(pc.is_in(operators, pa.array(foreign, pa.string())).to_numpy())
    yield from _fault(rows, table["key"], f"an operator that is not '{begin}', as of its style")


def _differing(column: pa.ChunkedArray, expected: pa.ChunkedArray) -> list[int]:
    """The rows where two columns of one length differ."""
    if column.equals(expected):
        return []
    pairs = zip(column.to_pylist(), expected.to_pylist(), strict=True)
    return [row for row, (value, other) in enumerate(pairs) if value != other]


def _fault(
    rows: Sequence[int] | NDArray[np.int64], keys: pa.ChunkedArray, what: str
) -> Iterable[str]:
    """The sentence about these rows, or nothing where there are none."""
    if len(rows) == 0:
        return []
    key = keys[int(rows[0])].as_py()
    return [f"{what}: {len(rows):,} of {len(keys):,} rows, first of key '{key}'"]
