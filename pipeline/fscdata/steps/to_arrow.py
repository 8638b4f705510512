"""Samples and negatives as Arrow tables with the contract's schemas."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fscdata.contract import TarIndex, caption_hash, negatives_schema, samples_schema
from fscdata.contract.schema import EDITS, TOKEN_IDS
from fscdata.negatives.style import Edit, Negative
from fscdata.tokenizer import ClipTokenizer

# key, caption_index, caption_hash, variant, negative
Row = tuple[str, int, int, int, Negative]


def samples_table(index: TarIndex, tokenizer: ClipTokenizer | None) -> pa.Table:
    """The samples table of a tar."""
    rows = [
        (s.key, i, text, caption_hash(text), s.image_ext, s.image_offset, s.image_size)
        for s in index.samples
        for i, text in s.captions
    ]
    schema = samples_schema()
    arrays = _columns(rows, list(schema)[:7])
    return pa.Table.from_arrays(
        [*arrays, token_ids([row[2] for row in rows], tokenizer)], schema=schema
    )


def negatives_table(rows: list[Row], tokenizer: ClipTokenizer | None) -> pa.Table:
    """The negatives table of a style and a tar."""
    schema = negatives_schema()
    keys, indexes, hashes, variants, negatives = zip(*rows, strict=True) if rows else [()] * 5
    texts, operators, edits, relations = zip(*negatives, strict=True) if rows else [()] * 4
    columns = [keys, indexes, hashes, variants, texts, operators, relations]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, list(schema)[:7], strict=True)]
    return pa.Table.from_arrays(
        [*arrays, _edits(edits), token_ids(texts, tokenizer)], schema=schema
    )


def token_ids(texts: Sequence[str], tokenizer: ClipTokenizer | None) -> pa.Array:
    """The token_ids column of the texts; nulls without a tokenizer."""
    if tokenizer is None:
        return pa.nulls(len(texts), TOKEN_IDS)
    ids, offsets = tokenizer.batch(texts)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))


def _edits(edits: Sequence[list[Edit]]) -> pa.Array:
    """The edits column, built field by field; dictionaries would take five times as long."""
    columns = _columns(list(chain.from_iterable(edits)), list(EDITS.value_type))
    structs = pa.StructArray.from_arrays(columns, fields=list(EDITS.value_type))
    return pa.ListArray.from_arrays(_offsets(edits), structs)


def _offsets(lists: Sequence[Sized]) -> NDArray[np.int32]:
    """[N + 1] start of each list in the concatenation of all N, then its total length."""
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(item) for item in lists], out=offsets[1:])
    return offsets


def _columns(rows: Sequence[tuple[Any, ...]], fields: list[pa.Field]) -> list[pa.Array]:
    columns = zip(*rows, strict=True) if rows else [()] * len(fields)
    return [pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)]
