"""Rows of samples and negatives as the Arrow tables of the contract."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fscdata.contract import TarIndex, caption_hash, negatives_schema, samples_schema
from fscdata.contract.schema import EDITS, TOKEN_IDS
from fscdata.negatives.style import Negative
from fscdata.tokenizer import ClipTokenizer

# key, caption_index, caption_hash, variant, negative
Row = tuple[str, int, int, int, Negative]


def _token_ids(texts: list[str], tokenizer: ClipTokenizer | None) -> pa.Array:
    if tokenizer is None:
        return pa.nulls(len(texts), TOKEN_IDS)
    ids = [tokenizer(text) for text in texts]
    offsets = _offsets(ids)
    values = np.fromiter(chain.from_iterable(ids), np.uint16, count=int(offsets[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _edits(negatives: list[Negative]) -> pa.Array:
    """Column by column: an array of dictionaries takes five times as long."""
    flat = [edit for negative in negatives for edit in negative.edits]
    fields = list(EDITS.value_type)
    columns = zip(*flat, strict=True) if flat else [()] * len(fields)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)]
    offsets = pa.array(_offsets([negative.edits for negative in negatives]))
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=fields))


def _offsets(lists: Sequence[Sized]) -> NDArray[np.int32]:
    """Where each list begins in all of them joined, and where the last ends: [n + 1]."""
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(item) for item in lists], out=offsets[1:])
    return offsets


def samples_table(index: TarIndex, tokenizer: ClipTokenizer | None) -> pa.Table:
    """The samples table of a tar."""
    rows = [
        (s.key, i, text, caption_hash(text), s.image_ext, s.image_offset, s.image_size)
        for s in index.samples
        for i, text in s.captions
    ]
    schema = samples_schema()
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    arrays = [pa.array(c, f.type) for c, f in zip(columns, list(schema)[:7], strict=True)]
    token_ids = _token_ids([row[2] for row in rows], tokenizer)
    return pa.Table.from_arrays([*arrays, token_ids], schema=schema)


def negatives_table(rows: list[Row], tokenizer: ClipTokenizer | None) -> pa.Table:
    """The negatives table of a style and a tar."""
    schema = negatives_schema()
    negatives = [row[4] for row in rows]
    columns = [
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
        [negative.text for negative in negatives],
        [negative.operator for negative in negatives],
        [negative.relation for negative in negatives],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, list(schema)[:7], strict=True)]
    token_ids = _token_ids([negative.text for negative in negatives], tokenizer)
    return pa.Table.from_arrays([*arrays, _edits(negatives), token_ids], schema=schema)
