"""Arrow schemas of the tables and the provenance that each Parquet file carries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = 1
CLIP_BPE = "clip-bpe"  # the tokenizer whose ids the tables hold

TOKEN_IDS = pa.list_(pa.uint16())
EDITS = pa.list_(
    pa.struct(
        [
            pa.field("start", pa.int32(), nullable=False),
            pa.field("end", pa.int32(), nullable=False),
            pa.field("old", pa.string(), nullable=False),
            pa.field("new", pa.string(), nullable=False),
        ]
    )
)


def caption_hash(caption: str) -> int:
    """The caption's identity, uint64: BLAKE2b-64 of its UTF-8 bytes, little-endian."""
    return int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=8).digest(), "little")


def samples_schema() -> pa.Schema:
    """One row a caption, in the order of the tar; `image_*` is the byte range inside the tar."""
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("caption_index", pa.int16(), nullable=False),
            pa.field("caption", pa.string(), nullable=False),
            pa.field("caption_hash", pa.uint64(), nullable=False),
            pa.field("image_ext", pa.string(), nullable=False),
            pa.field("image_offset", pa.int64(), nullable=False),
            pa.field("image_size", pa.int64(), nullable=False),
            pa.field("token_ids", TOKEN_IDS),
        ]
    )


def negatives_schema() -> pa.Schema:
    """One row a negative, in the order of the tar, then caption_index, then variant.

    `edits` are replacements of caption[start:end] (characters) by `new`, left to right; applied
    together they turn the caption into the negative.
    """
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("caption_index", pa.int16(), nullable=False),
            pa.field("caption_hash", pa.uint64(), nullable=False),
            pa.field("variant", pa.int8(), nullable=False),
            pa.field("negative", pa.string(), nullable=False),
            pa.field("operator", pa.string(), nullable=False),
            pa.field("relation", pa.string()),
            pa.field("edits", EDITS),
            pa.field("token_ids", TOKEN_IDS),
        ]
    )


@dataclass(frozen=True)
class Provenance:
    """How a table was made: what must be equal in all of its shards."""

    table: Literal["samples", "negatives"]
    caption_source: str
    tokenizer: str | None
    style: str | None = None
    style_version: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    variants: int | None = None
    spacy_version: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_digest: str | None = None
    lexicon_digest: str | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class ShardRecord:
    """What one shard of a table holds and which tar it belongs to.

    `without` counts captions that got no negative (a negatives table) or items of the tar that
    got no row (the samples table), by named reason.
    """

    tar: str
    tar_size: int
    tar_digest: str
    captions_digest: str
    rows: int
    captions: int
    without: dict[str, int] = field(default_factory=dict)
